/** Chunks that are made out of earlier ones that are at hand. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { createFetcher, type Fetcher } from '../../src/fetch/index.js';
import { packKey } from '../../src/repo/index.js';
import { StoreUnreachable } from '../../src/store/index.js';
import { encodeDelta, encodeDeltaIndex } from '../../src/repo/format/delta.js';
import {
  contentOf,
  InlineCodec,
  ManualClock,
  packIdOf,
  putChunks,
  putPack,
  repositoryId,
  sameBytes,
  ScriptedStore,
  until,
  type PackedBlob,
} from './support.js';

const chunkBytes = 64 * 1024;
const pageBytes = 4096;
const demand = { fetchClass: 'demand' } as const;
const background = { fetchClass: 'background' } as const;

interface Version {
  readonly chunks: readonly PackedBlob[];
  readonly deltas: readonly PackedBlob[];
  readonly index: PackedBlob;
}

class Lab {
  readonly store = new ScriptedStore();
  readonly directory: string;
  readonly #t: Test;

  private constructor(t: Test, directory: string) {
    this.#t = t;
    this.directory = directory;
  }

  static async create(t: Test): Promise<Lab> {
    const directory = await mkdtemp(join(tmpdir(), 'isr-deltas-'));
    t.teardown(() => rm(directory, { recursive: true, force: true }));
    return new Lab(t, directory);
  }

  /** Two versions, and a fetcher that has all of the first and knows the deltas of the second; nothing else was asked for. */
  async behind(
    count: number,
    clock: ManualClock,
  ): Promise<{ readonly second: Version; readonly fetcher: Fetcher }> {
    const first = { chunks: await putChunks(this.store, 1, count, chunkBytes) };
    const second = await this.revise(first, 10, 3);
    const fetcher = await this.fetcher('cache', [], clock);
    await fetcher.warmChunks(
      first.chunks.map(({ reference }) => reference),
      background,
    );
    this.store.gets.length = 0;
    await this.use(fetcher, second.index);
    return { second, fetcher };
  }

  /** From then on the fetcher knows the deltas that an index names. */
  async use(fetcher: Fetcher, { reference }: PackedBlob): Promise<void> {
    fetcher.useDeltas(reference);
    await until(() => fetcher.status().deltas.known > 0, 'the index is there');
  }

  async fetcher(name: string, tiers: readonly string[] = [], clock = new ManualClock()): Promise<Fetcher> {
    const fetcher = await createFetcher({
      repository: { store: this.store, codec: new InlineCodec() },
      ...{ cachePath: join(this.directory, name), localCacheBytes: 1e9, repositoryId },
      ...{ memoryCacheBytes: 0, chunkBytes, tiers, clock, random: () => 0.5 },
    });
    this.#t.teardown(() => fetcher[Symbol.asyncDispose]());
    return fetcher;
  }

  /** The version after `before`, in which page `page` of each chunk has other content. */
  async revise(
    before: Pick<Version, 'chunks'>,
    packNumber: number,
    page: number,
    earlier?: Version,
  ): Promise<Version> {
    const plaintexts = before.chunks.map(({ plaintext }, position) => {
      const revised = new Uint8Array(plaintext);
      revised.set(contentOf(packNumber * 1_000_003 + position, pageBytes), page * pageBytes);
      return revised;
    });
    const chunks = await putPack(
      this.store,
      packIdOf(packNumber),
      plaintexts.map((plaintext) => ({ plaintext })),
    );
    const deltas = await putPack(
      this.store,
      packIdOf(packNumber + 1),
      plaintexts.map((plaintext, position) => ({
        plaintext: deltaOf(before.chunks[position]!, plaintext),
        kind: 'delta',
      })),
    );
    const entries = [
      ...indexOf(before.chunks, chunks, deltas),
      ...(earlier === undefined ? [] : entriesOf(earlier)),
    ];
    const [index] = await putPack(this.store, packIdOf(packNumber + 2), [
      { plaintext: encodeDeltaIndex(entries), kind: 'delta-index' },
    ]);
    return Object.assign({ chunks, deltas, index: index! }, { entries });
  }
}

function indexOf(bases: readonly PackedBlob[], chunks: readonly PackedBlob[], deltas: readonly PackedBlob[]) {
  return chunks.map(({ reference }, position) => ({
    chunkId: reference.id,
    base: bases[position]!.reference,
    delta: deltas[position]!.reference,
  }));
}

function entriesOf(version: Version): ReturnType<typeof indexOf> {
  return (version as Version & { readonly entries: ReturnType<typeof indexOf> }).entries;
}

function deltaOf({ reference, plaintext: base }: PackedBlob, plaintext: Uint8Array): Uint8Array {
  return encodeDelta(reference.id, base, plaintext, chunkBytes)!;
}

function got(store: ScriptedStore, packNumber: number): boolean {
  return store.gets.some(({ key }) => key === packKey(packIdOf(packNumber)));
}

t.test('where the earlier chunk is in the local cache, the delta is fetched and not the chunk', async (t) => {
  const lab = await Lab.create(t);
  const { second, fetcher } = await lab.behind(8, new ManualClock());
  for (const { reference, plaintext } of second.chunks)
    t.ok(sameBytes(await fetcher.readChunk(reference, demand), plaintext));
  t.notOk(got(lab.store, 10), 'no chunk came');
  t.ok(lab.store.gets.length < 8, 'deltas come together');
  t.equal(fetcher.status().deltas.chunks, 8);
  t.ok(fetcher.status().deltas.savedBytes > 8 * 50_000);
  await until(() => second.chunks.every(({ reference }) => fetcher.isLocal(reference)), 'they are kept');
  lab.store.gets.length = 0;
  for (const { reference, plaintext } of second.chunks)
    t.ok(sameBytes(await fetcher.readChunk(reference, demand), plaintext), 'what was kept is right');
  t.equal(lab.store.gets.length, 0);
});

t.test('where it is at a lookaside place as well, for demand and for many at once', async (t) => {
  const lab = await Lab.create(t);
  const first = { chunks: await putChunks(lab.store, 1, 8, chunkBytes) };
  const second = await lab.revise(first, 10, 0);
  const neighbour = await lab.fetcher('neighbour');
  await neighbour.warmChunks(
    first.chunks.map(({ reference }) => reference),
    background,
  );
  await neighbour[Symbol.asyncDispose]();
  const fetcher = await lab.fetcher('mine', [join(lab.directory, 'neighbour')]);
  lab.store.gets.length = 0;
  await lab.use(fetcher, second.index);
  const [one, ...others] = second.chunks;
  t.ok(sameBytes(await fetcher.readChunk(one!.reference, demand), one!.plaintext));
  await fetcher.warmChunks(
    others.map(({ reference }) => reference),
    background,
  );
  t.notOk(got(lab.store, 10));
  for (const { reference, plaintext } of second.chunks)
    t.ok(sameBytes(await fetcher.readChunk(reference, demand), plaintext));
  t.equal(fetcher.status().deltas.chunks, 8);
});

t.test('several versions later: delta upon delta', async (t) => {
  const lab = await Lab.create(t);
  const first = { chunks: await putChunks(lab.store, 1, 3, chunkBytes) };
  const second = await lab.revise(first, 10, 0);
  const third = await lab.revise(second, 20, 0, second);
  const fourth = await lab.revise(third, 30, 5, third);
  const fetcher = await lab.fetcher('cache');
  await fetcher.warmChunks(
    first.chunks.map(({ reference }) => reference),
    background,
  );
  lab.store.gets.length = 0;
  await lab.use(fetcher, fourth.index);
  for (const { reference, plaintext } of fourth.chunks)
    t.ok(sameBytes(await fetcher.readChunk(reference, demand), plaintext));
  for (const packNumber of [10, 20, 30]) t.notOk(got(lab.store, packNumber));
});

t.test(
  'without an earlier chunk at hand, the chunk itself comes; and on an empty host not even the index',
  async (t) => {
    const lab = await Lab.create(t);
    const first = { chunks: await putChunks(lab.store, 1, 4, chunkBytes) };
    const second = await lab.revise(first, 10, 0);
    const unrelated = await putChunks(lab.store, 2, 1, chunkBytes);
    for (const isEmpty of [true, false]) {
      const fetcher = await lab.fetcher(isEmpty ? 'empty' : 'other');
      if (!isEmpty) await fetcher.warmChunk(unrelated[0]!.reference, background);
      lab.store.gets.length = 0;
      fetcher.useDeltas(second.index.reference);
      for (const { reference, plaintext } of second.chunks)
        t.ok(sameBytes(await fetcher.readChunk(reference, demand), plaintext));
      t.equal(got(lab.store, 12), !isEmpty);
      t.notOk(got(lab.store, 11), 'no delta is fetched for nothing');
      t.equal(fetcher.status().deltas.chunks, 0);
      t.equal(fetcher.status().errors, 0);
    }
  },
);

t.test('whatever is wrong with deltas, the chunk is right', async (t) => {
  const lab = await Lab.create(t);
  const first = { chunks: await putChunks(lab.store, 1, 4, chunkBytes) };
  const second = await lab.revise(first, 10, 0);
  const [a, b, c] = indexOf(first.chunks, second.chunks, second.deltas);
  const [lying] = await putPack(lab.store, packIdOf(50), [
    {
      // Another's delta; one that is not there; one of another base.
      plaintext: encodeDeltaIndex([
        { ...a!, delta: b!.delta },
        { ...b!, delta: { ...b!.delta, packId: packIdOf(99) } },
        { ...c!, base: first.chunks[3]!.reference },
      ]),
      kind: 'delta-index',
    },
  ]);
  const broken = { ...second.index.reference, id: first.chunks[0]!.reference.id };
  for (const [name, index] of [
    ['lying', lying!.reference],
    ['broken', broken],
  ] as const) {
    const fetcher = await lab.fetcher(name);
    await fetcher.warmChunks(
      first.chunks.map(({ reference }) => reference),
      background,
    );
    if (name === 'lying') await lab.use(fetcher, lying!);
    else fetcher.useDeltas(index);
    for (const { reference, plaintext } of second.chunks)
      t.ok(sameBytes(await fetcher.readChunk(reference, demand), plaintext), name);
    t.equal(fetcher.status().deltas.chunks, 0);
  }
});

t.test('demand does not wait behind others that are being made, and takes over what is', async (t) => {
  const lab = await Lab.create(t);
  const { second, fetcher } = await lab.behind(40, new ManualClock());
  lab.store.hold();
  const warming = fetcher.warmChunks(
    second.chunks.map(({ reference }) => reference),
    background,
  );
  await until(() => lab.store.holding > 0, 'some wait for their deltas');
  const last = second.chunks.at(-1)!;
  const reading = fetcher.readChunk(last.reference, demand);
  await until(() => fetcher.status().fetches.demand.requests > 0, 'the store is asked for it');
  lab.store.release();
  t.ok(sameBytes(await reading, last.plaintext));
  await warming;
  t.notOk(got(lab.store, 10));
  for (const { reference, plaintext } of second.chunks)
    t.ok(sameBytes(await fetcher.readChunk(reference, demand), plaintext));
});

t.test('who gives up, or closes, while the store is silent waits for nothing', async (t) => {
  const lab = await Lab.create(t);
  const { second, fetcher } = await lab.behind(20, new ManualClock());
  lab.store.onGet = () => {
    throw new StoreUnreachable({ store: 'scripted:', key: undefined, reason: 'away' });
  };
  const giveUp = new AbortController();
  const references = second.chunks.map(({ reference }) => reference);
  const reading = t.rejects(fetcher.readChunk(references[0]!, { ...demand, signal: giveUp.signal }), {
    code: 'CANCELLED',
  });
  const warming = t.rejects(fetcher.warmChunks(references.slice(1), background), { code: 'CANCELLED' });
  await until(() => fetcher.status().waitingForStore !== undefined, 'it waits for the store');
  giveUp.abort();
  await reading;
  await fetcher[Symbol.asyncDispose]();
  await warming;
});

t.test('a delta that does not come in time is done without', async (t) => {
  const lab = await Lab.create(t);
  const clock = new ManualClock();
  const { second, fetcher } = await lab.behind(2, clock);
  const deltas = packKey(packIdOf(11));
  lab.store.onGet = ({ key }, found) => {
    if (key === deltas)
      throw new StoreUnreachable({ store: 'scripted:', key: undefined, reason: 'this one is away' });
    return found;
  };
  const [chunk] = second.chunks;
  const reading = fetcher.readChunk(chunk!.reference, demand);
  await until(() => clock.sleeping > 0 && got(lab.store, 11), 'it is tried');
  let isRead = false;
  void reading.then(() => (isRead = true));
  await until(() => {
    if (!isRead) clock.advance(1000);
    return isRead;
  }, 'the chunk itself comes');
  t.ok(sameBytes(await reading, chunk!.plaintext));
});
