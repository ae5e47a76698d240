import t, { type Test } from 'tap';
import { Cancelled, limits } from '../../src/base/index.js';
import { MapNode } from '../../src/repo/format/map-node.js';
import {
  ChunkMap,
  loadManifest,
  NodeCache,
  packKey,
  Repository,
  verifyVersion,
  type BlobId,
  type BlobReference,
  type Commit,
  type FileMap,
  type MapEntry,
  type PackId,
  type VerifyReport,
} from '../../src/repo/index.js';
import { ObservedStore, StoreUnreachable } from '../../src/store/index.js';
import { MemoryStore } from '../support/memory-store.js';
import { FailingStore, ModelFile, publish, sourceOf, writeBlob } from './publish-support.js';

const chunkBytes = limits.chunkBytesMin;

interface Subject {
  readonly store: MemoryStore;
  readonly repository: Repository;
  readonly commit: Commit;
  readonly file: FileMap;
  readonly verify: () => Promise<VerifyReport>;
}

/** Two versions of two files, so that the second refers to packs of both. */
async function published(t: Test): Promise<Subject> {
  const store = new MemoryStore();
  const { repository } = await Repository.create(store, { chunkBytes });
  t.teardown(() => repository[Symbol.asyncDispose]());
  const [disk, memory] = [
    new ModelFile(chunkBytes, 1200 * chunkBytes - 5),
    new ModelFile(chunkBytes, 10 * chunkBytes),
  ];
  for (const index of [0, 1, 2, 3, 10, 600, 1199]) disk.write(index, index + 1);
  for (const index of [0, 5]) memory.write(index, index + 5000);
  memory.write(7, 3);
  const source = sourceOf({ disk, memory });
  const first = await publish(repository, { source });
  if (first.outcome !== 'published') throw new Error(first.outcome);
  const [diskMap, memoryMap] = [...first.files.values()];
  disk.published(diskMap);
  memory.published(memoryMap);
  disk.write(1, 77);
  const second = await publish(repository, {
    source: sourceOf({ disk, memory }),
    parent: first.commit.version,
  });
  if (second.outcome !== 'published') throw new Error(second.outcome);
  const { commit } = second;
  const file = [...second.files.values()][0]!;
  return { store, repository, commit, file, verify: () => verifyVersion({ repository, commit }) };
}

/** Where a chunk of the disk is. */
async function chunkOf({ repository, file }: Subject, index: number): Promise<BlobReference> {
  const entry = await new ChunkMap(file, repository.blobs, new NodeCache()).entry(index);
  if (entry === 'zero') throw new Error(`chunk ${index} is zero`);
  return entry;
}

function flipWithin(store: MemoryStore, { packId, offsetBytes, sealedBytes }: BlobReference): void {
  store.flipBit(packKey(packId), 8 * (offsetBytes + Math.floor(sealedBytes / 2)));
}

t.test('an intact version is read once, in long ranges', async (t) => {
  const { repository, commit, store } = await published(t);
  const observed = new ObservedStore(store);
  const copy = await Repository.open(observed, repository.secrets);
  t.teardown(() => copy[Symbol.asyncDispose]());
  const progress: number[] = [];
  const report = await verifyVersion({
    repository: copy,
    commit,
    onProgress: ({ doneBytes }) => progress.push(doneBytes),
  });
  t.match(report, { intact: true, files: 2, damages: [], omittedDamages: 0 });
  t.equal(report.checkedBlobs, 9 + 5 + 1, 'chunks (one is in both files), nodes, manifest');
  t.equal(progress.at(-1), commit.logicalBytes);
  const { get } = observed.counts();
  t.ok(get.requests <= 30, `${get.requests} requests`);
});

t.test('a flipped bit anywhere in what a version needs is found', async (t) => {
  const subject = await published(t);
  const { store, repository, verify } = subject;
  const needed = await neededBlobs(subject);
  let flips = 0;
  for (const key of store.keys('pack/')) {
    const intact = store.object(key);
    const index = await repository.packIndex(key.slice(-32) as PackId);
    for (let byte = 3; byte < intact.length; byte += Math.ceil(intact.length / 23)) {
      const blob = index.find(({ reference }) => holds(reference, byte));
      store.flipBit(key, byte * 8);
      const { damages } = await verify();
      store.objects.set(key, intact);
      const mustFind = blob === undefined || needed.has(blob.reference.id);
      if (mustFind !== damages.some(({ object }) => object === key)) {
        t.fail(`byte ${byte} of ${key}, ${blob?.kind ?? 'frame'}: found ${JSON.stringify(damages)}`);
      }
      flips += 1;
    }
  }
  t.ok(flips > 60, `${flips} flips`);
  t.ok((await verify()).intact);
});

function holds({ offsetBytes, sealedBytes }: BlobReference, byte: number): boolean {
  return byte >= offsetBytes && byte < offsetBytes + sealedBytes;
}

/** The ids of all blobs that a version consists of. */
async function neededBlobs({ repository, commit }: Subject): Promise<Set<BlobId>> {
  const ids = new Set([commit.manifest.id]);
  const visit = async (entry: MapEntry, height: number): Promise<void> => {
    if (entry === 'zero') return;
    ids.add(entry.id);
    if (height === 0) return;
    const node = MapNode.decode(await repository.blobs.readBlob(entry, 'map-node'), 'node');
    for (let child = 0; child < limits.mapNodeEntries; child += 1) await visit(node.entry(child), height - 1);
  };
  const manifest = await loadManifest(commit.manifest, repository.blobs);
  for (const inode of manifest.inodes.values()) {
    if (inode.kind === 'file') await visit(inode.content.root, inode.content.height);
  }
  return ids;
}

t.test('damage is named with what it affects', async (t) => {
  const subject = await published(t);
  const { store, verify, file } = subject;
  const oldPack = packKey((await chunkOf(subject, 0)).packId);
  const intact = store.object(oldPack);

  await t.test('chunks', async (t) => {
    for (const index of [2, 3]) flipWithin(store, await chunkOf(subject, index));
    const { damages } = await verify();
    store.objects.set(oldPack, intact);
    t.match(damages, [
      {
        object: oldPack,
        problem: 'damaged',
        what: 'chunk',
        file: { path: 'disk', offsetBytes: 2 * chunkBytes, lengthBytes: 2 * chunkBytes },
      },
      { what: 'chunk', file: { path: 'memory', offsetBytes: 7 * chunkBytes, lengthBytes: chunkBytes } },
    ]);
    t.equal(damages.length, 2, 'neighbours are one damage; a shared chunk damages both files');
  });

  await t.test('map nodes', async (t) => {
    if (file.root === 'zero') throw new Error('no root');
    const intact = store.object(packKey(file.root.packId));
    flipWithin(store, file.root);
    const { damages } = await verify();
    store.objects.set(packKey(file.root.packId), intact);
    t.match(damages, [
      { what: 'map-node', file: { path: 'disk', offsetBytes: 0, lengthBytes: 1200 * chunkBytes - 5 } },
    ]);
    t.equal(damages.length, 1, 'the other file is checked all the same');
  });

  await t.test('the manifest', async (t) => {
    const { manifest } = subject.commit;
    const intact = store.object(packKey(manifest.packId));
    flipWithin(store, manifest);
    const report = await verify();
    store.objects.set(packKey(manifest.packId), intact);
    t.match(report, {
      intact: false,
      files: 0,
      damages: [{ what: 'manifest', problem: 'damaged', file: undefined }],
    });
  });

  await t.test('the index of a pack', async (t) => {
    store.flipBit(oldPack, 8 * (intact.length - 30));
    const { damages } = await verify();
    store.objects.set(oldPack, intact);
    t.match(damages, [{ object: oldPack, problem: 'damaged', what: 'pack', file: undefined }]);
    t.equal(damages.length, 1, 'its chunks can be read');
  });

  await t.test('a missing pack', async (t) => {
    await store.delete(oldPack);
    const { damages } = await verify();
    store.objects.set(oldPack, intact);
    t.match(damages[0], { object: oldPack, problem: 'missing', what: 'pack', file: undefined });
    t.ok(damages.every(({ problem }) => problem === 'missing'));
    t.same(
      damages
        .slice(1)
        .map(({ file }) => `${file?.path} ${(file?.offsetBytes ?? 0) / chunkBytes} ${file?.lengthBytes}`),
      [
        `disk 0 ${chunkBytes}`,
        `disk 2 ${2 * chunkBytes}`,
        `disk 10 ${chunkBytes}`,
        `disk 600 ${chunkBytes}`,
        `disk 1199 ${chunkBytes - 5}`,
        `memory 0 ${chunkBytes}`,
        `memory 5 ${chunkBytes}`,
        `memory 7 ${chunkBytes}`,
      ],
    );
  });

  await t.test('a truncated pack', async (t) => {
    const { offsetBytes } = await chunkOf(subject, 10);
    store.objects.set(oldPack, intact.subarray(0, offsetBytes + 10));
    const { damages } = await verify();
    store.objects.set(oldPack, intact);
    t.match(damages[0], { what: 'pack', problem: 'damaged' });
    t.same(damages[1]?.file, { path: 'disk', offsetBytes: 10 * chunkBytes, lengthBytes: chunkBytes });
    t.notOk(
      damages.some(({ file }) => file?.path === 'disk' && file.offsetBytes < 10 * chunkBytes),
      'what lies before the end is read',
    );
  });

  await t.test('packs in place of each other', async (t) => {
    const packs = store.keys('pack/');
    store.swap(packs[0]!, packs[1]!);
    const { damages } = await verify();
    store.swap(packs[0]!, packs[1]!);
    t.ok(damages.length > 0);
    t.ok(damages.every(({ problem }) => problem === 'damaged'));
  });

  t.ok((await verify()).intact);
});

t.test('a blob that is authentic but not what its id says is found', async (t) => {
  const { repository, commit } = await published(t);
  const plaintext = await repository.blobs.readBlob(commit.manifest, 'manifest');
  const id = repository.sealer.identify(Buffer.from('something else'));
  const forged = await writeBlob(repository, plaintext, 'manifest', id);
  const report = await verifyVersion({ repository, commit: { ...commit, manifest: forged } });
  t.match(report, { intact: false, damages: [{ what: 'manifest', message: /its id/ }] });
});

t.test('a store that does not answer is no damage', async (t) => {
  const { store, repository, commit } = await published(t);
  const failing = new FailingStore(store);
  const copy = await Repository.open(failing, repository.secrets);
  t.teardown(() => copy[Symbol.asyncDispose]());
  for (let failAt = 1; ; failAt += 1) {
    failing.arm(failAt, 'before');
    const outcome = await verifyVersion({ repository: copy, commit }).catch((error: unknown) => error);
    if (failing.requests < failAt) {
      t.match(outcome, { intact: true });
      break;
    }
    if (!(outcome instanceof StoreUnreachable)) t.fail(`request ${failAt}: ${String(outcome)}`);
  }
  await t.rejects(verifyVersion({ repository, commit, signal: AbortSignal.abort() }), Cancelled);
});
