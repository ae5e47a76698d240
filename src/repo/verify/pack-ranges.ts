import { limits } from '../../base/index.js';
import type { BlobReference, PackId } from '../types.js';

/** Neighbours in a pack, to be read with one request. */
export interface PackRange {
  readonly packId: PackId;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** In order of offset. */
  readonly references: readonly BlobReference[];
}

/** The fewest requests that read these blobs, none longer than `limits.verifyRangeBytes` unless one blob is. */
export function* packRanges(references: readonly BlobReference[]): Generator<PackRange, void> {
  let range: BlobReference[] = [];
  for (const reference of [...references].sort(byPlace)) {
    const first = range[0];
    const last = range.at(-1);
    if (first !== undefined && last !== undefined && !belongsTo(first, last, reference)) {
      yield rangeOf(range, first, last);
      range = [];
    }
    range.push(reference);
  }
  const [first, last] = [range[0], range.at(-1)];
  if (first !== undefined && last !== undefined) yield rangeOf(range, first, last);
}

function belongsTo(first: BlobReference, last: BlobReference, next: BlobReference): boolean {
  return (
    next.packId === first.packId &&
    next.offsetBytes - endOf(last) <= limits.verifyGapBytes &&
    endOf(next) - first.offsetBytes <= limits.verifyRangeBytes
  );
}

function rangeOf(references: readonly BlobReference[], first: BlobReference, last: BlobReference): PackRange {
  const { packId, offsetBytes } = first;
  return { packId, offsetBytes, lengthBytes: endOf(last) - offsetBytes, references };
}

function endOf(reference: BlobReference): number {
  return reference.offsetBytes + reference.sealedBytes;
}

function byPlace(one: BlobReference, other: BlobReference): number {
  if (one.packId !== other.packId) return one.packId < other.packId ? -1 : 1;
  return one.offsetBytes - other.offsetBytes;
}
