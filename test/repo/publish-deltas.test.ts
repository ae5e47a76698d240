/** What changed in few pages is stored twice: whole, and as a delta to what it was. */
import t, { type Test } from 'tap';
import { limits } from '../../src/base/index.js';
import {
  applyDelta,
  decodeDelta,
  decodeDeltaIndex,
  packKey,
  Repository,
  verifyVersion,
  type ChunkDelta,
  type Commit,
} from '../../src/repo/index.js';
import { deltaPageBytes } from '../../src/repo/format/delta.js';
import { MemoryStore } from '../support/memory-store.js';
import { ModelFile, patternChunk, publish, sourceOf } from './publish-support.js';

const chunkBytes = 128 * 1024;

/** A file that knows which pages changed, as the overlay does. */
class PagedFile extends ModelFile {
  readonly #pages = new Map<number, Set<number>>();

  /** Bytes that do not compress. */
  writePage(index: number, page: number, seed: number): void {
    const chunk = Uint8Array.from(this.chunks.get(index) ?? new Uint8Array(chunkBytes));
    const content = patternChunk(2 * deltaPageBytes, seed).subarray(0, deltaPageBytes);
    chunk.set(content, page * deltaPageBytes);
    this.write(index, 0);
    this.chunks.set(index, chunk);
    this.#pages.set(index, (this.#pages.get(index) ?? new Set()).add(page));
  }

  override published(map: ModelFile['base']): void {
    super.published(map);
    this.#pages.clear();
  }

  changedPages(index: number, pagesMax: number): readonly number[] | undefined {
    const pages = [...(this.#pages.get(index) ?? [])].sort((one, other) => one - other);
    return pages.length > pagesMax ? undefined : pages;
  }
}

class Lab {
  readonly repository: Repository;
  readonly file: PagedFile;
  storedBytes = 0;

  private constructor(repository: Repository, file: PagedFile) {
    this.repository = repository;
    this.file = file;
  }

  static async create(t: Test, chunks: number): Promise<Lab> {
    const { repository } = await Repository.create(new MemoryStore(), { chunkBytes });
    t.teardown(() => repository[Symbol.asyncDispose]());
    const file = new PagedFile(chunkBytes, chunks * chunkBytes);
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
    const change = decodeDelta(await blobs.readBlob(delta, 'delta'), chunkBytes, 'delta');
    return change.baseId === base.id && sealer.identify(applyDelta(change, before)) === chunkId;
  }
}

t.test('a chunk that changed in a page has a delta, and one that changed throughout has none', async (t) => {
  const lab = await Lab.create(t, 8);
  lab.file.writePage(1, 0, 100);
  lab.file.writePage(5, 31, 101);
  lab.file.write(6, 200);
  const commit = await lab.publish(t);
  const deltas = await lab.deltasOf(commit);
  t.equal(deltas.length, 2);
  for (const delta of deltas) t.ok(await lab.makes(delta));
});

t.test('the first version has none, nor one in which nothing is small', async (t) => {
  const lab = await Lab.create(t, 4);
  lab.file.write(2, 300);
  for (let page = 0; page < 20; page += 1) lab.file.writePage(3, page, 400 + page);
  const commit = await lab.publish(t);
  t.equal(commit.deltas, undefined);
  t.equal((await lab.repository.history('vm').commit(1 as Commit['version'])).deltas, undefined);
});

t.test(
  'an index has the deltas of the versions before, the newest first, and stays when nothing is added',
  async (t) => {
    const lab = await Lab.create(t, 8);
    lab.file.writePage(1, 0, 100);
    const [first] = await lab.deltasOf(await lab.publish(t));
    lab.file.writePage(1, 0, 101);
    lab.file.writePage(2, 0, 102);
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
    for (let page = 0; page < 4; page += 1) lab.file.writePage(index, page, 1000 + 4 * index + page);
  const deltas = await lab.deltasOf(await lab.publish(t));
  const deltaBytes = deltas.reduce((sum, { delta }) => sum + delta.sealedBytes, 0);
  t.ok(deltas.length > 0 && deltas.length < 64);
  t.ok(deltaBytes < lab.storedBytes * limits.deltaBudgetFraction + limits.deltaBudgetFreeBytes);
});
