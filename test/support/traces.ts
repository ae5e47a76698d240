import fc from 'fast-check';
import { limits } from '../../src/base/index.js';
import type { Touch, Trace, TraceEntry, VersionNumber } from '../../src/repo/index.js';

/** A recording of one resume: the chunks of one file, or touches, in this order. */
export function recordingOf(touches: readonly (number | Omit<Touch, 'atMs'>)[]): Trace {
  return {
    version: 1 as VersionNumber,
    recordedAt: new Date(1_700_000_000_000),
    chunkBytes: limits.chunkBytes,
    resumes: 1,
    entries: touches.map((touch, atMs) => ({
      ...(typeof touch === 'number' ? { path: 'mem', chunkIndex: touch } : touch),
      atMs,
      seenIn: 1,
    })),
  };
}

const anyName = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 20 })
  .filter((name) => !/[/\0]/.test(name) && name !== '.' && name !== '..');
const anyPath = fc.array(anyName, { minLength: 1, maxLength: 3 }).map((names) => names.join('/'));

const anyEntry = (paths: readonly string[]): fc.Arbitrary<TraceEntry> =>
  fc
    .tuple(
      fc.constantFrom(...paths),
      fc.oneof(fc.nat(100), fc.nat(2 ** 36 - 1)),
      fc.oneof(fc.nat(1000), fc.nat(2 ** 32 - 1)),
      fc.integer({ min: 1, max: 255 }),
    )
    .map(([path, chunkIndex, atMs, seenIn]) => ({ path, chunkIndex, atMs, seenIn }));

/** Whatever can be stored. */
export const anyTrace: fc.Arbitrary<Trace> = fc
  .uniqueArray(anyPath, { minLength: 1, maxLength: 5 })
  .chain((paths) =>
    fc.record({
      version: fc.integer({ min: 1 }).map((version) => version as VersionNumber),
      recordedAt: fc.nat(8.64e15).map((ms) => new Date(ms)),
      chunkBytes: fc.constantFrom(2 ** 14, 2 ** 17, 2 ** 22),
      resumes: fc.integer({ min: 1, max: 1000 }),
      entries: fc.uniqueArray(anyEntry(paths), {
        maxLength: 60,
        selector: ({ path, chunkIndex }) => `${chunkIndex} ${path}`,
      }),
    }),
  )
  .map((trace) => ({ ...trace }));
