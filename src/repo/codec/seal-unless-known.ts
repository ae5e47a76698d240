import { limits } from '../../base/index.js';
import { encodeDelta } from '../format/delta.js';
import type { Sealer } from '../format/sealer.js';
import type { SealJob, SealOutcome } from './messages.js';

/** Seals a plaintext unless it is all zero or what its place held before. */
export function sealUnlessKnown(sealer: Sealer, job: SealJob): SealOutcome {
  const { plaintext, kind, packId, counter } = job;
  if (isAllZero(plaintext)) return { outcome: 'zero' };
  const id = sealer.identify(plaintext);
  if (id === job.unlessId) return { outcome: 'unchanged' };
  const sealed = sealer.seal(plaintext, kind, packId, counter, id);
  const delta = deltaOf(job, sealed.length);
  return { outcome: 'sealed', id, sealed, ...(delta === undefined ? {} : { delta }) };
}

function deltaOf({ base, unlessId, plaintext }: SealJob, sealedBytes: number): Uint8Array | undefined {
  if (base === undefined || unlessId === undefined || base.length !== plaintext.length) return undefined;
  return encodeDelta(unlessId, base, plaintext, sealedBytes * limits.deltaBytesFraction);
}

/** Zero at the front, and equal to itself shifted by one: a single `memcmp`. */
function isAllZero(bytes: Uint8Array): boolean {
  if (bytes.length === 0) return true;
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view[0] === 0 && view.subarray(1).equals(view.subarray(0, -1));
}
