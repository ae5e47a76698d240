import fc from 'fast-check';
import t from 'tap';
import {
  applyDelta,
  decodeDelta,
  decodeDeltaIndex,
  deltaPageBytes,
  encodeDelta,
  encodeDeltaIndex,
} from '../../../src/repo/format/delta.js';
import { DamagedObject, type BlobId, type ChunkDelta } from '../../../src/repo/index.js';
import { sameBytes } from '../../support/same-bytes.js';
import { anyDamage, damage } from './damage.js';
import { anyReference, packA, packB } from './examples.js';

const pagesPerChunk = 8;
const chunkBytes = pagesPerChunk * deltaPageBytes;
const baseId = '0a'.repeat(16) as BlobId;

const anyPages = fc
  .uniqueArray(fc.nat(pagesPerChunk - 1), { minLength: 1 })
  .map((pages) => pages.sort((a, b) => a - b));

const anyId = fc
  .uint8Array({ minLength: 16, maxLength: 16 })
  .map((id) => Buffer.from(id).toString('hex') as BlobId);

const anyDeltas: fc.Arbitrary<ChunkDelta[]> = fc.uniqueArray(
  fc.record({ chunkId: anyId, base: anyReference, delta: anyReference }),
  { selector: ({ chunkId }) => chunkId, maxLength: 60 },
);

function pageOf(chunk: Uint8Array, page: number): Uint8Array {
  return chunk.subarray(page * deltaPageBytes, (page + 1) * deltaPageBytes);
}

t.test('a delta makes the chunk out of its base', async (t) => {
  fc.assert(
    fc.property(anyPages, fc.nat(255), (pages, value) => {
      const base = new Uint8Array(chunkBytes).map((_, at) => at % 251);
      const chunk = new Uint8Array(base);
      for (const page of pages) pageOf(chunk, page).fill(value);
      const delta = decodeDelta(encodeDelta(baseId, pages, chunk), chunkBytes, 'delta');
      t.same(delta.pages, pages);
      t.equal(delta.baseId, baseId);
      const before = new Uint8Array(base);
      sameBytes(t, applyDelta(delta, base), chunk);
      sameBytes(t, base, before);
    }),
    { numRuns: 50 },
  );
});

t.test('a delta byte for byte', async (t) => {
  const chunk = new Uint8Array(chunkBytes);
  pageOf(chunk, 1).fill(0x11);
  pageOf(chunk, 7).fill(0x77);
  const encoded = Buffer.from(encodeDelta(baseId, [1, 7], chunk));
  t.equal(encoded.subarray(0, 22).toString('hex'), `${'0a'.repeat(16)}000200010007`);
  t.equal(encoded.length, 22 + 2 * deltaPageBytes);
  sameBytes(t, encoded.subarray(22, 22 + deltaPageBytes), pageOf(chunk, 1));
  sameBytes(t, encoded.subarray(22 + deltaPageBytes), pageOf(chunk, 7));
});

t.test('impossible deltas are refused', async (t) => {
  const chunk = new Uint8Array(chunkBytes);
  const wellFormed = encodeDelta(baseId, [1, 2], chunk);
  const refused = [
    Buffer.alloc(0),
    wellFormed.subarray(0, -1),
    encodeDelta(baseId, [], chunk),
    encodeDelta(baseId, [2, 1], chunk),
    encodeDelta(baseId, [2, 2], chunk),
  ];
  for (const encoded of refused) t.throws(() => decodeDelta(encoded, chunkBytes, 'delta'), DamagedObject);
  t.throws(() => decodeDelta(wellFormed, 2 * deltaPageBytes, 'delta'), DamagedObject, 'past the end');
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
