import type { Test } from 'tap';

/** Compares content. `t.same` does not: to it a Buffer equals every Uint8Array of its length. */
export function sameBytes(t: Test, found: Uint8Array, wanted: Uint8Array, message = 'same bytes'): void {
  t.equal(Buffer.from(found).toString('hex'), Buffer.from(wanted).toString('hex'), message);
}
