import { mkdtemp, rm, truncate, writeFile, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { limits } from '../../src/base/index.js';
import { createFetcher, type BaseFile, type Fetcher } from '../../src/fetch/index.js';
import {
  directorySource,
  loadManifest,
  publishVersion,
  Repository,
  type Manifest,
} from '../../src/repo/index.js';
import { contentOf, sameBytes, ScriptedStore, until } from './support.js';

const demand = { fetchClass: 'demand' } as const;
/** Like demand, but nothing is fetched ahead of it. */
const replay = { fetchClass: 'replay' } as const;
const background = { fetchClass: 'background' } as const;
const chunkBytes = 16 * 1024;
const host = { hostId: 'a'.repeat(32), hostName: 'here' };

/** Files of 40 chunks and a bit, of 1200 chunks with two islands of data, of nothing, and one that is all zero. */
const diskBytes = 40 * chunkBytes + 777;
const sparseBytes = 1200 * chunkBytes;

interface World {
  readonly store: ScriptedStore;
  readonly repository: Repository;
  readonly fetcher: Fetcher;
  readonly file: (name: string) => BaseFile;
  readonly disk: Uint8Array;
  readonly sparse: Uint8Array;
  readonly openFetcher: (
    cacheName: string,
    memoryCacheBytes?: number,
    betweenDemands?: boolean,
  ) => Promise<Fetcher>;
  readonly manifest: Manifest;
}

async function publishWorld(t: Test): Promise<World> {
  const directory = await mkdtemp(join(tmpdir(), 'isr-base-file-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  const store = new ScriptedStore();
  const { repository } = await Repository.create(store, { chunkBytes, codecThreads: 1 });
  t.teardown(() => repository[Symbol.asyncDispose]());

  const source = await mkdtemp(join(directory, 'vm-'));
  const disk = contentOf(1, diskBytes);
  disk.fill(0, 5 * chunkBytes, 9 * chunkBytes);
  await writeFile(join(source, 'disk'), disk);
  const sparse = new Uint8Array(sparseBytes);
  for (const chunk of [3, 4, 5, 1100]) sparse.set(contentOf(chunk, chunkBytes), chunk * chunkBytes);
  const handle = await open(join(source, 'sparse'), 'w');
  await handle.write(sparse.subarray(0, 6 * chunkBytes), 0, 6 * chunkBytes, 0);
  await handle.write(sparse, 1100 * chunkBytes, chunkBytes, 1100 * chunkBytes);
  await handle.close();
  await truncate(join(source, 'sparse'), sparseBytes);
  await writeFile(join(source, 'empty'), '');
  await writeFile(join(source, 'zeros'), new Uint8Array(3 * chunkBytes));

  const publishSource = await directorySource(source, { chunkBytes });
  const published = await publishVersion({
    repository,
    vmName: 'guest',
    mountPath: '/vm/guest',
    source: publishSource,
    parent: undefined,
    lease: undefined,
    host,
    reader: repository.blobs,
  });
  await publishSource[Symbol.asyncDispose]();
  if (published.outcome !== 'published') throw new Error(published.outcome);

  const openFetcher = async (
    cacheName: string,
    memoryCacheBytes = 1e8,
    betweenDemands = true,
  ): Promise<Fetcher> => {
    const opened = await createFetcher({
      betweenDemands,
      repository,
      cachePath: join(directory, cacheName),
      repositoryId: repository.header.repositoryId,
      localCacheBytes: 1e9,
      memoryCacheBytes,
      chunkBytes,
    });
    t.teardown(() => opened[Symbol.asyncDispose]());
    return opened;
  };
  const fetcher = await openFetcher('cache');
  const manifest = await loadManifest(published.commit.manifest, fetcher);
  store.gets.length = 0;
  return {
    store,
    repository,
    fetcher,
    disk,
    sparse,
    openFetcher,
    manifest,
    file: (name) => openFrom(fetcher, manifest, name),
  };
}

function openFrom(fetcher: Fetcher, manifest: Manifest, name: string): BaseFile {
  const root = manifest.inodes.get(1);
  const number = root?.kind === 'directory' ? root.entries.get(name) : undefined;
  const inode = number === undefined ? undefined : manifest.inodes.get(number);
  if (inode?.kind !== 'file') throw new Error(`no file ${name}`);
  return fetcher.openFile(inode.content);
}

/** What a plain file of this content would give, and zeros after its end. */
function expected(content: Uint8Array, offsetBytes: number, lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  bytes.set(content.subarray(Math.min(offsetBytes, content.length), offsetBytes + lengthBytes));
  return bytes;
}

/** A buffer in which a byte that was not written shows. */
function dirtyBuffer(lengthBytes: number): Uint8Array {
  return new Uint8Array(lengthBytes).fill(0xa5);
}

t.test('any range of any file reads as it was published, with promises and without', async (t) => {
  const world = await publishWorld(t);
  const contents = {
    disk: world.disk,
    sparse: world.sparse,
    empty: new Uint8Array(0),
    zeros: new Uint8Array(3 * chunkBytes),
  };
  const names = Object.keys(contents) as (keyof typeof contents)[];
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...names),
      fc.nat({ max: 1_100_000 }),
      fc.oneof(fc.nat({ max: 5000 }), fc.nat({ max: 10 * chunkBytes })),
      async (name, millionth, lengthBytes) => {
        const file = world.file(name);
        const offsetBytes = Math.floor((millionth * contents[name].length) / 1e6);
        const wanted = expected(contents[name], offsetBytes, lengthBytes);
        const before = dirtyBuffer(lengthBytes);
        if (file.readSync(offsetBytes, before) && !sameBytes(before, wanted))
          throw new Error('wrong at once');
        const into = dirtyBuffer(lengthBytes);
        await file.read(offsetBytes, into, demand);
        if (!sameBytes(into, wanted)) throw new Error('wrong');
        const again = dirtyBuffer(lengthBytes);
        if (!file.readSync(offsetBytes, again)) throw new Error('not in memory after a read');
        if (!sameBytes(again, wanted)) throw new Error('wrong from memory');
        if (!file.isLocal(offsetBytes, lengthBytes)) throw new Error('not local after a read');
      },
    ),
    { numRuns: 150 },
  );
  t.equal(world.fetcher.status().errors, 0);
});

t.test('zeros and what lies past the end need no store, not even for a map', async (t) => {
  const world = await publishWorld(t);
  for (const [name, offsetBytes] of [
    ['zeros', 0],
    ['empty', 0],
    ['disk', 41 * chunkBytes],
    ['sparse', 2 ** 45],
  ] as const) {
    const into = dirtyBuffer(3 * chunkBytes);
    t.equal(world.file(name).isLocal(offsetBytes, into.length), true, name);
    t.equal(world.file(name).readSync(offsetBytes, into), true, name);
    t.ok(sameBytes(into, new Uint8Array(into.length)), name);
  }
  t.equal(world.store.gets.length, 0);
});

t.test('data and holes are found by chunks, without reading one', async (t) => {
  const world = await publishWorld(t);
  const sparse = world.file('sparse');
  const end = sparseBytes + 5 * chunkBytes;
  t.equal(sparse.findSync('data', 0, end), undefined, 'the map is not in memory');
  t.equal(await sparse.find('data', 7, end, demand), 3 * chunkBytes);
  t.equal(sparse.findSync('data', 3 * chunkBytes + 7, end), 3 * chunkBytes + 7);
  t.equal(await sparse.find('hole', 3 * chunkBytes + 7, end, demand), 6 * chunkBytes);
  t.equal(await sparse.find('hole', 3 * chunkBytes, 4 * chunkBytes + 5, demand), 4 * chunkBytes + 5);
  t.equal(await sparse.find('data', 6 * chunkBytes, end, demand), 1100 * chunkBytes);
  t.equal(sparse.findSync('data', 1101 * chunkBytes, end), end, 'nowhere');
  t.equal(sparse.findSync('hole', 1101 * chunkBytes + 3, end), 1101 * chunkBytes + 3);
  const disk = world.file('disk');
  t.equal(await disk.find('hole', 9 * chunkBytes, diskBytes + 10, demand), diskBytes, 'its end is a hole');
  t.equal(disk.findSync('hole', 0, diskBytes), 5 * chunkBytes);
  t.equal(disk.findSync('data', 5 * chunkBytes, 8 * chunkBytes), 8 * chunkBytes);
  t.equal(world.file('zeros').findSync('data', 0, 3 * chunkBytes), 3 * chunkBytes);
  t.equal(world.file('empty').findSync('hole', 0, 100), 0);
  t.equal(world.fetcher.status().memoryHits, 0);
  const read = await world.openFetcher('other');
  const abort = new AbortController();
  world.store.hold();
  const search = openFrom(read, world.manifest, 'sparse').find('data', 0, end, {
    ...demand,
    signal: abort.signal,
  });
  await until(() => world.store.holding > 0, 'a request for the map');
  abort.abort();
  await t.rejects(search, { code: 'CANCELLED' });
  world.store.release();
});

t.test(
  'nothing is local before it was read; then also after a restart, once the map is loaded',
  async (t) => {
    const world = await publishWorld(t);
    const disk = world.file('disk');
    const into = dirtyBuffer(4096);
    t.equal(disk.readSync(0, into), false);
    t.equal(disk.isLocal(0, 4096), false);
    await disk.read(0, into, replay);
    t.equal(disk.isLocal(0, chunkBytes), true, 'the whole chunk');
    t.equal(disk.isLocal(0, chunkBytes + 1), false, 'not the next');
    await world.fetcher[Symbol.asyncDispose]();

    const restarted = await world.openFetcher('cache');
    const again = openFrom(restarted, world.manifest, 'disk');
    t.equal(again.isLocal(0, 4096), false, 'its map is not in memory');
    const requests = world.store.gets.length;
    await again.read(100, into, replay);
    t.ok(sameBytes(into, world.disk.subarray(100, 4196)));
    t.equal(world.store.gets.length, requests, 'but local');

    await again.read(0, dirtyBuffer(5 * chunkBytes), replay);
    t.equal(again.isLocal(0, 5 * chunkBytes, 0), true, 'in memory: nothing to open');
    await restarted[Symbol.asyncDispose]();
    const sealed = openFrom(await world.openFetcher('cache', 0), world.manifest, 'disk');
    await sealed.read(100, into, replay);
    t.equal(sealed.isLocal(0, 5 * chunkBytes), true);
    t.equal(sealed.isLocal(0, 5 * chunkBytes, 4 * chunkBytes), false, 'more to open than may');
    t.equal(sealed.isLocal(0, 4 * chunkBytes, 4 * chunkBytes), true);
    t.equal(sealed.isLocal(0, 2 * chunkBytes, 0), true, 'two chunks always may');
    t.equal(sealed.isLocal(4 * chunkBytes, 5 * chunkBytes, 0), true, 'zeros are not opened');
  },
);

t.test('residency counts data chunks, warming makes them local', async (t) => {
  const world = await publishWorld(t);
  const disk = world.file('disk');
  const sparse = world.file('sparse');
  t.strictSame(await world.file('zeros').residency(background), { chunks: 0, localChunks: 0 });
  t.strictSame(await sparse.residency(background), { chunks: 4, localChunks: 0 });
  t.strictSame(await disk.residency(background), { chunks: 37, localChunks: 0 });
  await disk.read(0, dirtyBuffer(2 * chunkBytes), replay);
  await until(() => world.fetcher.status().blobsInFlight === 0, 'quiet');
  t.strictSame(await disk.residency(background), { chunks: 37, localChunks: 2 });

  t.match(await disk.warm(10 * chunkBytes + 5, 3 * chunkBytes, background), { chunks: 4, fetchedChunks: 4 });
  t.strictSame(await disk.residency(background), { chunks: 37, localChunks: 6 });
  const requests = world.store.gets.length;
  t.match(await disk.warm(0, 2 * diskBytes, background), { chunks: 37 });
  t.ok(world.store.gets.length <= requests + 2, 'neighbours come together');
  t.strictSame(await disk.residency(background), { chunks: 37, localChunks: 37 });
  const into = dirtyBuffer(diskBytes);
  await disk.read(0, into, replay);
  t.ok(sameBytes(into, world.disk));
  t.equal(world.fetcher.status().fetches.replay.requests, 2, 'the first two chunks');
});

t.test('a read that fails is an error for all of it, and writes nothing more', async (t) => {
  const world = await publishWorld(t);
  const disk = world.file('disk');
  const fromChunk = 10;
  // The chunk that is read when one of the first has failed could be copied from memory.
  await disk.read((fromChunk + limits.chunksPerRead) * chunkBytes, dirtyBuffer(1), replay);
  await until(() => world.fetcher.status().blobsInFlight === 0, 'quiet');
  const before = world.store.gets.length;
  world.store.hold();
  const into = dirtyBuffer((limits.chunksPerRead + 1) * chunkBytes);
  const read = disk.read(fromChunk * chunkBytes, into, replay);
  await until(() => world.fetcher.status().blobsInFlight === limits.chunksPerRead, 'all but the last');
  await until(() => world.store.holding > 0, 'the first');
  world.store.onGet = (get, found) => {
    if (get !== world.store.gets[before]) return found;
    throw new Error('it broke');
  };
  let untouched = new Uint8Array(0);
  const failure = read.catch((error: unknown) => {
    untouched = into.slice();
    throw error;
  });
  world.store.release(1);
  await t.rejects(failure, { message: 'it broke' });
  world.store.release();
  await until(() => world.fetcher.status().blobsInFlight === 0, 'the end of the others');
  t.ok(sameBytes(into, untouched));
  await disk.read(fromChunk * chunkBytes, into, replay);
  const offsetBytes = fromChunk * chunkBytes;
  t.ok(sameBytes(into, world.disk.subarray(offsetBytes, offsetBytes + into.length)));
});

t.test('a read can be cancelled, before and while it waits', async (t) => {
  const world = await publishWorld(t);
  const disk = world.file('disk');
  world.store.hold();
  const abort = new AbortController();
  const into = dirtyBuffer(4 * chunkBytes);
  const read = disk.read(0, into, { ...replay, signal: abort.signal });
  await until(() => world.store.holding === 4, 'four chunks');
  abort.abort();
  await t.rejects(read, { code: 'CANCELLED' });
  t.equal(world.store.cancelled, 4);
  t.ok(sameBytes(into, dirtyBuffer(into.length)));
  await t.rejects(disk.read(0, into, { ...replay, signal: abort.signal }), { code: 'CANCELLED' });
  await t.rejects(disk.residency({ ...background, signal: abort.signal }), { code: 'CANCELLED' });
  await t.rejects(disk.warm(0, 1, { ...background, signal: abort.signal }), { code: 'CANCELLED' });
  world.store.release();
  await disk.read(0, into, replay);
  t.ok(sameBytes(into, world.disk.subarray(0, into.length)));
});

t.test('while demand waits for a chunk, the chunks around it come too', async (t) => {
  const world = await publishWorld(t);
  const disk = world.file('disk');
  const into = dirtyBuffer(100);
  world.store.hold();
  const read = disk.read(10 * chunkBytes, into, demand);
  await until(() => world.store.holding >= 2, 'the chunk and others');
  world.store.release();
  await read;
  t.ok(sameBytes(into, world.disk.subarray(10 * chunkBytes, 10 * chunkBytes + 100)));
  await until(() => disk.isLocal(11 * chunkBytes, chunkBytes), 'the next chunk');
  t.equal(
    world.fetcher.status().fetches.demand.requests,
    2,
    'the manifest with the map, and what was wanted',
  );
});

t.test('unless nothing is wanted between demands', async (t) => {
  const world = await publishWorld(t);
  const disk = openFrom(await world.openFetcher('exact', 1e8, false), world.manifest, 'disk');
  await disk.read(0, dirtyBuffer(1), replay);
  world.store.hold();
  const read = disk.read(10 * chunkBytes, dirtyBuffer(100), demand);
  await until(() => world.store.holding > 0, 'the chunk');
  await sleep(10 * limits.surroundings.delayMs);
  t.equal(world.store.holding, 1);
  world.store.release();
  await read;
});
