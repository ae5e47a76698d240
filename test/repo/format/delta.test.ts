import fc from 'fast-check';
import t from 'tap';
import zstd from 'zstd-napi/binding.js';
import {
  applyDelta,
  decodeDeltaIndex,
  encodeDelta,
  encodeDeltaIndex,
} from '../../../src/repo/format/delta.js';
import { DamagedObject, type BlobId, type ChunkDelta } from '../../../src/repo/index.js';
import { sameBytes } from '../../support/same-bytes.js';
import { anyDamage, damage } from './damage.js';
import { anyReference, packA, packB } from './examples.js';

const chunkBytes = 32 * 1024;
const baseId = '0a'.repeat(16) as BlobId;

const anyId = fc
  .uint8Array({ minLength: 16, maxLength: 16 })
  .map((id) => Buffer.from(id).toString('hex') as BlobId);

const anyDeltas: fc.Arbitrary<ChunkDelta[]> = fc.uniqueArray(
  fc.record({ chunkId: anyId, base: anyReference, delta: anyReference }),
  { selector: ({ chunkId }) => chunkId, maxLength: 60 },
);

/** Bytes that do not compress. */
function noise(lengthBytes: number): Uint8Array {
  let state = 1;
  return new Uint8Array(lengthBytes).map(() => (state = Math.imul(state, 1664525) + 1013904223) >>> 24);
}

/** Where a chunk differs from its base, and what is there. */
const anyWrites = fc.array(
  fc.record({ at: fc.nat(chunkBytes - 64), bytes: fc.uint8Array({ minLength: 1, maxLength: 64 }) }),
  { maxLength: 20 },
);

t.test('a delta makes the chunk out of its base, and is short where they are alike', async (t) => {
  const base = noise(chunkBytes);
  const before = new Uint8Array(base);
  fc.assert(
    fc.property(anyWrites, (writes) => {
      const chunk = new Uint8Array(base);
      for (const { at, bytes } of writes) chunk.set(bytes, at);
      const delta = encodeDelta(baseId, base, chunk, chunkBytes)!;
      sameBytes(t, applyDelta(delta, baseId, base, 'delta'), chunk);
      t.ok(delta.length < 200 + writes.length * 100);
      t.equal(encodeDelta(baseId, base, chunk, delta.length - 1), undefined);
    }),
    { numRuns: 50 },
  );
  sameBytes(t, base, before);
});

t.test('a delta byte for byte', async (t) => {
  const base = noise(16 * 1024);
  const chunk = new Uint8Array(base);
  chunk.fill(0, 100, 200);
  const frame = Buffer.alloc(zstd.compressBound(chunk.length));
  const frameBytes = new zstd.CCtx().compressUsingDict(frame, chunk, base, 19);
  const delta = Buffer.concat([Buffer.from(baseId, 'hex'), frame.subarray(0, frameBytes)]);
  sameBytes(t, applyDelta(delta, baseId, base, 'delta'), chunk);
  t.equal(
    Buffer.from(encodeDelta(baseId, base, chunk, chunkBytes)!).toString('hex', 0, 20),
    `${baseId}28b52ffd`,
  );
});

t.test('a delta that is damaged, or of another base, is refused or makes something else', async (t) => {
  const base = noise(chunkBytes);
  const chunk = new Uint8Array(base);
  chunk.set(noise(500), 7000);
  const delta = encodeDelta(baseId, base, chunk, chunkBytes)!;
  const otherId = '0b'.repeat(16) as BlobId;
  t.throws(() => applyDelta(delta, otherId, base, 'delta'), DamagedObject);
  t.throws(() => applyDelta(delta, baseId, base.subarray(1), 'delta'), DamagedObject, 'another length');
  t.throws(() => applyDelta(new Uint8Array(0), baseId, base, 'delta'), DamagedObject);
  fc.assert(
    fc.property(anyDamage, (how) => {
      try {
        return applyDelta(damage(delta, how), baseId, base, 'delta').length === chunkBytes;
      } catch (error) {
        return error instanceof DamagedObject;
      }
    }),
    { numRuns: 300 },
  );
});

t.test('an index survives encoding', async (t) => {
  fc.assert(
    fc.property(anyDeltas, (deltas) => {
      t.same(decodeDeltaIndex(encodeDeltaIndex(deltas), 'index'), deltas);
    }),
    { numRuns: 50 },
  );
});

t.test('an index byte for byte', async (t) => {
  const base = {
    packId: packA,
    offsetBytes: 28,
    sealedBytes: 100,
    counter: 1,
    id: '01'.repeat(16) as BlobId,
  };
  const delta = {
    packId: packB,
    offsetBytes: 256,
    sealedBytes: 64,
    counter: 3,
    id: '02'.repeat(16) as BlobId,
  };
  const encoded = Buffer.from(encodeDeltaIndex([{ chunkId: '03'.repeat(16) as BlobId, base, delta }]));
  t.equal(
    encoded.toString('hex'),
    [
      ...['0002', packA, packB, '03'.repeat(16)],
      ...['0000', '0000001c', '00000064', '00000001', '01'.repeat(16)],
      ...['0001', '00000100', '00000040', '00000003', '02'.repeat(16)],
    ].join(''),
  );
});

t.test('a damaged index is refused or says other things, and never breaks its reader', async () => {
  const [deltas = []] = fc.sample(anyDeltas, { numRuns: 1, seed: 7 });
  const encoded = encodeDeltaIndex(deltas);
  fc.assert(
    fc.property(anyDamage, (how) => {
      try {
        decodeDeltaIndex(damage(encoded, how), 'index');
        return true;
      } catch (error) {
        return error instanceof DamagedObject;
      }
    }),
    { numRuns: 300 },
  );
});
