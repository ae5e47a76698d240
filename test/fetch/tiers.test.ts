import { cpSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { limits } from '../../src/base/index.js';
import { createFetcher, type Fetcher } from '../../src/fetch/index.js';
import { entryPath } from '../../src/fetch/local-cache/layout.js';
import { Tier, type TierBlob } from '../../src/fetch/tiers/tier.js';
import { packKey } from '../../src/repo/index.js';
import { openStore } from '../../src/store/index.js';
import {
  InlineCodec,
  ManualClock,
  packIdOf,
  putChunks,
  putPack,
  sameBytes,
  ScriptedStore,
  until,
  repositoryId,
} from './support.js';

const demand = { fetchClass: 'demand' } as const;
const background = { fetchClass: 'background' } as const;

async function makeDirectory(t: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'isr-tiers-'));
  t.teardown(() => rm(path, { recursive: true, force: true }));
  return path;
}

async function openFetcher(
  t: Test,
  store: ScriptedStore,
  cachePath: string,
  tiers: readonly string[] = [],
): Promise<Fetcher> {
  const fetcher = await createFetcher({
    repository: { store, codec: new InlineCodec() },
    ...{ cachePath, localCacheBytes: 1e9, repositoryId, memoryCacheBytes: 0, chunkBytes: 4096 },
    ...{ tiers, clock: new ManualClock(), random: () => 0.5 },
  });
  t.teardown(() => fetcher[Symbol.asyncDispose]());
  return fetcher;
}

t.test("a neighbour's cache is a tier: by content, from whatever pack", async (t) => {
  const directory = await makeDirectory(t);
  const store = new ScriptedStore();
  const chunks = await putChunks(store, 1, 12);
  const neighbour = await openFetcher(t, store, join(directory, 'home', 'cache', 'v1'));
  const references = chunks.map(({ reference }) => reference);
  await neighbour.warmChunks(references.slice(0, 8), background);
  await neighbour[Symbol.asyncDispose]();
  const elsewhere = await putPack(
    store,
    packIdOf(2),
    chunks.map(({ plaintext }) => ({ plaintext })).toReversed(),
  );

  const fetcher = await openFetcher(t, store, join(directory, 'mine'), [join(directory, 'home')]);
  store.gets.length = 0;
  for (const { reference, plaintext } of elsewhere.slice(-4))
    t.ok(sameBytes(await fetcher.readChunk(reference, demand), plaintext));
  t.equal(store.gets.length, 0);
  await until(() => references.slice(0, 4).every((reference) => fetcher.isLocal(reference)), 'their entries');
  t.match(await fetcher.warmChunks(references, background), { chunks: 12, fetchedChunks: 8 });
  t.equal(store.gets.length, 1, 'the rest comes with one request');
  t.match(fetcher.status().tiers, [{ hits: 8, misses: 4, damaged: 0, failures: 0, skipped: undefined }]);
  for (const { reference, plaintext } of chunks)
    t.ok(
      sameBytes(await fetcher.readChunk(reference, demand), plaintext),
      'what was found is kept here, and right',
    );
  t.equal(store.gets.length, 1);
});

t.test(
  'an older copy of the repository is a tier; what is damaged there comes from the next place',
  async (t) => {
    const directory = await makeDirectory(t);
    const store = new ScriptedStore();
    const chunks = await putChunks(store, 1, 4);
    const newer = await putChunks(store, 2, 4);
    for (const name of ['usb', 'disk']) {
      const copy = await openStore(join(directory, name), { create: true });
      await putChunks(copy, 1, 4);
      await copy[Symbol.asyncDispose]();
    }
    const damagedPath = join(directory, 'usb', packKey(packIdOf(1)));
    const pack = await readFile(damagedPath);
    const at = chunks[1]!.reference.offsetBytes + 40;
    pack[at] = (pack[at] ?? 0) ^ 1;
    await writeFile(damagedPath, pack);

    const tiers = [join(directory, 'usb'), `file://${join(directory, 'disk')}`, join(directory, 'gone')];
    const fetcher = await openFetcher(t, store, join(directory, 'mine'), tiers);
    for (const { reference, plaintext } of [...chunks, ...newer])
      t.ok(sameBytes(await fetcher.readChunk(reference, demand), plaintext));
    t.equal(store.gets.length, 4, 'only what no tier has');
    t.match(fetcher.status(), {
      tiers: [
        { place: tiers[0], hits: 4, damaged: 1, misses: 4, failures: 0 },
        { hits: 1, damaged: 0, misses: 4 },
        { hits: 0, failures: 1, skipped: { reason: /is no store of isr/ } },
      ],
      errors: 0,
      trouble: { damaged: 0 },
    });
  },
);

t.test('what the store gives damaged is looked for in the tiers again', async (t) => {
  const directory = await makeDirectory(t);
  const store = new ScriptedStore();
  const [chunk] = await putChunks(store, 1, 1);
  const neighbour = await openFetcher(t, store, join(directory, 'neighbour'));
  await neighbour.warmChunk(chunk!.reference, background);
  await neighbour[Symbol.asyncDispose]();
  const entry = entryPath(join(directory, 'neighbour'), chunk!.reference.id, 'chunk');
  await cp(entry, `${entry}.aside`);
  await rm(entry);
  const fetcher = await openFetcher(t, store, join(directory, 'mine'), [join(directory, 'neighbour')]);
  store.gets.length = 0;
  store.onGet = (_get, found) => {
    // Meanwhile the neighbour got it.
    cpSync(`${entry}.aside`, entry);
    return found.map((byte) => byte ^ 1);
  };
  t.ok(sameBytes(await fetcher.readChunk(chunk!.reference, demand), chunk!.plaintext));
  t.ok(store.gets.length < limits.damagedAnswersMax);
  t.match(fetcher.status(), { tiers: [{ hits: 1 }], errors: 0 });
});

t.test('a tier that does not pay, or fails, is left alone for a while', async (t) => {
  const clock = new ManualClock();
  const store = new ScriptedStore();
  const [chunk] = await putChunks(store, 1, 1);
  let answer: () => TierBlob | undefined = () => undefined;
  const tier = new Tier('slow:', {
    find: async () => {
      clock.advance(2);
      return answer();
    },
    [Symbol.asyncDispose]: async () => undefined,
  }, clock); // prettier-ignore
  const { signal } = new AbortController();
  const ask = () => tier.find(chunk!.reference, 'chunk', { storeMs: 10, signal });
  for (let lookUp = 0; lookUp < limits.tierLookUpsJudged; lookUp += 1) {
    answer = () => (lookUp % 4 === 0 ? { reference: chunk!.reference, sealed: chunk!.sealed } : undefined);
    await ask();
  }
  t.equal(tier.isSkipped, false, 'one hit of four saves 10 ms, and four look-ups cost 8');
  for (let lookUp = 0; lookUp < limits.tierLookUpsJudged; lookUp += 1) {
    answer = () => (lookUp % 8 === 0 ? { reference: chunk!.reference, sealed: chunk!.sealed } : undefined);
    await ask();
  }
  t.equal(tier.isSkipped, true);
  t.match(tier.status().skipped, { reason: /costs more/ });
  clock.advance(limits.tierPauseMs);
  t.equal(tier.isSkipped, false, 'then it gets another chance');
  answer = () => {
    throw new Error('unplugged');
  };
  t.equal(await ask(), undefined, 'its failure is a miss');
  t.match(tier.status(), { failures: 1, skipped: { reason: 'unplugged' } });
});
