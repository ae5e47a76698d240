import fc from 'fast-check';
import { createHash } from 'node:crypto';
import type { BlobId, BlobReference, PackId } from '../../../src/repo/index.js';
import { generateSecrets, type RandomBytes } from '../../../src/repo/keys/secrets.js';

/** Randomness that is the same in every run: SHA-256 of a label and a counter. */
export function fixedRandomness(label: string): RandomBytes {
  let calls = 0;
  return (length) => {
    const bytes = createHash('sha256').update(`${label} ${calls}`).digest().subarray(0, length);
    calls += 1;
    return bytes;
  };
}

export const secrets = generateSecrets(fixedRandomness('a repository'));
export const otherSecrets = generateSecrets(fixedRandomness('another repository'));

export const packA = 'aa'.repeat(16) as PackId;
export const packB = 'bb'.repeat(16) as PackId;

const hex16 = fc
  .uint8Array({ minLength: 16, maxLength: 16 })
  .map((bytes) => Buffer.from(bytes).toString('hex'));

export const anyPackId = hex16.map((hex) => hex as PackId);

export const anyReference: fc.Arbitrary<BlobReference> = fc.record({
  packId: anyPackId,
  offsetBytes: fc.integer({ min: 28, max: 2 ** 31 }),
  sealedBytes: fc.integer({ min: 21, max: 64 * 2 ** 20 }),
  counter: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
  id: hex16.map((hex) => hex as BlobId),
});

/** Bytes that compress, bytes that do not, and short ones. */
export const anyPlaintext: fc.Arbitrary<Uint8Array> = fc.oneof(
  fc.uint8Array({ maxLength: 64 }),
  fc.uint8Array({ minLength: 1000, maxLength: 2000 }),
  fc
    .tuple(fc.uint8Array({ minLength: 1, maxLength: 8 }), fc.integer({ min: 1, max: 500 }))
    .map(([pattern, times]) => Buffer.concat(Array<Uint8Array>(times).fill(pattern))),
);
