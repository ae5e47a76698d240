/** Where the time of waits goes: the parts of every wait add up to it, whatever happens meanwhile. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { limits } from '../../src/base/index.js';
import { createFetcher, StallRecord, waitParts, type WaitParts } from '../../src/fetch/index.js';
import { WaitClock } from '../../src/fetch/wait-clock.js';
import { StoreUnreachable } from '../../src/store/index.js';
import { InlineCodec, ManualClock, putChunks, ScriptedStore, secrets, settle, until } from './support.js';

const us = (ms: number): number => Math.round(ms * 1000);
const totalUs = (partsMs: WaitParts): number => waitParts.reduce((sum, part) => sum + us(partsMs[part]), 0);

/** What can befall one who waits, after some microseconds. */
const event = fc.record({
  afterUs: fc.nat(5000),
  wait: fc.nat(3),
  kind: fc.oneof(
    fc.constantFrom('begin', 'end', 'leave', 'wasted', 'settle', 'join', 'map'),
    fc.constantFrom(...waitParts),
  ),
});

t.test(
  'the parts of every wait add up to it, and the time in which anybody waited is counted once',
  async () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 120 }), (events) => {
        let nowUs = 1_000_000;
        const record = new StallRecord({ causeOf: ({ joined }) => joined ?? 'alone', now: () => nowUs });
        const waits = new Map<
          number,
          { wait: ReturnType<typeof record.begin>; clock: WaitClock; atUs: number }
        >();
        const expected = { stalls: 0, us: 0, wallUs: 0 };
        for (const { afterUs, wait: which, kind } of events) {
          nowUs += afterUs;
          if (waits.size > 0) expected.wallUs += afterUs;
          const open = waits.get(which);
          if (kind === 'begin') {
            if (open !== undefined) continue;
            const request = {
              path: `file ${which}`,
              offsetBytes: 4096,
              lengthBytes: 4096,
              access: 'read',
            } as const;
            const wait = record.begin(request);
            waits.set(which, { wait, clock: wait.chunk(7), atUs: nowUs });
            continue;
          }
          if (open === undefined) continue;
          const { wait, clock, atUs } = open;
          if (kind === 'leave') clock.leave();
          else if (kind === 'wasted') clock.wasted();
          else if (kind === 'join') clock.board('transfer', false, 'replay');
          else if (kind === 'map') clock.board('queue', true, undefined);
          else if (kind === 'settle') wait.settled(7, clock);
          else if (kind === 'end') {
            wait.end();
            waits.delete(which);
            expected.stalls += 1;
            expected.us += nowUs - atUs;
          } else clock.enter(kind);
        }
        const report = record.report();
        assert.equal(report.stalls, expected.stalls);
        assert.equal(us(report.durationMs), expected.us);
        assert.equal(us(report.wallMs), expected.wallUs);
        assert.equal(report.longest.length, expected.stalls);
        for (const each of [report, ...report.causes, ...report.files, ...report.longest]) {
          assert.equal(totalUs(each.partsMs), us(each.durationMs));
          assert.ok(waitParts.every((part) => each.partsMs[part] >= 0));
        }
        for (const groups of [report.causes, report.files]) {
          assert.equal(
            groups.reduce((sum, { durationMs }) => sum + us(durationMs), 0),
            expected.us,
          );
        }
        assert.ok(report.longest.every(({ mapMs, durationMs }) => mapMs <= durationMs));
      }),
    );
  },
);

t.test('a record stays bounded, keeps the longest waits, and can be gone on with', async (t) => {
  let nowUs = 0;
  const begin = (earlier?: ConstructorParameters<typeof StallRecord<'any'>>[0]['earlier']) =>
    new StallRecord<'any'>({ causeOf: () => 'any', now: () => nowUs, ...(earlier && { earlier }) });
  const record = begin();
  const durations = Array.from({ length: 3 * limits.stallsRecorded }, (_, at) => 1 + ((at * 7919) % 6143));
  for (const [at, duration] of durations.entries()) {
    const wait = record.begin({ path: `file ${at}`, offsetBytes: 0, lengthBytes: 1, access: 'read' });
    nowUs += duration;
    wait.end();
  }
  const report = record.report();
  t.equal(report.stalls, durations.length);
  t.equal(us(report.wallMs), nowUs);
  t.equal(report.files.length, limits.stallFiles + 1, 'the others are together');
  t.equal(report.longest.length, limits.stallsRecorded);
  const longest = durations.toSorted((one, other) => other - one).slice(0, limits.stallsRecorded);
  const kept = report.longest.map(({ durationMs }) => us(durationMs));
  t.same(
    kept.toSorted((one, other) => other - one),
    longest,
  );

  const again = begin({ report, elapsedMs: report.elapsedMs + 5 });
  const { elapsedMs, ...sums } = again.report();
  t.match(sums, { ...sums, stalls: report.stalls, wallMs: report.wallMs });
  t.same(sums.files, report.files);
  t.equal(sums.longest.length, report.longest.length);
  t.equal(elapsedMs, report.elapsedMs + 5);
});

async function openLab(t: Test) {
  const directory = await mkdtemp(join(tmpdir(), 'isr-stalls-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  const store = new ScriptedStore();
  const clock = new ManualClock();
  const fetcher = await createFetcher({
    repository: { store, codec: new InlineCodec() },
    repositoryId: secrets.repositoryId,
    cachePath: join(directory, 'cache'),
    localCacheBytes: 1e9,
    memoryCacheBytes: 1e6,
    chunkBytes: 4096,
    clock,
    random: () => 0.5,
  });
  t.teardown(() => fetcher[Symbol.asyncDispose]());
  let nowUs = 0;
  return {
    ...{ store, clock, fetcher },
    waitClock: () => new WaitClock(nowUs, () => nowUs),
    /** Lets what is under way come to where it must wait, then so much time pass. */
    pass: async (passedUs: number) => {
      await settle();
      nowUs += passedUs;
    },
  };
}

t.test('a fetch says what it waits for, also to those who join it', async (t) => {
  const { store, fetcher, waitClock, pass } = await openLab(t);
  const [chunk] = await putChunks(store, 1, 1);
  const { reference } = chunk!;
  store.hold();
  const warming = fetcher.warmChunk(reference, { fetchClass: 'replay' });
  await until(() => store.holding === 1, 'the replay asks');
  await pass(300);
  const clock = waitClock();
  const read = fetcher.readChunk(reference, { fetchClass: 'demand', clock });
  await pass(500);
  store.release();
  await Promise.all([read, warming]);
  const { parts, joined, mapUs } = clock.read();
  t.equal(joined, 'replay');
  t.equal(parts.roundTrip, 500);
  t.equal(mapUs, 0);
  t.equal(totalUs(parts), us(500));
});

t.test('what a failed request took is no round trip', async (t) => {
  const { store, clock, fetcher, waitClock, pass } = await openLab(t);
  const [chunk] = await putChunks(store, 1, 1);
  let failures = 1;
  store.onGet = ({ key }, found) => {
    if (failures-- > 0)
      throw new StoreUnreachable({ store: 'scripted:', key, reason: 'gone', cause: undefined });
    return found;
  };
  store.hold();
  const wait = waitClock();
  const read = fetcher.readChunk(chunk!.reference, { fetchClass: 'demand', clock: wait });
  await until(() => store.holding === 1, 'it asks');
  await pass(700);
  store.release(1);
  await pass(40);
  while (store.holding === 0) {
    clock.advance(limits.requestRetryMs);
    await settle();
  }
  await pass(200);
  store.release();
  await read;
  const { parts, joined } = wait.read();
  t.equal(joined, undefined);
  t.equal(parts.retry, 740);
  t.equal(parts.roundTrip, 200);
  t.equal(totalUs(parts), us(940));
});
