import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { limits } from '../../src/base/index.js';
import { reviseMap, type MapChange } from '../../src/repo/chunk-map/revise.js';
import { MapNode, encodeMapNode } from '../../src/repo/format/map-node.js';
import {
  ChunkMap,
  NodeCache,
  packKey,
  type BlobId,
  type BlobReader,
  type BlobReference,
  type FileMap,
  type MapEntry,
  type PackId,
} from '../../src/repo/index.js';

const chunkBytes = limits.chunkBytesMin;
const packId = 'ab'.repeat(16) as PackId;

/** Map nodes in memory, and how often they were read and written. */
class Nodes implements BlobReader {
  readonly #plaintexts = new Map<BlobId, Uint8Array>();
  reads = 0;
  writes = 0;

  async readBlob(reference: BlobReference): Promise<Uint8Array> {
    this.reads += 1;
    const plaintext = this.#plaintexts.get(reference.id);
    if (plaintext === undefined) throw new Error(`no node ${reference.id}`);
    return plaintext;
  }

  load = async (reference: BlobReference): Promise<MapNode> =>
    MapNode.decode(await this.readBlob(reference), packKey(packId));

  store = async (entries: readonly MapEntry[]): Promise<BlobReference> => {
    this.writes += 1;
    const reference = chunk(1_000_000_000 + this.#plaintexts.size);
    this.#plaintexts.set(reference.id, encodeMapNode(entries));
    return reference;
  };

  forget(): void {
    this.reads = 0;
    this.writes = 0;
  }
}

/** A reference that nothing is behind; equal for equal numbers. */
function chunk(number: number): BlobReference {
  const id = number.toString(16).padStart(32, '0') as BlobId;
  return { packId, offsetBytes: 100, sealedBytes: 1000, counter: 1, id };
}

async function revise(
  nodes: Nodes,
  base: FileMap | undefined,
  sizeBytes: number,
  changes: readonly MapChange[],
): Promise<FileMap> {
  return reviseMap({
    base,
    sizeBytes,
    chunkBytes,
    changes: (async function* () {
      yield* changes;
    })(),
    loadNode: nodes.load,
    storeNode: nodes.store,
  });
}

function one(first: number, entry: MapEntry): MapChange {
  return { first, count: 1, entry };
}

async function entriesOf(
  nodes: Nodes,
  map: FileMap,
  first = 0,
  count = Infinity,
): Promise<[number, BlobId][]> {
  const found: [number, BlobId][] = [];
  for await (const { index, reference } of new ChunkMap(map, nodes, new NodeCache()).entries(first, count)) {
    found.push([index, reference.id]);
  }
  return found;
}

const perNode = limits.mapNodeEntries;

/** Indexes around the borders of nodes, where mistakes would be. */
const index = fc.oneof(
  fc.nat(8),
  fc.integer({ min: perNode - 2, max: perNode + 2 }),
  fc.integer({ min: 2 * perNode - 2, max: 2 * perNode + 2 }),
  fc.integer({ min: perNode ** 2 - 2, max: perNode ** 2 + perNode + 2 }),
  fc.nat(perNode ** 3 + 2),
);

const edit = fc.record({
  sizeChunks: index,
  partialBytes: fc.constantFrom(0, 1, chunkBytes - 1),
  changes: fc.array(
    fc.record({
      first: index,
      zeros: fc.oneof(fc.constant(0), fc.nat(3), fc.nat(2 * perNode ** 2)),
      content: fc.nat(50),
    }),
    { maxLength: 12 },
  ),
});

/** Ascending changes without overlap within the file, from arbitrary ones. */
function inOrder(
  edit: { readonly changes: readonly { first: number; zeros: number; content: number }[] },
  chunks: number,
) {
  const changes: MapChange[] = [];
  let free = 0;
  for (const { first, zeros, content } of [...edit.changes].sort((a, b) => a.first - b.first)) {
    const count = Math.min(Math.max(zeros, 1), chunks - first);
    if (first < free || count < 1) continue;
    changes.push({ first, count, entry: zeros > 0 ? 'zero' : chunk(content + 1) });
    free = first + count;
  }
  return changes;
}

t.test('a map that is revised again and again says what a plain table says', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(edit, { minLength: 1, maxLength: 6 }),
      index,
      fc.nat(2000),
      async (edits, first, count) => {
        const nodes = new Nodes();
        const model = new Map<number, BlobId>();
        let map: FileMap | undefined;
        for (const edit of edits) {
          const sizeBytes = edit.sizeChunks * chunkBytes + edit.partialBytes;
          const chunks = Math.ceil(sizeBytes / chunkBytes);
          const changes = inOrder(edit, chunks);
          map = await revise(nodes, map, sizeBytes, changes);
          for (const index of model.keys()) if (index >= chunks) model.delete(index);
          for (const { first, count, entry } of changes) {
            if (entry !== 'zero') model.set(first, entry.id);
            else
              for (const index of model.keys())
                if (index >= first && index < first + count) model.delete(index);
          }
          const expected = [...model].sort(([a], [b]) => a - b);
          assert.deepStrictEqual(await entriesOf(nodes, map), expected);
          assert.deepStrictEqual(
            await entriesOf(nodes, map, first, count),
            expected.filter(([index]) => index >= first && index < first + count),
          );
          const chunkMap = new ChunkMap(map, nodes, new NodeCache());
          for (const index of [0, first, first + 1, ...model.keys()]) {
            const entry = await chunkMap.entry(index);
            assert.equal(entry === 'zero' ? undefined : entry.id, model.get(index));
            assert.deepStrictEqual(chunkMap.peekEntry(index), entry);
          }
        }
      },
    ),
    { numRuns: 60 },
  );
  t.pass('all runs');
});

const tebibyte = 2 ** 40;

t.test('only the way to a change is loaded and stored', async (t) => {
  const nodes = new Nodes();
  const empty = await revise(nodes, undefined, tebibyte, []);
  t.same(empty, { sizeBytes: tebibyte, chunkBytes, height: 3, root: 'zero' });
  t.equal(nodes.writes, 0, 'an empty file has no nodes, whatever its size');

  const far = perNode ** 3 / 4;
  const filled = await revise(nodes, empty, tebibyte, [one(5, chunk(1)), one(far, chunk(2))]);
  t.same([nodes.reads, nodes.writes], [0, 5], 'two leaves, the nodes above, one root');

  nodes.forget();
  const changed = await revise(nodes, filled, tebibyte, [one(far + 1, chunk(3))]);
  t.same([nodes.reads, nodes.writes], [3, 3], 'one node of each height');
  t.same(
    (await entriesOf(nodes, changed)).map(([index]) => index),
    [5, far, far + 1],
  );

  nodes.forget();
  const same = await revise(nodes, changed, tebibyte, [one(5, chunk(1)), one(6, 'zero')]);
  t.equal(nodes.writes, 0, 'what is the same is not stored');
  t.same(same, changed);

  nodes.forget();
  const hole: MapChange = { first: 1000, count: far - 900, entry: 'zero' };
  const punched = await revise(nodes, changed, tebibyte, [hole]);
  t.same(
    (await entriesOf(nodes, punched)).map(([index]) => index),
    [5],
  );
  t.ok(nodes.reads <= 10, `a hole of gigabytes loads few nodes: ${nodes.reads}`);
});

t.test('growing raises the tree, cutting lowers it', async (t) => {
  const nodes = new Nodes();
  const lone = await revise(nodes, undefined, 100, [one(0, chunk(1))]);
  t.same([lone.height, lone.root, nodes.writes], [0, chunk(1), 0], 'one chunk needs no node');

  const grown = await revise(nodes, lone, tebibyte, []);
  t.same([grown.height, nodes.writes, nodes.reads], [3, 3, 0], 'new nodes above the old root');
  t.same(await entriesOf(nodes, grown), [[0, chunk(1).id]]);

  const more = await revise(nodes, grown, tebibyte, [
    one(1, chunk(2)),
    one(2, chunk(4)),
    one(perNode, chunk(3)),
  ]);
  const cut = await revise(nodes, more, 2 * chunkBytes, []);
  t.equal(cut.height, 1);
  t.same(await entriesOf(nodes, cut), [
    [0, chunk(1).id],
    [1, chunk(2).id],
  ]);
  const regrown = await revise(nodes, cut, tebibyte, []);
  t.same(await entriesOf(nodes, regrown), await entriesOf(nodes, cut), 'what was cut off is zero');

  const none = await revise(nodes, more, 0, []);
  t.same(none, { sizeBytes: 0, chunkBytes, height: 0, root: 'zero' });
});

t.test('what changed since an earlier map is what two plain tables differ in', async () => {
  await fc.assert(
    fc.asyncProperty(edit, edit, async (first, second) => {
      const nodes = new Nodes();
      const sizes = [first, second].map(
        ({ sizeChunks, partialBytes }) => Math.max(0, sizeChunks * chunkBytes - partialBytes) + 1,
      );
      const [size, nextSize] = sizes as [number, number];
      const changesOf = (of: typeof first, sizeBytes: number) =>
        inOrder(of, Math.ceil(sizeBytes / chunkBytes));
      const earlier = await revise(nodes, undefined, size, changesOf(first, size));
      const later = await revise(nodes, earlier, nextSize, changesOf(second, nextSize));
      for (const [map, before] of [
        [later, earlier],
        [earlier, later],
      ] as const) {
        const ids = new Map(await entriesOf(nodes, before));
        const expected = (await entriesOf(nodes, map)).filter(([index, id]) => ids.get(index) !== id);
        const found: [number, BlobId][] = [];
        const chunks = new ChunkMap(map, nodes, new NodeCache()).changedSince(before);
        for await (const { index, reference } of chunks) found.push([index, reference.id]);
        assert.deepEqual(found, expected);
      }
      nodes.forget();
      const chunks = new ChunkMap(later, nodes, new NodeCache()).changedSince(later);
      assert.deepEqual(await chunks.next(), { done: true, value: undefined });
      assert.equal(nodes.reads, 0, 'what is the same is not looked at');
    }),
    { numRuns: 100 },
  );
});

t.test('the next chunk with data and the next that is zero are those of a plain table', async (t) => {
  const sought = fc.constantFrom('data' as const, 'zero' as const);
  await fc.assert(
    fc.asyncProperty(
      edit,
      fc.array(fc.tuple(sought, index, index), { minLength: 5, maxLength: 20 }),
      async (edit, searches) => {
        const nodes = new Nodes();
        const sizeBytes = edit.sizeChunks * chunkBytes + edit.partialBytes;
        const changes = inOrder(edit, Math.ceil(sizeBytes / chunkBytes));
        const map = await revise(nodes, undefined, sizeBytes, changes);
        const data = new Set(changes.filter(({ entry }) => entry !== 'zero').map(({ first }) => first));
        for (const [sought, first, count] of searches) {
          const end = first + count;
          let expected = first;
          if (sought === 'zero') while (expected < end && data.has(expected)) expected += 1;
          else expected = Math.min(end, ...[...data].filter((chunk) => chunk >= first));
          const chunkMap = new ChunkMap(map, nodes, new NodeCache());
          const peeked = chunkMap.peekNext(sought, first, end);
          assert.ok(peeked === undefined || peeked === expected);
          assert.equal(await chunkMap.next(sought, first, end), expected);
          assert.equal(chunkMap.peekNext(sought, first, end), expected, 'in memory now');
        }
      },
    ),
    { numRuns: 100 },
  );
  t.pass('all runs');
});

t.test('looking for data in a huge map with little in it loads few nodes', async (t) => {
  const nodes = new Nodes();
  const far = perNode ** 3 / 4;
  const map = await revise(nodes, undefined, tebibyte, [one(5, chunk(1)), one(far, chunk(2))]);
  const chunkMap = new ChunkMap(map, nodes, new NodeCache());
  const chunks = chunkMap.chunkCount;
  nodes.forget();
  t.equal(await chunkMap.next('data', 6, chunks), far);
  t.equal(await chunkMap.next('zero', far, chunks), far + 1);
  t.equal(await chunkMap.next('data', far + 1, chunks), chunks);
  t.equal(nodes.reads, 5, 'the root, and two nodes on the way to each');
});

t.test('a search through many nodes takes turns, and can be cancelled', async (t) => {
  const nodes = new Nodes();
  const full = (limits.mapNodesPerTurn + 20) * perNode;
  const changes = Array.from({ length: full }, (_, index) => one(index, chunk(1)));
  const map = await revise(nodes, undefined, 2 * full * chunkBytes, changes);
  const chunkMap = new ChunkMap(map, nodes, new NodeCache(2 ** 30));
  t.equal(await chunkMap.next('zero', 0, 2 * full), full);
  t.equal(chunkMap.peekNext('zero', 0, 2 * full), undefined, 'too many for one turn');
  t.equal(chunkMap.peekNext('zero', 30 * perNode, 2 * full), full);
  const abort = new AbortController();
  const search = chunkMap.next('zero', 0, 2 * full, { signal: abort.signal });
  abort.abort();
  await t.rejects(search, { code: 'CANCELLED' });
});

t.test('changes that would be lost are refused', async (t) => {
  const nodes = new Nodes();
  await t.rejects(revise(nodes, undefined, tebibyte, [one(6, chunk(1)), one(5, chunk(2))]), /out of order/);
  await t.rejects(revise(nodes, undefined, tebibyte, [one(6, chunk(1)), one(6, chunk(2))]), /out of order/);
  await t.rejects(revise(nodes, undefined, chunkBytes, [one(1, chunk(1))]), /past the end/);
  await t.rejects(
    revise(nodes, undefined, tebibyte, [{ first: 0, count: 2, entry: chunk(1) }]),
    /not a change/,
  );
});

t.test('a look at what is not loaded answers at once', async (t) => {
  const nodes = new Nodes();
  const map = await revise(nodes, undefined, tebibyte, [one(5, chunk(1))]);
  const cache = new NodeCache();
  const chunkMap = new ChunkMap(map, nodes, cache);
  nodes.forget();
  t.equal(chunkMap.peekEntry(5), undefined);
  t.equal(chunkMap.peekEntry(tebibyte / chunkBytes), 'zero', 'past the end');
  t.same(await chunkMap.entry(5), chunk(1));
  t.same(chunkMap.peekEntry(5), chunk(1));
  t.equal(chunkMap.peekEntry(perNode ** 2), 'zero', 'a zero subtree needs no node');
  t.equal(nodes.reads, 3);
  await Promise.all(Array.from({ length: 8 }, () => new ChunkMap(map, nodes, cache).entry(6)));
  t.equal(nodes.reads, 3, 'maps share a cache');
});

t.test('the node cache keeps to its bound and shares loads', async (t) => {
  const nodes = new Nodes();
  const changes = Array.from({ length: 40 }, (_, leaf) => one(leaf * perNode, chunk(leaf + 1)));
  const map = await revise(nodes, undefined, 40 * perNode * chunkBytes, changes);
  const cache = new NodeCache(100_000);
  const chunkMap = new ChunkMap(map, nodes, cache);
  nodes.forget();
  await Promise.all(Array.from({ length: 8 }, () => chunkMap.entry(0)));
  t.equal(nodes.reads, 2, 'eight loads of one path share their reads');
  for (const { first, entry } of changes) t.same(await chunkMap.entry(first), entry);
  t.ok(cache.bytes <= 100_000, `${cache.bytes} bytes`);
  t.ok(cache.bytes > 50_000);
});
