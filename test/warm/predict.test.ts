import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { firstPause, resumeSeconds, transferSeconds } from '../../src/warm/predict.js';
import { planWarming, warmVersion } from '../../src/warm/index.js';
import { recordingOf } from '../support/traces.js';
import { fullFile, WarmLab } from './support.js';

const load = fc.record({ bytes: fc.nat(2 ** 32), requests: fc.nat(10_000) });
const link = fc.record({
  roundTripMs: fc.double({ min: 0, max: 1000, noNaN: true }),
  bytesPerSecond: fc.integer({ min: 1000, max: 2 ** 30 }),
});

t.test('more takes longer, a better link less, and nothing is faster than the link', async () => {
  fc.assert(
    fc.property(load, load, link, link, (one, other, near, far) => {
      const more = { bytes: one.bytes + other.bytes, requests: one.requests + other.requests };
      const worse = {
        roundTripMs: near.roundTripMs + far.roundTripMs,
        bytesPerSecond: Math.min(near.bytesPerSecond, far.bytesPerSecond),
      };
      for (const seconds of [transferSeconds, resumeSeconds]) {
        assert.ok(seconds(one, near) <= seconds(more, near));
        assert.ok(seconds(one, near) <= seconds(one, worse));
      }
      assert.ok(one.requests === 0 || transferSeconds(one, near) >= one.bytes / near.bytesPerSecond);
    }),
  );
});

t.test('the first pause is where the guest first rests', async (t) => {
  fc.assert(
    fc.property(fc.array(fc.record({ atMs: fc.nat(100_000) })), (touches) => {
      const found = firstPause(touches);
      assert.ok(found >= 0 && found <= touches.length);
    }),
  );
  const steady = (count: number, fromMs: number) =>
    Array.from({ length: count }, (_, at) => ({ atMs: fromMs + at * 30 }));
  t.equal(firstPause([...steady(100, 0), ...steady(50, 4000)]), 100);
  t.equal(
    firstPause([...steady(5, 0), ...steady(100, 1000), ...steady(50, 9000)]),
    105,
    'not the start of QEMU',
  );
  t.equal(firstPause(steady(100, 0)), 100);
  t.equal(firstPause([]), 0);
});

t.test('a plan says what is local, and fetches no more than it needs to know the link', async (t) => {
  const lab = await WarmLab.create(t);
  await lab.publish({ mem: fullFile(600), state: fullFile(4, 1000) });
  const trace = recordingOf(Array.from({ length: 200 }, (_, at) => at * 2));
  const version = await lab.open('host', trace);
  const before = await planWarming(version, { kind: 'working-set' });
  t.match(before, { stages: [{ stage: 'trace', chunks: 200, localChunks: 0, localBytes: 0 }] });
  t.ok(before.absentBytes > 0 && before.requests > 0);
  t.equal(before.resume?.work.absentBytes, before.absentBytes);
  t.ok(version.fetcher.status().fetches.background.bytes < 2 * 1024 * 1024);
  await warmVersion(version, { scope: { kind: 'working-set' } }, {});
  const after = await planWarming(version, { kind: 'all' });
  t.match(after.stages[0], { stage: 'trace', chunks: 200, localChunks: 200 });
  t.equal(after.stages[0]!.bytes, after.stages[0]!.localBytes);
  t.equal(
    after.stages.reduce((sum, { chunks }) => sum + chunks, 0),
    604,
  );
  t.match(after.resume, { firstTick: { absentBytes: 0, requests: 0 }, work: { absentBytes: 0 } });
  const untraced = await planWarming({ ...version, trace: undefined }, { kind: 'working-set' });
  t.equal(untraced.resume, undefined, 'nothing is known of how a resume goes');
});
