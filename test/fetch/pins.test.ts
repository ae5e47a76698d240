import { copyFile, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { LocalCache } from '../../src/fetch/local-cache.js';
import { entryPath } from '../../src/fetch/local-cache/layout.js';
import { decodePinFile, encodePinFile } from '../../src/fetch/local-cache/pin-file.js';
import { sweepCache } from '../../src/fetch/local-cache/sweep.js';
import {
  CachePinsFull,
  createFetcher,
  evictCache,
  listPins,
  movePin,
  pinBlobs,
  pinnedBytes,
  removeDamagedPins,
  unpinBlobs,
  type Fetcher,
  type PinResult,
} from '../../src/fetch/index.js';
import type { BlobId, BlobReference } from '../../src/repo/index.js';
import { lockFile } from '../../src/system/index.js';
import {
  InlineCodec,
  ManualClock,
  packIdOf,
  putChunks,
  repositoryId,
  ScriptedStore,
  sealBlob,
  contentOf,
} from './support.js';

/** What an entry of these tests takes on disk. */
const entryBytes = 8192;

async function openCache(
  t: Test,
  localCacheBytes: number | (() => number) = 1e9,
): Promise<{ readonly cachePath: string; readonly fetcher: Fetcher; readonly references: BlobReference[] }> {
  const directory = await mkdtemp(join(tmpdir(), 'isr-pins-'));
  const cachePath = join(directory, 'cache');
  const store = new ScriptedStore();
  const fetcher = await createFetcher({
    repository: { store, codec: new InlineCodec() },
    ...{ cachePath, localCacheBytes, repositoryId, memoryCacheBytes: 0, chunkBytes: 4096 },
  });
  t.teardown(async () => {
    await fetcher[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  });
  const references = (await putChunks(store, 1, 20)).map(({ reference }) => reference);
  return { cachePath, fetcher, references };
}

function pin(
  cachePath: string,
  vmName: string,
  references: readonly BlobReference[],
  more: { readonly version?: string; readonly ofVersion?: string; readonly limitBytes?: number } = {},
): Promise<PinResult> {
  return pinBlobs({
    cachePath,
    limitBytes: more.limitBytes ?? 1e9,
    name: { repositoryId, vmName, version: more.version },
    ofVersion: more.ofVersion ?? '1',
    blobs: references.map((reference) => ({ reference, kind: 'chunk' })),
  });
}

function isHere(cachePath: string, references: readonly BlobReference[]): boolean[] {
  return references.map(({ id }) => existsSync(entryPath(cachePath, id, 'chunk')));
}

t.test('eviction leaves alone what is pinned, until it is unpinned', async (t) => {
  const { cachePath, fetcher, references } = await openCache(t);
  const pinned = references.slice(0, 6);
  await fetcher.warmChunks(references.slice(0, 10), { fetchClass: 'background' });
  t.match(await pin(cachePath, 'web', pinned), {
    pin: { vmName: 'web', ofVersion: '1', entries: 6, bytes: 6 * entryBytes },
    pinnedBytes: 6 * entryBytes,
  });
  t.match(evictCache(cachePath, 0), {
    outcome: 'swept',
    totalBytes: 6 * entryBytes,
    pinnedBytes: 6 * entryBytes,
    evictedEntries: 4,
  });
  t.ok(isHere(cachePath, pinned).every(Boolean));
  t.match(await listPins(cachePath), [{ vmName: 'web', localEntries: 6, localBytes: 6 * entryBytes }]);

  t.match(await unpinBlobs(cachePath, ({ vmName }) => vmName === 'web'), [{ vmName: 'web' }]);
  t.strictSame(await listPins(cachePath), []);
  t.ok(isHere(cachePath, pinned).every(Boolean), 'unpinning deletes nothing');
  t.match(evictCache(cachePath, 0), { totalBytes: 0, evictedEntries: 6 });
});

t.test('a pin that somebody lets go of while it moves is gone', async (t) => {
  const { cachePath, references } = await openCache(t);
  await pin(cachePath, 'web', references.slice(0, 3));
  const moving = movePin({
    ...{ cachePath, limitBytes: 1e9, name: { repositoryId, vmName: 'web', version: undefined } },
    ofVersion: '2',
    blobs: (async function* () {
      for (const reference of references.slice(0, 4)) yield { reference, kind: 'chunk' as const };
      await unpinBlobs(cachePath, ({ vmName }) => vmName === 'web');
    })(),
  });
  t.equal(await moving, undefined);
  t.strictSame(await listPins(cachePath), []);

  await pin(cachePath, 'web', references.slice(0, 3));
  const blobs = references.slice(0, 4).map((reference) => ({ reference, kind: 'chunk' as const }));
  const name = { repositoryId, vmName: 'web', version: undefined };
  const moved = await movePin({ cachePath, limitBytes: 1e9, name, ofVersion: '2', blobs });
  t.match(moved, { pin: { ofVersion: '2', entries: 3 } }, 'what it kept, and nothing that is not here');
});

t.test('what comes after it was pinned is kept too', async (t) => {
  const { cachePath, fetcher, references } = await openCache(t);
  await pin(cachePath, 'web', references.slice(0, 3));
  t.match(await listPins(cachePath), [{ entries: 3, localEntries: 0 }]);
  await fetcher.warmChunks(references.slice(0, 5), { fetchClass: 'background' });
  evictCache(cachePath, 0);
  t.strictSame(isHere(cachePath, references.slice(0, 5)), [true, true, true, false, false]);
});

t.test('a pin adds to that of the same version, and replaces that of another', async (t) => {
  const { cachePath, references } = await openCache(t);
  await pin(cachePath, 'web', references.slice(0, 3));
  t.match(await pin(cachePath, 'web', references.slice(2, 5)), { pin: { entries: 5 } });
  await pin(cachePath, 'web', references.slice(0, 2), { version: '1' });
  t.match(await pin(cachePath, 'web', references.slice(9, 10), { ofVersion: '2' }), {
    pin: { ofVersion: '2', entries: 1 },
    pinnedBytes: 3 * entryBytes,
  });
  t.match(await pin(cachePath, 'db', references.slice(0, 2)), { pinnedBytes: 3 * entryBytes }, 'shared');
  t.match(
    (await listPins(cachePath)).map(({ vmName, ofVersion, version }) => [vmName, ofVersion, version]),
    [
      ['db', '1', undefined],
      ['web', '1', '1'],
      ['web', '2', undefined],
    ],
  );
});

t.test('pins take three quarters of the limit at most; a pin that is refused changes nothing', async (t) => {
  const { cachePath, references } = await openCache(t);
  const limitBytes = 8 * entryBytes;
  await pin(cachePath, 'web', references.slice(0, 6), { limitBytes });
  await t.rejects(pin(cachePath, 'db', references.slice(6, 7), { limitBytes }), {
    code: 'CACHE_PINS_FULL',
    facts: { wantedBytes: 7 * entryBytes, maxBytes: 6 * entryBytes },
  });
  await t.rejects(pin(cachePath, 'web', references, { limitBytes, ofVersion: '2' }), CachePinsFull);
  t.equal(pinnedBytes(cachePath), 6 * entryBytes);
  await pin(cachePath, 'web', references.slice(9, 15), { limitBytes, ofVersion: '2' });
});

t.test(
  'with pins beyond the limit, what is not pinned still has its quarter, and is not swept without end',
  async (t) => {
    const limitBytes = 8 * entryBytes;
    const { cachePath, fetcher, references } = await openCache(t, limitBytes);
    await pin(cachePath, 'web', references.slice(0, 12));
    await fetcher.warmChunks(references, { fetchClass: 'background' });
    t.match(sweepCache({ cachePath, limitBytes, now: Date.now() }), {
      totalBytes: 13 * entryBytes,
      pinnedBytes: 12 * entryBytes,
    });
    const before = fetcher.status().localCache.evictedEntries;
    const more = references.slice(12).filter((_, index) => !isHere(cachePath, references.slice(12))[index]);
    await fetcher.warmChunks(more.slice(0, 1), { fetchClass: 'background' });
    t.equal(fetcher.status().localCache.evictedEntries, before, 'within its quarter');
    t.ok(isHere(cachePath, references.slice(0, 12)).every(Boolean));
  },
);

t.test('pins and sweeps wait for each other', async (t) => {
  const { cachePath, references } = await openCache(t);
  const sweep = lockFile(join(cachePath, 'lock'));
  const pinning = pin(cachePath, 'web', references.slice(0, 1));
  await new Promise((resolve) => setTimeout(resolve, 120));
  t.strictSame(await listPins(cachePath), []);
  sweep?.release();
  await pinning;
  t.equal((await listPins(cachePath)).length, 1);

  const other = lockFile(join(cachePath, 'lock'));
  const abort = new AbortController();
  const waiting = unpinBlobs(cachePath, () => true, { signal: abort.signal });
  abort.abort();
  await t.rejects(waiting, { code: 'CANCELLED' });
  other?.release();
});

t.test('a damaged pin keeps nothing, and verifying removes it', async (t) => {
  const { cachePath, references } = await openCache(t);
  await pin(cachePath, 'web', references.slice(0, 2));
  const [name = ''] = await readdir(join(cachePath, 'pins'));
  await writeFile(join(cachePath, 'pins', 'ab'.repeat(16)), '{"format":1}\nxx');
  // Of a process that was killed before its pin counted.
  await copyFile(join(cachePath, 'pins', name), join(cachePath, 'pins', `${name}.0123.tmp`));
  t.equal((await listPins(cachePath)).length, 1);
  t.match(await listPins(cachePath), [{ vmName: 'web' }]);
  t.equal(await removeDamagedPins(cachePath), 2);
  t.equal((await readdir(join(cachePath, 'pins'))).length, 1);
});

t.test('the file of a pin reads back, and nothing else is one', async (t) => {
  const id = fc
    .uint8Array({ minLength: 16, maxLength: 16 })
    .map((bytes) => Buffer.from(bytes).toString('hex') as BlobId);
  const name = fc.tuple(id, fc.constantFrom('chunk', 'map-node', 'manifest')).map((parts) => parts.join('.'));
  fc.assert(
    fc.property(
      fc.array(fc.tuple(name, fc.nat({ max: 2 ** 32 - 1 }))),
      fc.record({
        vmName: fc.string(),
        version: fc.option(fc.string(), { nil: undefined }),
        ofVersion: fc.string(),
      }),
      fc.nat(),
      (list, names, cut) => {
        const entries = new Map(list);
        const about = { ...names, repositoryId, pinnedAt: new Date(1e12), entries: entries.size, bytes: 0 };
        const file = Buffer.from(encodePinFile({ pin: about, entries }));
        const decoded = decodePinFile(file);
        t.strictSame(decoded?.entries, entries);
        t.match(decoded?.pin, { ...names, repositoryId, entries: entries.size });
        t.equal(decodePinFile(file.subarray(0, cut % file.length)), undefined);
      },
    ),
    { numRuns: 200 },
  );
});

t.test('a limit that changes is obeyed by a cache that is open', async (t) => {
  const directory = t.testdir();
  let limitBytes = 4096;
  const cache = await LocalCache.open({
    ...{ path: directory, repositoryId, clock: new ManualClock(), limitBytes: () => limitBytes },
  });
  t.teardown(() => cache[Symbol.asyncDispose]());
  const blobs = Array.from({ length: 10 }, (_, number) =>
    sealBlob(contentOf(number, 5000), { packId: packIdOf(1), counter: number + 1, offsetBytes: 28 }),
  );
  const put = async (count: number): Promise<number> => {
    let kept = 0;
    for (const { reference, kind, sealed } of blobs.slice(0, count)) {
      if (await cache.put(reference, kind, sealed)) kept += 1;
      await cache.settled();
    }
    return kept;
  };
  t.equal(await put(2), 0, 'no entry fits');
  limitBytes = 1e6;
  t.equal(await put(8), 8);
  t.equal(cache.status().limitBytes, 1e6);
  limitBytes = 4 * 8192;
  await put(10);
  t.ok((cache.status().usedBytes ?? 0) <= limitBytes);
  t.ok(cache.status().evictedEntries >= 6);
});
