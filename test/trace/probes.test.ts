import fc from 'fast-check';
import t from 'tap';
import { limits } from '../../src/base/index.js';
import type { TraceEntry } from '../../src/repo/index.js';
import { mergeTraces, Probes, timesSeen } from '../../src/trace/index.js';
import { recordingOf } from '../support/traces.js';

const range = (count: number) => Array.from({ length: count }, (_, index) => index);
const entriesOf = (count: number): readonly TraceEntry[] => recordingOf(range(count)).entries;

t.test('some chunks are left out of a replay, from all of its length, and never more than the bound', (t) => {
  fc.assert(
    fc.property(fc.nat(5000), (count) => {
      const entries = entriesOf(count);
      const probes = new Probes(entries, 1);
      const left = entries.filter((entry) => probes.isProbe(entry)).length;
      const wanted = Math.max(Math.ceil(count / limits.replayChunksPerProbe), limits.replayProbesMin);
      return left === Math.min(wanted, limits.replayProbesMax, count);
    }),
  );
  t.end();
});

t.test(
  'chunks that one resume of several touched are left out, and come in when another one touches them',
  (t) => {
    const known = mergeTraces(recordingOf([1, 2, 3, 4]), recordingOf([1, 2, 3, 9]));
    const probes = new Probes(known.entries, known.resumes, () => 0);
    const unproven = known.entries.filter((entry) => timesSeen(entry) === 1);
    t.strictSame(
      unproven.map(({ chunkIndex }) => chunkIndex),
      [9, 4],
    );
    for (const entry of unproven) t.ok(probes.isProbe(entry));
    t.end();
  },
);

t.test('what was replayed counts as touched while the guest asks for the sample', (t) => {
  const { entries } = recordingOf(range(100));
  const probes = new Probes(entries, 1);
  const sample = entries.filter((entry) => probes.isProbe(entry));
  const replayed = entries.filter((entry) => !probes.isProbe(entry));
  for (const chunk of replayed) probes.replayed(chunk);
  t.equal(probes.assumed(sample).size, replayed.length);
  t.equal(probes.assumed([]).size, 0, 'a guest that asks for none of it does something else');
  t.equal(probes.assumed(recordingOf([200, 201, 202, 203]).entries).size, 0);
  t.end();
});

t.test('a replayed chunk stays in its place, and ages where the replay was wrong', (t) => {
  const known = recordingOf([1, 2, 3]);
  const recorded = recordingOf([7]);
  const assumed = new Set(['1 mem', '2 mem']);
  const right = mergeTraces(known, recorded, assumed);
  t.strictSame(
    right.entries.map(({ chunkIndex, seenIn }) => [chunkIndex, seenIn]),
    [
      [7, 0b1],
      [1, 0b11],
      [2, 0b11],
      [3, 0b10],
    ],
  );
  const wrong = mergeTraces(known, recorded);
  t.ok(wrong.entries.filter(({ chunkIndex }) => chunkIndex < 7).every(({ seenIn }) => seenIn === 0b10));
  t.end();
});
