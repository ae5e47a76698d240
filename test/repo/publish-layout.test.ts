/** What a resume is expected to want lies together in packs, in that order; nothing else about a version depends on it. */
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { Cancelled, limits } from '../../src/base/index.js';
import {
  ChunkMap,
  NodeCache,
  packKey,
  Repository,
  verifyVersion,
  type BlobReference,
  type FileMap,
  type PackId,
  type Published,
  type PublishRequest,
  type SourceFile,
  type VersionNumber,
  type WantedChunk,
} from '../../src/repo/index.js';
import { packRanges } from '../../src/repo/pack-ranges.js';
import { withLaidOut } from '../../src/repo/publish/source-ranges.js';
import { ObservedStore } from '../../src/store/index.js';
import { MemoryStore } from '../support/memory-store.js';
import { difference, ModelFile, publish, readChunks, sourceOf } from './publish-support.js';

const chunkBytes = limits.chunkBytesMin;
/** Of 16 KiB chunks, a warm request's usual reach. */
const requests = { gapBytes: limits.warmGapBytes, rangeBytes: limits.warmRangeBytes };

interface Lab {
  readonly memory: MemoryStore;
  readonly store: ObservedStore;
  readonly repository: Repository;
}

async function begin(t: Test): Promise<Lab> {
  const memory = new MemoryStore();
  const store = new ObservedStore(memory);
  const { repository } = await Repository.create(store, { chunkBytes });
  t.teardown(() => repository[Symbol.asyncDispose]());
  return { memory, store, repository };
}

async function fileOf(chunks: number): Promise<ModelFile> {
  const file = new ModelFile(chunkBytes, chunks * chunkBytes);
  for (let index = 0; index < chunks; index += 1) file.write(index, index + 1);
  return file;
}

type Made = Extract<Published, { outcome: 'published' }>;

async function publishFiles(
  { repository }: Lab,
  files: Readonly<Record<string, ModelFile>>,
  request: Partial<PublishRequest> = {},
): Promise<Made> {
  const head = await repository.history(request.vmName ?? 'vm').head();
  const published = await publish(repository, {
    source: sourceOf(files),
    parent: head.latest?.version,
    ...request,
  });
  if (published.outcome !== 'published') throw new Error(published.outcome);
  t.ok((await verifyVersion({ repository, commit: published.commit })).intact);
  const maps = [...published.files.values()];
  for (const [position, file] of Object.values(files).entries()) {
    const map = maps[position]!;
    const found = await readChunks(map, repository.blobs);
    t.equal(difference(file.chunks, found), undefined, 'the content is what it was');
    file.published(map);
  }
  return published;
}

/** Where the wanted chunks of one file lie, in their order. */
async function placesOf(
  { repository }: Lab,
  map: FileMap,
  indexes: readonly number[],
): Promise<BlobReference[]> {
  const chunkMap = new ChunkMap(map, repository.blobs, new NodeCache());
  const entries = await Promise.all(indexes.map((index) => chunkMap.entry(index)));
  return entries.filter((entry) => entry !== 'zero');
}

async function rangesOf(lab: Lab, map: FileMap | undefined, indexes: readonly number[]): Promise<number> {
  if (map === undefined) throw new Error('no map');
  return [...packRanges(await placesOf(lab, map, indexes), requests)].length;
}

const mapOf = (published: Made, position = 0) => [...published.files.values()][position];
const wanted = (path: string, indexes: readonly number[]): WantedChunk[] =>
  indexes.map((chunkIndex) => ({ path, chunkIndex }));

/** Every twentieth chunk, here and there: 50 of 1000. */
const scattered = Array.from({ length: 50 }, (_, at) => ((at * 7) % 50) * 20);

t.test('wanted chunks are stored first, together, in their order, across files', async (t) => {
  const lab = await begin(t);
  const files = { mem: await fileOf(300), 'disk.img': await fileOf(400), state: await fileOf(3) };
  const layout = [
    ...wanted('state', [0, 1, 2]),
    ...wanted('mem', [200, 5]),
    ...wanted('disk.img', [7]),
    ...wanted('mem', [6, 299]),
    ...wanted('gone', [1]),
    ...wanted('mem', [300, 100_000]),
  ];
  const published = await publishFiles(lab, files, { layout });
  const [mem, disk, state] = published.files.values();
  const places = [
    ...(await placesOf(lab, state!, [0, 1, 2])),
    ...(await placesOf(lab, mem!, [200, 5])),
    ...(await placesOf(lab, disk!, [7])),
    ...(await placesOf(lab, mem!, [6, 299])),
  ];
  t.equal(new Set(places.map(({ packId }) => packId)).size, 1);
  for (const [position, place] of places.entries()) {
    const before = places[position - 1];
    t.equal(place.offsetBytes, before === undefined ? 28 : before.offsetBytes + before.sealedBytes);
  }
});

t.test('a resume of what changed needs a few ranges instead of one a chunk', async (t) => {
  const ranges = async (layout: readonly WantedChunk[]) => {
    const lab = await begin(t);
    const published = await publishFiles(lab, { mem: await fileOf(1000) }, { layout });
    return rangesOf(lab, mapOf(published), scattered);
  };
  const before = await ranges([]);
  const after = await ranges(wanted('mem', scattered));
  t.comment(`${scattered.length} wanted chunks of 1000: ${before} ranges before, ${after} after`);
  t.ok(before > 0.9 * scattered.length);
  t.equal(after, 1);
});

t.test(
  'chunks that did not change are stored again within the budget, so that their requests go away',
  async (t) => {
    const lab = await begin(t);
    const file = await fileOf(1000);
    await publishFiles(lab, { mem: file });
    const plain = scattered.filter((index) => index < 400 || index >= 700).slice(0, 20);
    const changing = Array.from({ length: 300 }, (_, at) => 400 + at);
    const want = wanted('mem', [...changing, ...plain]);
    const change = (seed: number) => {
      for (const index of changing) file.write(index, index + seed);
    };

    change(10_000);
    const without = await publishFiles(lab, { mem: file }, { layout: want, rewriteFraction: 0 });
    const before = await rangesOf(lab, mapOf(without), plain);
    change(20_000);
    const changed = await publishFiles(lab, { mem: file }, { layout: want });
    const after = await rangesOf(lab, mapOf(changed), plain);
    t.comment(
      `20 unchanged chunks: ${before} ranges before, ${after} after; ${without.storedBytes} and ${changed.storedBytes} bytes stored`,
    );
    t.ok(after < before / 2);
    const spent = changed.storedBytes - without.storedBytes;
    t.ok(spent > 0 && spent <= 1.01 * limits.layoutRewriteFraction * without.storedBytes);
    change(30_000);
    const next = await publishFiles(lab, { mem: file }, { layout: want });
    t.equal(await rangesOf(lab, mapOf(next), plain), 2, 'the next one goes on with the others');
  },
);

t.test('nothing is stored again when nothing changed, and no version is made', async (t) => {
  const lab = await begin(t);
  const file = await fileOf(100);
  const { commit } = await publishFiles(lab, { mem: file });
  const layout = wanted('mem', [90, 10, 50]);
  const request = { source: sourceOf({ mem: file }), parent: commit.version, layout, rewriteFraction: 1 };
  t.equal((await publish(lab.repository, request)).outcome, 'unchanged');
  file.touch(10);
  t.equal((await publish(lab.repository, request)).outcome, 'unchanged');
  t.equal(lab.memory.keys('pack/').length, 2);
});

t.test('a chunk that cannot be read stays where it is, and the version is made', async (t) => {
  const lab = await begin(t);
  const file = await fileOf(100);
  await publishFiles(lab, { mem: file });
  for (let index = 0; index < 50; index += 1) file.write(index, 1000 + index);
  const readChunks = file.readChunks.bind(file);
  file.readChunks = (first, into) => {
    if (first >= 50) throw new Error('damaged');
    readChunks(first, into);
  };
  const layout = wanted('mem', [...Array.from({ length: 50 }, (_, at) => at), 60, 80]);
  const parent = 1 as VersionNumber;
  const source = sourceOf({ mem: file });
  const published = await publish(lab.repository, { source, parent, layout, rewriteFraction: 1 });
  t.equal(published.outcome, 'published');
});

t.test('content that was exchanged in the store gets no place in a new version', async (t) => {
  const lab = await begin(t);
  const file = await fileOf(100);
  const first = await publishFiles(lab, { mem: file });
  const [before] = await placesOf(lab, mapOf(first)!, [80]);
  for (let index = 0; index < 50; index += 1) file.write(index, 1000 + index);
  // As if whoever knows the keys of packs had sealed something else in its place.
  file.chunks.set(80, Buffer.alloc(chunkBytes, 'foreign'));
  const layout = wanted('mem', [...Array.from({ length: 50 }, (_, at) => at), 80]);
  const source = sourceOf({ mem: file });
  const published = await publish(lab.repository, {
    source,
    parent: 1 as VersionNumber,
    layout,
    rewriteFraction: 1,
  });
  if (published.outcome !== 'published') throw new Error(published.outcome);
  t.same(await placesOf(lab, mapOf(published)!, [80]), [before]);
});

t.test('whatever is wanted, a version has the content of its source', async (t) => {
  const lab = await begin(t);
  let runs = 0;
  const anyIndex = fc.nat(600);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(anyIndex, fc.constantFrom('write', 'touch', 'clear', 'punch'), fc.integer({ min: 1, max: 9 }))), // prettier-ignore
      fc.array(fc.tuple(fc.constantFrom('mem', 'other', 'gone'), anyIndex)),
      fc.constantFrom(0, 0.05, 10),
      fc.integer({ min: 1, max: 520 * chunkBytes }),
      async (changes, wants, rewriteFraction, sizeBytes) => {
        const vmName = `vm-${runs++}`;
        const mem = new ModelFile(chunkBytes, 514 * chunkBytes);
        for (let index = 0; index < 514; index += 23) mem.write(index, index + 1);
        const other = await fileOf(5);
        await publishFiles(lab, { mem, other }, { vmName });
        mem.resize(sizeBytes);
        for (const [index, how, seed] of changes) {
          if (how === 'write') mem.write(index, seed);
          else if (how === 'touch') mem.touch(index);
          else mem.clear(index, seed, how === 'clear' ? 'data' : 'zero');
        }
        other.write(1, 77);
        const layout = wants.map(([path, chunkIndex]) => ({ path, chunkIndex }));
        await publishFiles(lab, { mem, other }, { vmName, layout, rewriteFraction });
      },
    ),
    { numRuns: 12 },
  );
});

/** Of chunks that differ and are made in no time. */
function cheapFile(chunks: number): SourceFile {
  return {
    sizeBytes: chunks * chunkBytes,
    base: undefined,
    async *changedChunks() {
      yield { first: 0, count: chunks };
    },
    readChunks(first, into) {
      for (let at = 0; at < into.length; at += chunkBytes) {
        into.set(Buffer.alloc(chunkBytes, `${first + at / chunkBytes} `), at);
      }
    },
  };
}

t.test('a publish that is taken up again uploads nothing twice', async (t) => {
  const lab = await begin(t);
  const chunksPerPack = limits.packPlaintextBytes / chunkBytes;
  const chunks = 3 * chunksPerPack;
  const layout = wanted('mem', Array.from({ length: chunksPerPack * 1.5 }, (_, at) => (at * 2) % chunks)); // prettier-ignore
  const uploaded = async (lab: Lab, packsMax: number, record: PackId[]): Promise<number> => {
    const abort = new AbortController();
    const before = lab.store.counts().put.bytes;
    const earlierPacks = [...record];
    const source = sourceOf({ mem: cheapFile(chunks) });
    const onPackBegun = async (packId: PackId) => {
      if (record.length - earlierPacks.length >= packsMax) abort.abort();
      record.push(packId);
    };
    await publish(lab.repository, { source, layout, signal: abort.signal, earlierPacks, onPackBegun }).catch(
      (error: unknown) => {
        if (!(error instanceof Cancelled)) throw error;
      },
    );
    return lab.store.counts().put.bytes - before;
  };
  const whole = await uploaded(await begin(t), Infinity, []);
  const record: PackId[] = [];
  // The first packs are smaller.
  const first = await uploaded(lab, 4, record);
  const second = await uploaded(lab, Infinity, record);
  t.ok(first > 0.25 * whole, `${first} of ${whole} before it was cancelled`);
  t.ok(first + second < 1.05 * whole, `${first} and ${second} instead of ${whole}`);
  const { latest } = await lab.repository.history('vm').head();
  t.ok((await verifyVersion({ repository: lab.repository, commit: latest! })).intact);
});

t.test('chunks that lie ahead take their place among ranges', async (t) => {
  const ranges = async function* () {
    yield { first: 2, count: 4 };
    yield { first: 8, count: 10, zero: true } as const;
  };
  const found = [];
  for await (const range of withLaidOut([[0, 'zero'], [2, 'unchanged'], [4, 'zero'], [7, 'zero'], [30, 'zero']], ranges())) found.push(range); // prettier-ignore
  t.strictSame(found, [
    { first: 0, count: 1, entry: 'zero' },
    { first: 2, count: 1, entry: 'unchanged' },
    { first: 3, count: 1 },
    { first: 4, count: 1, entry: 'zero' },
    { first: 5, count: 1 },
    { first: 7, count: 1, entry: 'zero' },
    { zero: true, first: 8, count: 10 },
    { first: 30, count: 1, entry: 'zero' },
  ]);
});

t.test('a file of one chunk can move too', async (t) => {
  const lab = await begin(t);
  const [small, big] = [await fileOf(1), await fileOf(100)];
  const first = await publishFiles(lab, { small, big });
  for (let index = 0; index < 100; index += 1) big.write(index, 1000 + index);
  const layout = [...wanted('big', [5, 6, 7]), ...wanted('small', [0])];
  const second = await publishFiles(lab, { small, big }, { layout, rewriteFraction: 1 });
  t.not(mapOf(first)?.root, mapOf(second)?.root);
  const [place] = await placesOf(lab, mapOf(second)!, [0]);
  t.ok(lab.memory.objects.has(packKey(place!.packId)));
  t.equal(await rangesOf(lab, mapOf(second, 1), [5, 6, 7]), 1);
});
