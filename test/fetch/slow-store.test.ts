import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { limits } from '../../src/base/index.js';
import { createFetcher, type CacheFiles, type Fetcher, type LinkCaps } from '../../src/fetch/index.js';
import {
  LabStore,
  perfectConditions,
  seededRandom,
  StoreUnreachable,
  type ObjectStore,
} from '../../src/store/index.js';
import { MemoryStore } from '../support/memory-store.js';
import { VirtualClock } from '../store/virtual-clock.js';
import { SlowStore } from './slow-store.js';
import { InlineCodec, putChunks, repositoryId, sameBytes, type PackedBlob } from './support.js';

const demand = { fetchClass: 'demand' } as const;
const background = { fetchClass: 'background' } as const;

/** A disk that takes everything, keeps nothing, and never lets anybody wait. */
const disk = {
  open: async () => ({
    writev: async (parts: readonly Uint8Array[]) => ({
      bytesWritten: parts.reduce((sum, part) => sum + part.length, 0),
    }),
    close: async () => undefined,
  }),
  mkdir: async () => undefined,
  rename: async () => undefined,
  rm: async () => undefined,
  utimes: async () => undefined,
} as unknown as CacheFiles;

/** Nothing but promises and the clock is waited for. */
async function openFetcher(
  t: Test,
  clock: VirtualClock,
  store: ObjectStore,
  caps: LinkCaps = {},
): Promise<Fetcher> {
  const directory = await mkdtemp(join(tmpdir(), 'isr-slow-store-'));
  const fetcher = await createFetcher({
    repository: { store, codec: new InlineCodec() },
    cachePath: join(directory, 'cache'),
    ...{
      repositoryId,
      localCacheBytes: 1e9,
      memoryCacheBytes: 0,
      cacheFiles: disk,
      chunkBytes: 65_536,
      clock,
      caps,
    },
    random: seededRandom(1),
  });
  t.teardown(async () => {
    await fetcher[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  });
  return fetcher;
}

async function slow(t: Test) {
  const clock = new VirtualClock();
  const store = new SlowStore(clock, 8192);
  return { clock, store, fetcher: await openFetcher(t, clock, store) };
}

/** Reads chunks one after the other, and says how long each took. */
async function readOneByOne(
  clock: VirtualClock,
  fetcher: Fetcher,
  chunks: readonly PackedBlob[],
): Promise<number[]> {
  const durations: number[] = [];
  for (const { reference, plaintext } of chunks) {
    const startedAt = clock.now();
    if (!sameBytes(await fetcher.readChunk(reference, demand), plaintext)) throw new Error('wrong bytes');
    durations.push(clock.now() - startedAt);
  }
  return durations;
}

t.test(
  'a body that stands still does not hold a demand up: after a while it is asked for again',
  async (t) => {
    const { clock, store, fetcher } = await slow(t);
    const chunks = await putChunks(store, 1, 6, 60_000);
    await clock.run(readOneByOne(clock, fetcher, chunks.slice(0, 4)));
    store.plan = (request) => ({
      latencyMs: 10,
      ...(request === 4 || request === 5 ? { stallsAfterBytes: 20_000 } : {}),
    });
    const [tookMs] = await clock.run(readOneByOne(clock, fetcher, chunks.slice(4, 5)));
    const { tryMs } = limits.storePatience;
    t.ok(
      tookMs! >= 3 * tryMs && tookMs! < 6.5 * tryMs,
      `twice, with twice the patience the second time: ${tookMs} ms`,
    );
    t.match(fetcher.status(), { trouble: { timeouts: 2, retries: 2, hedges: 0 }, errors: 0 });
    t.equal(store.cancelled, 2, 'what is given up is cancelled');

    store.plan = () => ({ latencyMs: 10, stallsAfterBytes: 0 });
    const out = fetcher.readChunk(chunks[5]!.reference, demand);
    const untilOutage = async (): Promise<void> => {
      while (fetcher.status().waitingForStore === undefined)
        await clock.delay(100, new AbortController().signal);
    };
    await clock.run(untilOutage());
    t.match(
      fetcher.status().waitingForStore,
      { reason: /no answer within/ },
      'then the store counts as away',
    );
    store.plan = () => ({ latencyMs: 10 });
    t.ok(sameBytes(await clock.run(out), chunks[5]!.plaintext));
  },
);

t.test('a slow demand gets a second request, which is not many', async (t) => {
  const { clock, store, fetcher } = await slow(t);
  const chunks = await putChunks(store, 1, 400, 1000, limits.demandGapBytes + 1);
  // One answer in 25 is slow; requests for the same range again are quick.
  const seen = new Set<number>();
  let slowOnes = 0;
  store.plan = (request, { offsetBytes }) => {
    const isFirst = !seen.has(offsetBytes);
    seen.add(offsetBytes);
    const isSlow = isFirst && request > 40 && request % 25 === 0;
    if (isSlow) slowOnes += 1;
    return { latencyMs: isSlow ? 900 : 10 };
  };
  const durations = await clock.run(readOneByOne(clock, fetcher, chunks));
  const { hedges, hedgesWon, timeouts } = fetcher.status().trouble;
  t.ok(
    hedges > 10 && hedges <= limits.hedgesSaved + limits.hedgeShare * 400,
    `${hedges} for ${slowOnes} slow ones`,
  );
  t.equal(hedgesWon, hedges);
  t.equal(timeouts, 0);
  t.equal(
    durations.filter((ms) => ms > 500).length,
    slowOnes - hedges,
    'each that was made spared its demand the wait',
  );
  t.equal(store.cancelled, hedges, 'whichever comes second is cancelled');
  t.equal(store.ranges.length, 400 + hedges);
});

t.test('in a long range, each waiter is woken when its piece is there', async (t) => {
  const { clock, store, fetcher } = await slow(t);
  const chunks = await putChunks(store, 1, 16, 60_000);
  const startedAt = clock.now();
  const arrivals = await clock.run(
    Promise.all(
      chunks.map(async ({ reference, plaintext }) => {
        const read = await fetcher.readChunk(reference, demand);
        return { atMs: clock.now() - startedAt, isRight: sameBytes(read, plaintext) };
      }),
    ),
  );
  t.ok(arrivals.every(({ isRight }) => isRight));
  t.equal(store.ranges.length, 1, 'urgent neighbours that are wanted at once come with one request');
  const [first, last] = [arrivals[0]!.atMs, arrivals.at(-1)!.atMs];
  t.ok(first < 20 && last > 100, `the first after ${first} ms, the last after ${last} ms`);
});

t.test('what arrived of a range is not asked for again when its end fails', async (t) => {
  const { clock, store, fetcher } = await slow(t);
  const chunks = await putChunks(store, 1, 16, 60_000);
  store.plan = (request) => ({ latencyMs: 10, ...(request === 0 ? { stallsAfterBytes: 600_000 } : {}) });
  const references = chunks.map(({ reference }) => reference);
  const reads = await clock.run(
    Promise.all(references.map((reference) => fetcher.readChunk(reference, demand))),
  );
  t.ok(reads.every((read, index) => sameBytes(read, chunks[index]!.plaintext)));
  t.equal(store.ranges.length, 2);
  t.equal(store.ranges[1]!.offsetBytes, references[10]!.offsetBytes, 'only what was missing');
});

t.test('failures here and there hold nobody else up', async (t) => {
  const { clock, store, fetcher } = await slow(t);
  const chunks = await putChunks(store, 1, 200, 1000, limits.demandGapBytes + 1);
  const random = seededRandom(5);
  const error = new StoreUnreachable({ store: 'slow:', key: undefined, reason: 'reset' });
  store.plan = () => ({ latencyMs: 10, ...(random() < 0.05 ? { error } : {}) });
  const durations = await clock.run(readOneByOne(clock, fetcher, chunks));
  const { trouble, waitingForStore } = fetcher.status();
  t.ok(trouble.unreachable > 3, `${trouble.unreachable} failed`);
  t.equal(trouble.retries, trouble.unreachable);
  t.equal(waitingForStore, undefined);
  t.ok(Math.max(...durations) < 100, `at most ${Math.max(...durations)} ms`);
});

const labObjects = new MemoryStore();
const labChunks = Promise.all([
  putChunks(labObjects, 1, 40, 60_000, limits.warmGapBytes + 1),
  putChunks(labObjects, 2, 120, 60_000),
]);

/** A link of the lab, with chunks for demand and others for a background fetch. */
async function lab(t: Test, megabitsPerSecond: number, roundTripMs: number, caps: LinkCaps = {}) {
  const clock = new VirtualClock();
  const conditions = { ...perfectConditions, megabitsPerSecond, roundTripMs };
  const store = new LabStore(labObjects, conditions, clock, seededRandom(1));
  const fetcher = await openFetcher(t, clock, store, caps);
  const [wanted, others] = await labChunks;
  return { clock, fetcher, wanted, others, chunkMs: 60_000 / ((megabitsPerSecond * 1e6) / 8000) };
}

/** Warms in ranges until it is stopped. */
function warmAll(fetcher: Fetcher, chunks: readonly PackedBlob[]): { readonly stop: () => Promise<unknown> } {
  const abort = new AbortController();
  const references = chunks.map(({ reference }) => reference);
  const work = fetcher
    .warmChunks(references, { ...background, signal: abort.signal })
    .catch((error: unknown) => error);
  return {
    stop: () => {
      abort.abort();
      return work;
    },
  };
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? NaN;
}

for (const [megabitsPerSecond, roundTripMs] of [
  [100, 20],
  [10, 20],
  [1000, 1],
] as const) {
  t.test(`demand under background load, ${megabitsPerSecond} Mb/s and ${roundTripMs} ms`, async (t) => {
    const { clock, fetcher, wanted, others, chunkMs } = await lab(t, megabitsPerSecond, roundTripMs);
    const idle = median(await clock.run(readOneByOne(clock, fetcher, wanted.slice(0, 20))));
    const load = warmAll(fetcher, others);
    const loaded = median(await clock.run(readOneByOne(clock, fetcher, wanted.slice(20))));
    await clock.run(load.stop());
    t.ok(
      loaded <= 1.5 * idle + chunkMs + 1e-6,
      `idle ${idle} ms, loaded ${loaded} ms, a transfer ${chunkMs} ms`,
    );
    t.ok(fetcher.status().fetches.background.bytes > 0, 'and the background goes on meanwhile');
  });
}

t.test('the link is estimated from what comes over it', async (t) => {
  const { clock, fetcher, others } = await lab(t, 100, 20);
  await clock.run(Promise.all(others.map(({ reference }) => fetcher.readChunk(reference, demand))));
  const { roundTripMs, bytesPerSecond } = fetcher.status().link;
  t.ok(roundTripMs! > 15 && roundTripMs! < 30, `${roundTripMs} ms`);
  t.ok(bytesPerSecond! > 11e6 && bytesPerSecond! < 14e6, `${bytesPerSecond} bytes/s`);
});

t.test('bandwidth is capped where somebody wants that, and all the same everything comes', async (t) => {
  const bytesPerSecond = 1_000_000;
  for (const caps of [{ bytesPerSecond }, { backgroundBytesPerSecond: bytesPerSecond }]) {
    const { clock, fetcher, others, wanted } = await lab(t, 100, 5, caps);
    const startedAt = clock.now();
    const all = fetcher.warmChunks(
      others.map(({ reference }) => reference),
      background,
    );
    const [first] = await clock.run(readOneByOne(clock, fetcher, wanted.slice(0, 1)));
    if ('backgroundBytesPerSecond' in caps) t.ok(first! < 100, `demand is not held up: ${first} ms`);
    await clock.run(all);
    const seconds = (clock.now() - startedAt) / 1000;
    t.ok(seconds > 6 && seconds < 9, `7.2 MB in ${seconds} s`);
    t.match(fetcher.status().link, { caps });
  }
});
