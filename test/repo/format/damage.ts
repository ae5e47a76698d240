import fc from 'fast-check';

/** One way in which bytes can go wrong. */
export type Damage =
  | { readonly kind: 'flip'; readonly at: number }
  | { readonly kind: 'truncate'; readonly at: number }
  | { readonly kind: 'extend'; readonly bytes: Uint8Array };

/** Any single flipped bit, any truncation, any extension. Positions are fractions, so one damage fits every length. */
export const anyDamage: fc.Arbitrary<Damage> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('flip' as const), at: fraction() }) },
  fc.record({ kind: fc.constant('truncate' as const), at: fraction() }),
  fc.record({ kind: fc.constant('extend' as const), bytes: fc.uint8Array({ minLength: 1, maxLength: 40 }) }),
);

function fraction(): fc.Arbitrary<number> {
  return fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
}

export function damage(bytes: Uint8Array, how: Damage): Uint8Array {
  switch (how.kind) {
    case 'flip':
      return flipBit(bytes, Math.floor(how.at * bytes.length * 8));
    case 'truncate':
      return bytes.slice(0, Math.floor(how.at * bytes.length));
    case 'extend':
      return Buffer.concat([bytes, how.bytes]);
  }
}

export function flipBit(bytes: Uint8Array, bit: number): Uint8Array {
  const flipped = Uint8Array.from(bytes);
  flipped[bit >> 3]! ^= 1 << (bit & 7);
  return flipped;
}

/** What a call throws; fails the test when it returns. */
export function errorOf(call: () => unknown): unknown {
  try {
    call();
  } catch (error) {
    return error;
  }
  throw new Error('it was accepted');
}
