import { linux } from './linux.js';

/** As large as a page is on any processor. */
const alignBytes = 64 * 1024;

/** `advice` of madvise(2). */
const advice = { dontFork: 10, doFork: 11 } as const;

/** Must not be collected: what is freed becomes memory for something else, which children would then lack. */
const inUse = new Set<ArrayBufferLike>();

export interface UnforkedMemory {
  readonly bytes: Uint8Array;
  /** From now on it is memory as any other, to be collected when nobody refers to it. Idempotent. */
  readonly release: () => void;
}

/**
 * Memory whose pages are all there and stay so until it is released. Children do not inherit it: otherwise a fork takes the
 * right to write to a page away from the parent, too, until it writes to it and is given the page back, which the kernel does
 * not do for a process that is being killed. Best effort: where the system refuses, it is as any other.
 */
export function unforkedMemory(lengthBytes: number, kind: 'own' | 'shared'): UnforkedMemory {
  const wholeBytes = Math.ceil(lengthBytes / alignBytes) * alignBytes;
  const makeBuffer = kind === 'own' ? ArrayBuffer : SharedArrayBuffer;
  const buffer = new makeBuffer(wholeBytes + alignBytes);
  const all = new Uint8Array(buffer).fill(0);
  const { addressOf, madvise } = linux();
  const beyondBytes = Number(BigInt(addressOf(all, 0, 0)) % BigInt(alignBytes));
  const startBytes = beyondBytes === 0 ? 0 : alignBytes - beyondBytes;
  const whole = all.subarray(startBytes, startBytes + wholeBytes);
  inUse.add(buffer);
  madvise(whole, wholeBytes, advice.dontFork);
  return {
    bytes: whole.subarray(0, lengthBytes),
    release: () => {
      if (inUse.has(buffer) && madvise(whole, wholeBytes, advice.doFork) === 0) inUse.delete(buffer);
    },
  };
}
