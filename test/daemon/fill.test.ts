/** A fill brings all of a version onto this host, behind everything else, and says how far it is. */
import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { limits } from '../../src/base/index.js';
import { Fill, type FillParts, type FillStatus } from '../../src/daemon/fill/index.js';
import { versionBlobs, type Fetcher } from '../../src/fetch/index.js';
import { loadManifest, type BlobReference, type Manifest } from '../../src/repo/index.js';
import { StoreRefused } from '../../src/store/index.js';
import { contentOf, ManualClock, settle, until } from '../fetch/support.js';
import type { ModelFile } from '../repo/publish-support.js';
import { recordingOf } from '../support/traces.js';
import { chunkBytes, fullFile, WarmLab } from '../warm/support.js';

const memChunks = 250;
const diskChunks = 60;
const chunks = memChunks + diskChunks;
const uncapped = { bytesPerSecond: undefined };
const refusal = new StoreRefused({ store: 'lab', key: undefined, reason: 'a test says so', remedy: 'Wait.' });

/** A file of so many chunks that do not compress. */
function randomFile(count: number, seed = 0): ModelFile {
  const file = fullFile(count, seed);
  for (let index = 0; index < count; index += 1) file.chunks.set(index, contentOf(seed + index, chunkBytes));
  return file;
}

interface FillLab {
  readonly lab: WarmLab;
  readonly fetcher: Fetcher;
  readonly cachePath: string;
  readonly clock: ManualClock;
  /** May be changed. */
  readonly host: { limitBytes: number; isReplaying: boolean };
  readonly fill: Fill;
  /** The newest version takes the place of the one before. */
  readonly mount: () => Promise<void>;
  readonly status: () => FillStatus;
  readonly untilState: (state: FillStatus['state']) => Promise<FillStatus>;
  /** Chunks in the local cache. */
  readonly held: () => Promise<number>;
}

async function openLab(t: Test, parts: Partial<FillParts> = {}): Promise<FillLab> {
  const lab = await WarmLab.create(t);
  await lab.publish({ mem: randomFile(memChunks), disk: randomFile(diskChunks, 10_000) });
  const clock = new ManualClock();
  const host = { limitBytes: 2 ** 40, isReplaying: false };
  const fetcher = await lab.fetcher('host');
  const manifests = new Map<BlobReference, Manifest>();
  const mount = async (): Promise<void> => {
    manifests.set(lab.newest.manifest, await loadManifest(lab.newest.manifest, fetcher));
  };
  await mount();
  const cachePath = join(lab.root, 'host');
  const fill = new Fill({
    ...{ vmName: 'vm', cachePath, clock, limitBytes: () => host.limitBytes },
    version: () => ({
      manifestReference: lab.newest.manifest,
      describe: async () => ({
        manifest: manifests.get(lab.newest.manifest)!,
        ...{ fetcher, chunkBytes, trace: recordingOf([7, 200, 150]) },
        earlier: () => Promise.resolve(undefined),
      }),
    }),
    replay: {
      isUnderWay: () => host.isReplaying,
      whenOver: async (signal) => {
        while (host.isReplaying && !signal.aborted) await settle();
      },
    },
    ...parts,
  });
  t.teardown(() => fill[Symbol.asyncDispose]());
  const status = (): FillStatus => {
    const found = fill.status();
    if (found === undefined) throw new Error('it was not begun');
    return found;
  };
  return {
    ...{ lab, fetcher, cachePath, clock, host, fill, status, mount },
    untilState: async (state) => {
      await until(() => status().state === state, state);
      return status();
    },
    held: async () => {
      const entries = await readdir(cachePath, { recursive: true });
      return entries.filter((entry) => entry.endsWith('.chunk')).length;
    },
  };
}

/** Reads all of the newest version on the host, as a process that has nothing in memory. */
async function readAll({ lab }: FillLab): Promise<number> {
  const fetcher = await lab.fetcher('host');
  const reference = lab.newest.manifest;
  const manifest = await loadManifest(reference, fetcher);
  let read = 0;
  for await (const blob of versionBlobs({ manifest, reference }, fetcher, { fetchClass: 'demand' })) {
    if (blob.kind !== 'chunk') continue;
    await fetcher.readChunk(blob.reference, { fetchClass: 'demand' });
    read += 1;
  }
  return read;
}

t.test('all of the version comes, and then it needs the store no more', async (t) => {
  const filled = await openLab(t);
  const { fill, lab, untilState } = filled;
  t.equal(fill.status(), undefined, 'nobody asked for it');
  fill.begin(uncapped);
  const status = await untilState('complete');
  t.match(status, { chunks, doneChunks: chunks, problem: undefined });
  t.equal(status.doneBytes, status.bytes);
  t.equal(status.fetchedBytes, status.bytes);
  lab.store.onGet = () => {
    throw new Error('the store was asked');
  };
  t.equal(await readAll(filled), chunks);

  fill.begin(uncapped);
  await settle();
  t.match(await untilState('complete'), { doneChunks: chunks, fetchedBytes: status.fetchedBytes });
});

t.test('it waits for a replay, also for one that begins later', async (t) => {
  const { fill, host, lab, untilState, status } = await openLab(t);
  host.isReplaying = true;
  const before = lab.store.gets.length;
  fill.begin(uncapped);
  await settle();
  t.equal(status().state, 'waiting');
  t.equal(lab.store.gets.length, before, 'it has asked for nothing');

  host.isReplaying = false;
  await untilState('filling');
  lab.store.hold();
  await until(() => lab.store.holding > 0, 'it asks for chunks');
  host.isReplaying = true;
  lab.store.release();
  await until(() => status().doneChunks > 0, 'what it asked for came');
  await settle();
  const asked = lab.store.gets.length;
  await settle();
  t.equal(lab.store.gets.length, asked, 'and nothing more');
  t.ok(status().doneChunks < chunks);
  host.isReplaying = false;
  await untilState('complete');
});

t.test('where the local cache cannot hold the version it says so, and fetches nothing', async (t) => {
  const { fill, host, lab, held, untilState } = await openLab(t);
  host.limitBytes = chunks * chunkBytes;
  fill.begin(uncapped);
  const { problem } = await untilState('stopped');
  t.match(problem, { code: 'CACHE_TOO_SMALL', remedy: /isr cache limit/ });
  t.equal(await held(), 0);

  host.limitBytes = 2 ** 40;
  lab.store.hold();
  fill.begin(uncapped);
  await until(() => lab.store.holding > 0, 'it asks, now that there is room');
  host.limitBytes = 10 * chunkBytes;
  lab.store.release();
  t.match((await untilState('stopped')).problem, { code: 'CACHE_TOO_SMALL' }, 'it is made smaller meanwhile');
  t.ok((await held()) < chunks);
});

t.test('a store that refuses is tried again', async (t) => {
  const { fill, lab, clock, status, untilState } = await openLab(t);
  lab.store.onGet = () => {
    throw refusal;
  };
  fill.begin(uncapped);
  await until(() => clock.sleeping > 0, 'it waits');
  t.match(status(), { state: 'filling', problem: { code: 'STORE_REFUSED' } });
  clock.advance(limits.fillRetryMs.first);
  await until(() => clock.sleeping > 0, 'it waits again');
  t.same(clock.delays, [limits.fillRetryMs.first, 2 * limits.fillRetryMs.first], 'longer');
  lab.store.onGet = (_get, found) => found;
  clock.advance(limits.fillRetryMs.most);
  t.match(await untilState('complete'), { doneChunks: chunks, problem: undefined });
});

t.test('what is damaged for good ends it', async (t) => {
  const { fill, lab, untilState } = await openLab(t);
  lab.store.onGet = (_get, found) => found.map((byte) => byte ^ 1);
  fill.begin(uncapped);
  t.match((await untilState('stopped')).problem, { code: 'DAMAGED_OBJECT' });
});

/** From now on something is evicted whenever all has come, so many times. */
function evictAfterwards({ fetcher, cachePath }: FillLab, times: number): void {
  const warmChunks = fetcher.warmChunks.bind(fetcher);
  let left = times;
  fetcher.warmChunks = async (references, options) => {
    const result = await warmChunks(references, options);
    left -= 1;
    const entries = await readdir(cachePath, { recursive: true });
    const evicted = entries.filter((entry) => entry.endsWith('.chunk')).slice(0, left >= 0 ? 10 : 0);
    for (const entry of evicted) await rm(join(cachePath, entry));
    return result;
  };
}

t.test('a local disk that takes nothing ends it: what is freed there is not for a fill', async (t) => {
  const { fill, fetcher, cachePath, untilState, held } = await openLab(t);
  await until(() => fetcher.status().blobsInFlight === 0, 'the manifest is kept');
  await rm(join(cachePath, 'tmp'), { recursive: true });
  await writeFile(join(cachePath, 'tmp'), 'no directory');
  fill.begin(uncapped);
  t.match((await untilState('stopped')).problem, { code: 'LOCAL_CACHE_UNUSABLE' });
  t.equal(await held(), 0);
});

t.test('what was evicted meanwhile is brought again', async (t) => {
  const filled = await openLab(t);
  evictAfterwards(filled, 2);
  filled.fill.begin(uncapped);
  const { bytes, fetchedBytes } = await filled.untilState('complete');
  t.ok(fetchedBytes > (bytes ?? 0) + 19 * chunkBytes);
  t.equal(await filled.held(), chunks);
});

t.test('where something is evicted again and again, it gives up', async (t) => {
  const filled = await openLab(t);
  evictAfterwards(filled, 100);
  filled.fill.begin(uncapped);
  t.match((await filled.untilState('stopped')).problem, { code: 'CACHE_CONTENDED' });
});

t.test('a cap lets no more through than it says', async (t) => {
  const { fill, clock, status, untilState } = await openLab(t);
  const bytesPerSecond = 20 * chunkBytes;
  fill.begin({ bytesPerSecond });
  const beganMs = clock.now();
  while (status().state !== 'complete') {
    await until(() => clock.sleeping > 0 || status().state === 'complete', 'it waits for its turn');
    // Each request may be made when what was asked for before is paid for.
    const paidBytes = ((clock.now() - beganMs) / 1000 + 1) * bytesPerSecond;
    t.ok(status().fetchedBytes <= paidBytes + limits.warmRangeBytesMax, `${status().fetchedBytes}`);
    clock.advance(100);
  }
  t.match(await untilState('complete'), { doneChunks: chunks });
  t.ok(clock.now() - beganMs > ((chunks * chunkBytes - limits.warmRangeBytesMax) / bytesPerSecond) * 1000);
});

t.test('paused it fetches nothing; then it goes on, with what is mounted then', async (t) => {
  const filled = await openLab(t);
  const { fill, lab, mount, status, untilState } = filled;
  lab.store.hold();
  fill.begin(uncapped);
  await until(() => lab.store.holding > 0, 'it asks');
  await Promise.all([fill.pause(), fill.pause()]);
  t.equal(status().state, 'waiting');
  fill.begin(uncapped);
  fill.goOn();
  lab.store.release();
  const asked = lab.store.gets.length;
  await settle();
  t.equal(lab.store.gets.length, asked, 'one pause is not over');

  await lab.publish({ mem: randomFile(memChunks), disk: randomFile(diskChunks + 10, 20_000) });
  await mount();
  fill.goOn();
  t.match(await untilState('complete'), { chunks: chunks + 10, doneChunks: chunks + 10 });
  t.equal(await readAll(filled), chunks + 10);

  await fill[Symbol.asyncDispose]();
  await rm(join(lab.root, 'host'), { recursive: true });
  const after = lab.store.gets.length;
  fill.begin(uncapped);
  await settle();
  t.equal(lab.store.gets.length, after, 'closed, it begins no more');
});
