import fc from 'fast-check';
import t from 'tap';
import { limits } from '../../src/base/index.js';
import type { Trace } from '../../src/repo/index.js';
import { ageInResumes, likelyTouches, mergeTraces, timesSeen } from '../../src/trace/index.js';
import { recordingOf } from '../support/traces.js';

const anyRecording = fc.uniqueArray(fc.nat(30), { maxLength: 20 }).map(recordingOf);
const anyRecordings = fc.array(anyRecording, { minLength: 1, maxLength: 12 });

const merged = (recordings: readonly Trace[]): Trace =>
  recordings.reduce<Trace | undefined>((known, recorded) => mergeTraces(known, recorded), undefined) ??
  recordingOf([]);
const chunksOf = (trace: Pick<Trace, 'entries'>) => trace.entries.map(({ chunkIndex }) => chunkIndex);
const lastOf = (recordings: readonly Trace[]) => recordings.slice(-limits.traceResumes);

t.test('a merged trace has what the last resumes touched, nothing else, and each chunk once', async (t) => {
  fc.assert(
    fc.property(anyRecordings, (recordings) => {
      const chunks = chunksOf(merged(recordings));
      const expected = new Set(lastOf(recordings).flatMap(chunksOf));
      t.equal(new Set(chunks).size, chunks.length);
      t.strictSame([...chunks].sort((a, b) => a - b), [...expected].sort((a, b) => a - b)); // prettier-ignore
    }),
  );
});

t.test('it knows of each chunk which of them touched it', async (t) => {
  fc.assert(
    fc.property(anyRecordings, (recordings) => {
      const newestFirst = lastOf(recordings).reverse();
      for (const entry of merged(recordings).entries) {
        const seenBy = newestFirst.map((recording) => chunksOf(recording).includes(entry.chunkIndex));
        t.equal(timesSeen(entry), seenBy.filter(Boolean).length);
        t.equal(ageInResumes(entry), seenBy.indexOf(true));
      }
    }),
  );
});

t.test('the same resume again changes neither what is in it nor the order', async (t) => {
  fc.assert(
    fc.property(anyRecording, fc.integer({ min: 1, max: 10 }), (recording, times) => {
      const again = merged(Array.from({ length: times }, () => recording));
      t.strictSame(chunksOf(again), chunksOf(recording));
      t.equal(again.resumes, times);
    }),
  );
});

t.test('what all resumes touched in one order stays in that order', async (t) => {
  const order = fc.uniqueArray(fc.nat(30), { maxLength: 20 });
  fc.assert(
    fc.property(order, fc.array(fc.array(fc.boolean()), { minLength: 1, maxLength: 7 }), (all, misses) => {
      // Each resume leaves some out.
      const recordings = misses.map((missing) => recordingOf(all.filter((_, at) => missing[at] !== true)));
      const chunks = chunksOf(merged([recordingOf(all), ...recordings]));
      t.strictSame(chunks, all);
    }),
  );
});

t.test('what only the new resume touched comes after what it came after there', async (t) => {
  const trace = mergeTraces(recordingOf([1, 2, 3, 4]), recordingOf([9, 1, 2, 8, 7, 4]));
  t.strictSame(chunksOf(trace), [9, 1, 2, 8, 7, 3, 4]);
});

t.test('one odd resume moves a chunk by a quarter of the way, a lasting change takes it there', async (t) => {
  const before = Array.from({ length: 100 }, (_, at) => at);
  const [usual, odd] = [recordingOf(before), recordingOf([99, ...before.slice(0, 99)])];
  let trace = merged([usual, usual, usual, usual]);
  trace = mergeTraces(trace, odd);
  t.equal(chunksOf(trace).indexOf(99), 75);
  for (let resume = 0; resume < 20; resume += 1) trace = mergeTraces(trace, odd);
  t.ok(chunksOf(trace).indexOf(99) <= 3);
  const others = chunksOf(trace).filter((chunk) => chunk !== 99);
  t.strictSame(others, before.slice(0, 99));
});

t.test('a chunk is forgotten when as many resumes as are remembered did without it', async (t) => {
  let trace = recordingOf([1, 2]);
  for (let resume = 1; resume < limits.traceResumes; resume += 1) {
    trace = mergeTraces(trace, recordingOf([2]));
    t.strictSame(chunksOf(trace), [1, 2], `${resume} without it`);
  }
  t.strictSame(chunksOf(mergeTraces(trace, recordingOf([2]))), [2]);
});

t.test('a trace is bounded; what was seen most often stays, then what was seen last', async (t) => {
  const range = (first: number, count: number) => Array.from({ length: count }, (_, at) => first + at);
  const often = range(0, 100);
  const once = range(1000, limits.traceTouches - 100);
  const newer = range(1_000_000, 50);
  const known = merged([recordingOf(often), recordingOf([...once, ...often])]);
  const trace = mergeTraces(known, recordingOf(newer));
  const kept = new Set(chunksOf(trace));
  t.equal(trace.entries.length, limits.traceTouches);
  t.ok([...often, ...newer].every((chunk) => kept.has(chunk)));

  const files = (name: string) =>
    recordingOf(
      Array.from({ length: limits.traceFiles }, (_, at) => ({ path: `${name}${at}`, chunkIndex: 0 })),
    );
  const paths = new Set(mergeTraces(files('old'), files('new')).entries.map(({ path }) => path));
  t.equal(paths.size, limits.traceFiles);
});

t.test('a trace of chunks of another size is of no use', async (t) => {
  const recorded = recordingOf([1]);
  t.equal(mergeTraces({ ...recordingOf([5]), chunkBytes: 16384 }, recorded), recorded);
});

t.test('likely is what the newest resume touched, or half of the remembered ones', async (t) => {
  const chunks = (recordings: readonly Trace[]) =>
    likelyTouches(merged(recordings)).map(({ chunkIndex }) => chunkIndex);
  const usual = recordingOf([1, 2, 3]);
  t.strictSame(chunks([usual]), [1, 2, 3]);
  t.strictSame(chunks([recordingOf([1, 2, 3, 9]), usual]), [1, 2, 3, 9], 'one of two');
  t.strictSame(chunks([recordingOf([1, 2, 3, 9]), usual, usual]), [1, 2, 3], 'one of three was chance');
  t.strictSame(chunks([usual, usual, usual, recordingOf([1, 2])]), [1, 2, 3]);
});
