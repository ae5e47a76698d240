import fc from 'fast-check';
import assert from 'node:assert/strict';
import t, { type Test } from 'tap';
import { Cancelled, limits } from '../../src/base/index.js';
import {
  LeaseHeld,
  LeaseLost,
  loadManifest,
  packKey,
  readOnlySecrets,
  ReadOnlyKey,
  Repository,
  type BlobReference,
  type Commit,
  type FileMap,
  type PackId,
  type Published,
  type SourceFile,
  type VersionNumber,
} from '../../src/repo/index.js';
import { StoreUnreachable } from '../../src/store/index.js';
import { MemoryStore } from '../support/memory-store.js';
import {
  difference,
  FailingStore,
  host,
  ModelFile,
  publish,
  readChunks,
  sourceOf,
} from './publish-support.js';

const chunkBytes = limits.chunkBytesMin;
const otherHost = { hostId: '2'.repeat(32), hostName: 'beta' };

async function create(
  t: Test,
  store = new MemoryStore(),
): Promise<{ store: MemoryStore; repository: Repository }> {
  const { repository } = await Repository.create(store, { chunkBytes });
  t.teardown(() => repository[Symbol.asyncDispose]());
  return { store, repository };
}

function expectPublished(published: Published): Extract<Published, { outcome: 'published' }> {
  if (published.outcome !== 'published') throw new Error(`not published but ${published.outcome}`);
  return published;
}

/** The map of the only file, or of the first. */
function firstMap(published: Published): FileMap {
  const [map] = published.files.values();
  if (map === undefined) throw new Error('no file');
  return map;
}

async function mapsOf(repository: Repository, commit: Commit): Promise<FileMap[]> {
  const manifest = await loadManifest(commit.manifest, repository.blobs);
  return [...manifest.inodes.values()].flatMap((inode) => (inode.kind === 'file' ? [inode.content] : []));
}

function packBytes(store: MemoryStore): number {
  return store.keys('pack/').reduce((total, key) => total + store.object(key).length, 0);
}

function packIds(store: MemoryStore): PackId[] {
  return store.keys('pack/').map((key) => key.slice(-32) as PackId);
}

const chunkIndex = fc.oneof(fc.nat(12), fc.integer({ min: 508, max: 516 }), fc.nat(1100));

const operation = fc.oneof(
  { weight: 5, arbitrary: fc.tuple(fc.constant('write' as const), chunkIndex, fc.nat(20)) },
  fc.tuple(fc.constant('zeros' as const), chunkIndex, fc.nat(3)),
  fc.tuple(fc.constant('punch' as const), chunkIndex, fc.oneof(fc.nat(3), fc.nat(1100))),
  fc.tuple(fc.constant('touch' as const), chunkIndex, fc.constant(0)),
  fc.tuple(fc.constant('resize' as const), chunkIndex, fc.constantFrom(0, 1, 5000, chunkBytes - 1)),
  fc.tuple(fc.constant('cut' as const), fc.nat(100), fc.integer({ min: 1, max: chunkBytes - 1 })),
);

function apply(file: ModelFile, [what, index, argument]: readonly [string, number, number]): void {
  switch (what) {
    case 'write':
      file.write(index, argument + 1);
      break;
    case 'zeros':
      file.clear(index, argument, 'data');
      break;
    case 'punch':
      file.clear(index, argument, 'zero');
      break;
    case 'touch':
      file.touch(index);
      break;
    case 'resize':
      file.resize(index * chunkBytes + argument);
      break;
    case 'cut': {
      const withData = [...file.chunks.keys()].sort((one, other) => one - other);
      const cutAt = withData[index % withData.length];
      if (cutAt !== undefined) file.resize(cutAt * chunkBytes + argument);
    }
  }
}

t.test('versions of an edited sparse file read back as the file was', async (t) => {
  const { repository } = await create(t);
  let vms = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(operation, { maxLength: 12 }), { minLength: 1, maxLength: 5 }),
      async (versions) => {
        const vmName = `vm-${vms++}`;
        const file = new ModelFile(chunkBytes, 20 * chunkBytes + 100);
        const expected: Map<number, Uint8Array>[] = [];
        const published: FileMap[] = [];
        let parent: VersionNumber | undefined;
        for (const operations of versions) {
          for (const operation of operations) apply(file, operation);
          const result = await publish(repository, { vmName, source: sourceOf({ file }), parent });
          if (result.outcome === 'branched') assert.fail('branched');
          parent = result.commit.version;
          file.published(firstMap(result));
          expected.push(structuredClone(file.chunks));
          published.push(firstMap(result));
          assert.equal(firstMap(result).sizeBytes, file.sizeBytes);
        }
        for (const [version, map] of published.entries()) {
          const found = await readChunks(map, repository.blobs);
          assert.equal(difference(expected[version]!, found), undefined, `version ${version + 1}`);
        }
      },
    ),
    { numRuns: 25 },
  );
  t.pass('all runs');
});

t.test('equal chunks are stored once, unchanged ones are referenced', async (t) => {
  const { store, repository } = await create(t);
  const [one, other] = [
    new ModelFile(chunkBytes, 600 * chunkBytes),
    new ModelFile(chunkBytes, 600 * chunkBytes),
  ];
  for (let index = 0; index < 600; index += 1) one.write(index, (index % 100) + 1);
  for (let index = 0; index < 600; index += 1) other.write(index, 700 - (index % 50));
  other.write(3, 1);
  const first = expectPublished(await publish(repository, { source: sourceOf({ one, other }) }));
  t.equal(first.storedBytes, packBytes(store), 'what it says it stored is what is there');
  t.equal(first.commit.storedBytes, first.storedBytes);
  t.equal(first.commit.logicalBytes, 2 * 600 * chunkBytes);
  t.same(await countBlobs(repository, packIds(store)), { chunk: 150, 'map-node': 6, manifest: 1 });

  const before = packIds(store);
  const [oneMap, otherMap] = [...first.files.values()];
  one.published(oneMap);
  other.published(otherMap);
  one.write(599, 1000);
  one.touch(0);
  one.write(1, 2);
  const second = expectPublished(
    await publish(repository, { source: sourceOf({ one, other }), parent: first.commit.version }),
  );
  const added = packIds(store).filter((id) => !before.includes(id));
  t.same(
    await countBlobs(repository, added),
    { chunk: 1, 'map-node': 2, manifest: 1 },
    'one chunk, its leaf, the root',
  );
  t.same([...second.files.values()][1], otherMap, 'the other file is the same tree');
  t.equal(second.storedBytes, packBytes(store) - first.storedBytes);
  t.equal(difference(one.chunks, await readChunks(firstMap(second), repository.blobs)), undefined);
});

async function countBlobs(repository: Repository, packs: readonly PackId[]): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const packId of packs) {
    for (const { kind } of await repository.packIndex(packId)) counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return counts;
}

t.test('a terabyte of holes costs nothing', async (t) => {
  const { store, repository } = await create(t);
  const chunks = 2 ** 40 / chunkBytes;
  const dataAt = [7, 1_000_000, chunks - 1];
  const reads: number[] = [];
  const file: SourceFile = {
    sizeBytes: 2 ** 40 - 10,
    base: undefined,
    async *changedChunks() {
      yield { first: 0, count: 7, zero: true };
      yield { first: 7, count: 1 };
      yield { first: 1_000_000, count: 1 };
      yield { first: 1_000_001, count: chunks - 1_000_002, zero: true };
      yield { first: chunks - 1, count: 1 };
    },
    readChunks(first, into) {
      reads.push(first);
      into.fill(first % 251);
    },
  };
  const published = expectPublished(await publish(repository, { source: sourceOf({ file }) }));
  t.same(reads, dataAt);
  t.same(await countBlobs(repository, packIds(store)), { chunk: 3, 'map-node': 8 - 1, manifest: 1 });
  const found = await readChunks(firstMap(published), repository.blobs);
  t.same([...found.keys()], dataAt);
  t.same(
    found.get(chunks - 1)?.subarray(-10),
    new Uint8Array(10),
    'past the end is zero whatever the source says',
  );
});

t.test('many packs are filled, and uploaded meanwhile', async (t) => {
  const store = new MemoryStore();
  const uploads: string[] = [];
  const put = store.put.bind(store);
  store.put = async (key, parts) => {
    uploads.push(`begin ${key}`);
    await new Promise(setImmediate);
    await put(key, parts);
    uploads.push('end');
  };
  const { repository } = await Repository.create(store, { chunkBytes: limits.chunkBytesMax });
  t.teardown(() => repository[Symbol.asyncDispose]());
  const chunks = 40;
  const file: SourceFile = {
    sizeBytes: chunks * limits.chunkBytesMax,
    base: undefined,
    async *changedChunks() {
      yield { first: 0, count: chunks };
    },
    readChunks(first, into) {
      into.fill(first + 1);
    },
  };
  const progress: number[] = [];
  const published = await publish(repository, {
    source: sourceOf({ file }),
    onProgress: ({ doneBytes, totalBytes }) => {
      t.equal(totalBytes, file.sizeBytes);
      progress.push(doneBytes);
    },
  });
  t.ok(packIds(store).length >= 4, `${packIds(store).length} packs`);
  t.equal(published.storedBytes, packBytes(store));
  const found = await readChunks(firstMap(published), repository.blobs);
  t.equal(found.size, chunks);
  for (const [index, chunk] of found) assert.equal(chunk[12345], index + 1);
  let underWay = 0;
  for (const event of uploads) {
    underWay += event === 'end' ? -1 : 1;
    t.ok(underWay <= limits.packUploadsInFlight);
  }
  t.equal(progress.at(-1), file.sizeBytes, 'progress ends at the end');
});

t.test('new blobs are handed out as they are stored', async (t) => {
  const { store, repository } = await create(t);
  const file = new ModelFile(chunkBytes, 30 * chunkBytes);
  for (let index = 0; index < 30; index += 1) file.write(index, (index % 20) + 1);
  const sealedBlobs: { reference: BlobReference; kind: string; sealed: Uint8Array }[] = [];
  await publish(repository, {
    source: sourceOf({ file }),
    onSealed: (reference, kind, sealed) => void sealedBlobs.push({ reference, kind, sealed }),
  });
  t.equal(sealedBlobs.length, 20 + 1 + 1);
  for (const { reference, sealed } of sealedBlobs) {
    const pack = store.object(packKey(reference.packId));
    const there = pack.subarray(reference.offsetBytes, reference.offsetBytes + reference.sealedBytes);
    assert.equal(Buffer.compare(there, sealed), 0);
  }
});

t.test('a version that would say nothing new is not made', async (t) => {
  const { store, repository } = await create(t);
  const file = new ModelFile(chunkBytes, 3 * chunkBytes);
  file.write(1, 1);
  const first = expectPublished(await publish(repository, { source: sourceOf({ file }) }));
  file.published(firstMap(first));
  file.touch(1);
  const history = repository.history('vm');
  const lease = await history.acquireLease(host);
  const objects = store.keys('pack/').length;
  const parent = first.commit.version;
  const again = await publish(repository, { source: sourceOf({ file }), parent, lease, releaseLease: true });
  t.equal(again.outcome, 'unchanged');
  t.same(again.outcome === 'unchanged' && again.commit, first.commit);
  t.equal(store.keys('pack/').length, objects, 'nothing is stored');
  t.same((await history.head()).lease, { state: 'free' }, 'the lease is given back all the same');

  const moved = await publish(repository, { source: sourceOf({ file }), parent, mountPath: '/elsewhere' });
  t.equal(expectPublished(moved).commit.mountPath, '/elsewhere', 'another mount path is a change');
  const renamed = await publish(repository, {
    source: sourceOf({ other: file }),
    parent: 2 as VersionNumber,
  });
  t.equal(expectPublished(renamed).commit.version, 3, 'a new name is a change');
});

t.test('work that lost its lease becomes a branch', async (t) => {
  const { repository } = await create(t);
  const file = new ModelFile(chunkBytes, 3 * chunkBytes);
  file.write(0, 1);
  const history = repository.history('vm');
  const lease = await history.acquireLease(host);
  const first = expectPublished(await publish(repository, { source: sourceOf({ file }), lease }));
  file.published(firstMap(first));
  file.write(2, 7);
  await repository.history('vm').acquireLease(otherHost, { takeOver: true });
  const result = await publish(repository, {
    source: sourceOf({ file }),
    parent: first.commit.version,
    lease,
  });
  if (result.outcome !== 'branched') throw new Error(`not branched but ${result.outcome}`);
  t.type(result.reason, LeaseLost);
  t.same((await history.head()).latest, first.commit, 'no version was made');
  const [branch] = await history.branches();
  t.same(branch, result.branch);
  const [map] = await mapsOf(repository, {
    ...result.branch.commit,
    version: first.commit.version,
    position: first.commit.position,
  });
  t.equal(
    difference(file.chunks, await readChunks(map!, repository.blobs)),
    undefined,
    'the work can be read',
  );
});

t.test('what cannot be committed is refused before anything is stored', async (t) => {
  const { store, repository } = await create(t);
  const file = new ModelFile(chunkBytes, chunkBytes);
  file.write(0, 1);
  await repository.history('vm').acquireLease(otherHost);
  await t.rejects(publish(repository, { source: sourceOf({ file }) }), LeaseHeld);
  const readOnly = await Repository.open(store, readOnlySecrets(repository.secrets));
  t.teardown(() => readOnly[Symbol.asyncDispose]());
  await t.rejects(publish(readOnly, { source: sourceOf({ file }), vmName: 'other' }), ReadOnlyKey);
  t.same(store.keys('pack/'), []);
});

t.test('whatever request fails, the newest version is the old or the new one', async (t) => {
  for (const mode of ['before', 'after'] as const) {
    const { store, repository: setUp } = await create(t);
    const file = new ModelFile(chunkBytes, 600 * chunkBytes);
    for (const index of [0, 1, 100, 599]) file.write(index, index + 1);
    const first = expectPublished(await publish(setUp, { source: sourceOf({ file }) }));
    const oldChunks = structuredClone(file.chunks);
    file.published(firstMap(first));
    for (const index of [1, 300, 599]) file.write(index, index + 1000);

    const failing = new FailingStore(store);
    const repository = await Repository.open(failing, setUp.secrets);
    t.teardown(() => repository[Symbol.asyncDispose]());
    let parent = first.commit.version;
    let outcome = 'failed';
    let failures = 0;
    for (let failAt = 1; outcome === 'failed'; failAt += 1) {
      assert.ok(failAt < 100, 'never gets through');
      failing.arm(failAt, mode);
      try {
        outcome = (await publish(repository, { source: sourceOf({ file }), parent })).outcome;
      } catch (error) {
        assert.ok(error instanceof StoreUnreachable, String(error));
        failures += 1;
      }
      const head = await setUp.history('vm').head();
      assert.ok(head.latest !== undefined);
      const isNew = head.latest.version > parent;
      const [map] = await mapsOf(setUp, head.latest);
      const found = await readChunks(map!, setUp.blobs);
      assert.equal(difference(isNew ? file.chunks : oldChunks, found), undefined, `${mode} ${failAt}`);
      if (outcome !== 'failed') assert.ok(isNew);
      // A commit whose answer got lost is there: the next attempt continues from it, as a user would.
      if (isNew && outcome === 'failed') break;
      parent = head.latest.version;
    }
    t.ok(failures >= 5, `${failures} requests failed ${mode} they were carried out`);
  }
});

t.test('a source that fails, or a signal, ends a publish and leaves no version', async (t) => {
  const { store, repository } = await create(t);
  const failing: SourceFile = {
    sizeBytes: 1000 * chunkBytes,
    base: undefined,
    async *changedChunks() {
      yield { first: 0, count: 1000 };
    },
    readChunks(first, into) {
      if (first > 500) throw new Error('the disk is gone');
      into.fill(1);
    },
  };
  await t.rejects(publish(repository, { source: sourceOf({ failing }) }), { message: 'the disk is gone' });

  const controller = new AbortController();
  const cancelling: SourceFile = {
    ...failing,
    readChunks(first, into) {
      if (first > 500) controller.abort();
      into.fill(1);
    },
  };
  await t.rejects(
    publish(repository, { source: sourceOf({ cancelling }), signal: controller.signal }),
    Cancelled,
  );
  t.same((await repository.history('vm').head()).latest, undefined);
  t.same(store.keys('log/'), []);
});

t.test('a file is finished after its last read, before the next begins to be placed', async (t) => {
  const { repository } = await create(t);
  const events: string[] = [];
  const file = (name: string): SourceFile => ({
    sizeBytes: 40 * chunkBytes,
    base: undefined,
    async *changedChunks() {
      yield { first: 0, count: 40 };
    },
    async readChunks(_first, into) {
      await new Promise(setImmediate);
      into.fill(1);
      events.push(`read ${name}`);
    },
    async finish() {
      events.push(`finish ${name}`);
    },
  });
  await publish(repository, { source: sourceOf({ a: file('a'), b: file('b') }) });
  for (const name of ['a', 'b']) {
    t.equal(events.filter((event) => event === `finish ${name}`).length, 1);
    t.ok(events.lastIndexOf(`read ${name}`) < events.indexOf(`finish ${name}`));
  }
});
