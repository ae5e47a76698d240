/** What changed a little is stored twice: whole, and as a delta to what it was. */
import t, { type Test } from 'tap';
import { limits } from '../../src/base/index.js';
import {
  applyDelta,
  decodeDeltaIndex,
  packKey,
  Repository,
  verifyVersion,
  type ChunkDelta,
  type Commit,
} from '../../src/repo/index.js';
import { MemoryStore } from '../support/memory-store.js';
import { ModelFile, patternChunk, publish, sourceOf } from './publish-support.js';

const chunkBytes = 128 * 1024;

const pageBytes = 4096;

/** Gives a page other content, which does not compress. */
function writePage(file: ModelFile, index: number, page: number, seed: number): void {
  const chunk = Uint8Array.from(file.chunks.get(index) ?? new Uint8Array(chunkBytes));
  chunk.set(patternChunk(2 * pageBytes, seed).subarray(0, pageBytes), page * pageBytes);
  file.touch(index);
  file.chunks.set(index, chunk);
}

class Lab {
  readonly repository: Repository;
  readonly file: ModelFile;
  storedBytes = 0;
  /** Whether earlier chunks are at hand. */
  hasBases = true;

  private constructor(repository: Repository, file: ModelFile) {
    this.repository = repository;
    this.file = file;
  }

  static async create(t: Test, chunks: number): Promise<Lab> {
    const { repository } = await Repository.create(new MemoryStore(), { chunkBytes });
    t.teardown(() => repository[Symbol.asyncDispose]());
    const file = new ModelFile(chunkBytes, chunks * chunkBytes);
    for (let index = 0; index < chunks; index += 1) file.write(index, index + 1);
    const lab = new Lab(repository, file);
    await lab.publish(t);
    return lab;
  }

  async publish(t: Test): Promise<Commit> {
    const { repository, file } = this;
    const head = await repository.history('vm').head();
    const published = await publish(repository, {
      source: sourceOf({ memory: file }),
      parent: head.latest?.version,
      parentsDeltas: head.latest?.deltas,
      earlierChunk: (reference) =>
        this.hasBases ? repository.blobs.readBlob(reference, 'chunk') : Promise.resolve(undefined),
    });
    if (published.outcome !== 'published') throw new Error(published.outcome);
    file.published([...published.files.values()][0]);
    this.storedBytes = published.storedBytes;
    t.ok((await verifyVersion({ repository, commit: published.commit })).intact);
    return published.commit;
  }

  async deltasOf({ deltas }: Commit): Promise<readonly ChunkDelta[]> {
    if (deltas === undefined) return [];
    const { blobs } = this.repository;
    return decodeDeltaIndex(await blobs.readBlob(deltas, 'delta-index'), packKey(deltas.packId));
  }

  /** Whether the delta makes a chunk of the file, as it is now, out of its base. */
  async makes({ chunkId, base, delta }: ChunkDelta): Promise<boolean> {
    const { blobs, sealer } = this.repository;
    const before = await blobs.readBlob(base, 'chunk');
    const made = applyDelta(await blobs.readBlob(delta, 'delta'), base.id, before, 'delta');
    return sealer.identify(made) === chunkId;
  }
}

t.test('a chunk that changed in a page has a delta, and one that changed throughout has none', async (t) => {
  const lab = await Lab.create(t, 8);
  writePage(lab.file, 1, 0, 100);
  writePage(lab.file, 5, 31, 101);
  lab.file.write(6, 200);
  const commit = await lab.publish(t);
  const deltas = await lab.deltasOf(commit);
  t.equal(deltas.length, 2);
  for (const delta of deltas) t.ok(await lab.makes(delta));
});

t.test('the first version has none, nor one in which nothing is small', async (t) => {
  const lab = await Lab.create(t, 4);
  lab.file.write(2, 300);
  for (let page = 0; page < 20; page += 1) writePage(lab.file, 3, page, 400 + page);
  const commit = await lab.publish(t);
  t.equal(commit.deltas, undefined);
  lab.hasBases = false;
  writePage(lab.file, 1, 0, 500);
  t.equal(
    (await lab.publish(t)).deltas,
    undefined,
    'without the earlier chunk there is nothing to compare with',
  );
  t.equal((await lab.repository.history('vm').commit(1 as Commit['version'])).deltas, undefined);
});

t.test(
  'an index has the deltas of the versions before, the newest first, and stays when nothing is added',
  async (t) => {
    const lab = await Lab.create(t, 8);
    writePage(lab.file, 1, 0, 100);
    const [first] = await lab.deltasOf(await lab.publish(t));
    writePage(lab.file, 1, 0, 101);
    writePage(lab.file, 2, 0, 102);
    const second = await lab.publish(t);
    const deltas = await lab.deltasOf(second);
    t.equal(deltas.length, 3);
    t.same(deltas[2], first);
    t.equal(deltas[0]?.base.id, first?.chunkId, 'one follows the other');
    for (const delta of deltas) t.ok(await lab.makes(delta));
    lab.file.write(7, 500);
    t.same((await lab.publish(t)).deltas, second.deltas);
  },
);

t.test('deltas stay a small part of what is stored', async (t) => {
  const lab = await Lab.create(t, 64);
  for (let index = 0; index < 64; index += 1)
    for (let page = 0; page < 3; page += 1) writePage(lab.file, index, page, 1000 + 4 * index + page);
  const deltas = await lab.deltasOf(await lab.publish(t));
  const deltaBytes = deltas.reduce((sum, { delta }) => sum + delta.sealedBytes, 0);
  t.ok(deltas.length > 0 && deltas.length < 64);
  t.ok(deltaBytes < lab.storedBytes * limits.deltaBudgetFraction + limits.deltaBudgetFreeBytes);
});
