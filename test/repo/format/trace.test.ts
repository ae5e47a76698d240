import fc from 'fast-check';
import t from 'tap';
import { limits } from '../../../src/base/index.js';
import { NumberReader, NumberWriter } from '../../../src/repo/format/numbers.js';
import { decodeTrace, encodeTrace } from '../../../src/repo/format/trace.js';
import { DamagedObject } from '../../../src/repo/index.js';
import type { Trace, TraceEntry, VersionNumber } from '../../../src/repo/index.js';
import { seededRandom } from '../../../src/store/index.js';
import { sameBytes } from '../../support/same-bytes.js';
import { anyTrace } from '../../support/traces.js';
import { anyDamage, damage } from './damage.js';

const schema = 1;
const methodRaw = 0;

function raw(body: Uint8Array): Uint8Array {
  const header = Buffer.alloc(6);
  header[0] = schema;
  header[1] = methodRaw;
  header.writeUInt32BE(body.length, 2);
  return Buffer.concat([header, body]);
}

/** A trace of one chunk, of which a test writes one part otherwise. */
function written(change: {
  readonly numbers?: readonly number[];
  readonly path?: string;
  readonly after?: readonly number[];
}): Uint8Array {
  const body = new NumberWriter();
  for (const number of change.numbers ?? [1, 0, 131072, 1, 1]) body.number(number);
  body.bytes(Buffer.from(change.path ?? 'mem'));
  for (const number of change.after ?? [1, 0, 1, 0, 0]) body.number(number);
  body.byte(1);
  return raw(body.finish());
}

t.test('a trace is read as it was written', async (t) => {
  fc.assert(
    fc.property(anyTrace, (trace) => {
      const payload = encodeTrace(trace);
      t.strictSame(decodeTrace(payload, 'trace/x'), trace);
      sameBytes(t, encodeTrace(decodeTrace(payload, 'trace/x')), payload);
    }),
  );
});

t.test('whatever is done to a trace, it is read as one or refused', async (t) => {
  fc.assert(
    fc.property(anyTrace, anyDamage, (trace, harm) => {
      const damaged = damage(encodeTrace(trace), harm);
      try {
        encodeTrace(decodeTrace(damaged, 'trace/x'));
      } catch (error) {
        if (!(error instanceof DamagedObject)) throw error;
      }
    }),
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (garbage) => {
      t.throws(() => decodeTrace(raw(Buffer.from(garbage.map((byte) => byte | 0x80))), 'x'), DamagedObject);
    }),
  );
});

t.test('what no writer writes is refused', async (t) => {
  t.same(decodeTrace(written({}), 'x').entries, [{ path: 'mem', chunkIndex: 0, atMs: 0, seenIn: 1 }]);
  const refused: readonly (readonly [string, Uint8Array])[] = [
    ['nothing', Buffer.alloc(0)],
    ['another schema', Buffer.concat([Buffer.of(2), written({}).subarray(1)])],
    ['a claim of 4 GiB', Buffer.concat([Buffer.of(1, 1, 255, 255, 255, 255), Buffer.alloc(20)])],
    ['another method', Buffer.concat([Buffer.of(1, 7), written({}).subarray(2)])],
    ['something after its end', raw(Buffer.concat([written({}).subarray(6), Buffer.of(0)]))],
    ['version 0', written({ numbers: [0, 0, 131072, 1, 1] })],
    ['no size of chunks', written({ numbers: [1, 0, 131073, 1, 1] })],
    ['no resumes', written({ numbers: [1, 0, 131072, 0, 1] })],
    ['more files than there may be', written({ numbers: [1, 0, 131072, 1, limits.traceFiles + 1] })],
    ['an empty path', written({ path: '' })],
    ['an absolute path', written({ path: '/etc/passwd' })],
    ['a path upwards', written({ path: 'a/../b' })],
    ['a NUL', written({ path: 'a\0' })],
    ['more touches than there may be', written({ after: [limits.traceTouches + 1, 0, 1, 0, 0] })],
    ['a run that is too long', written({ after: [1, 0, 2, 0, 0] })],
    ['a run of nothing', written({ after: [1, 0, 0, 0, 0] })],
    ['a file that is not there', written({ after: [1, 1, 1, 0, 0] })],
    ['a chunk below 0', written({ after: [1, 0, 1, 1, 0] })],
    ['a chunk that no file has', written({ after: [1, 0, 1, 2 ** 40, 0] })],
    ['a time below 0', written({ after: [1, 0, 1, 0, 1] })],
    ['a chunk twice', written({ after: [2, 0, 2, 0, 0, 0, 0, 1] })],
    ['a file without touches', written({ numbers: [1, 0, 131072, 1, 1], after: [0] })],
  ];
  for (const [name, payload] of refused) t.throws(() => decodeTrace(payload, 'x'), DamagedObject, name);
  const seenInNone = Buffer.from(written({}));
  seenInNone[seenInNone.length - 1] = 0;
  t.throws(() => decodeTrace(seenInNone, 'x'), DamagedObject, 'seen in no resume');
});

t.test('numbers have one spelling', async (t) => {
  const any = fc.oneof(fc.maxSafeNat(), fc.nat(300));
  fc.assert(
    fc.property(fc.array(any), fc.array(fc.integer()), (numbers, signed) => {
      const writer = new NumberWriter();
      for (const number of numbers) writer.number(number);
      for (const number of signed) writer.signed(number);
      const reader = new NumberReader(writer.finish());
      for (const number of numbers) t.equal(reader.number(0, Number.MAX_SAFE_INTEGER), number);
      for (const number of signed) t.equal(reader.signed(), number);
      reader.expectEnd();
    }),
  );
  const read = (...bytes: number[]) => new NumberReader(Buffer.from(bytes)).number(0, 2 ** 53 - 1);
  t.throws(() => read(0x80, 0), RangeError, 'not a longer one');
  t.throws(() => read(0x80), RangeError, 'it must end');
  t.throws(() => read(...Array.from({ length: 400 }, () => 0x80), 1), RangeError, 'it is bounded');
  t.throws(() => new NumberWriter().number(-1), RangeError);
  t.throws(() => new NumberWriter().number(0.5), RangeError);
});

t.test('a touch takes 1 to 4 bytes', async (t) => {
  // As a guest of 1 GiB touches its memory: short runs here and there, chance in the order, disks in between.
  const entries: TraceEntry[] = [];
  const touched = new Set<string>();
  const random01 = seededRandom(1);
  const random = (below: number) => Math.floor(random01() * below);
  for (let atMs = 0; entries.length < 4000; atMs += random(5)) {
    const path = random(20) === 0 ? 'disk.qcow2' : 'mem';
    const first = random(8000);
    const run = 1 + random(4);
    for (let chunkIndex = first; chunkIndex < first + run; chunkIndex += 1) {
      if (touched.size === touched.add(`${path} ${chunkIndex}`).size) continue;
      entries.push({ path, chunkIndex, atMs, seenIn: random(10) === 0 ? 1 + random(255) : 255 });
    }
  }
  const trace: Trace = {
    version: 3 as VersionNumber,
    recordedAt: new Date(1_700_000_000_000),
    chunkBytes: 131072,
    resumes: 20,
    entries,
  };
  const bytesPerTouch = encodeTrace(trace).length / entries.length;
  t.comment(`${bytesPerTouch.toFixed(2)} bytes a touch`);
  t.ok(bytesPerTouch > 1 && bytesPerTouch < 4);
});
