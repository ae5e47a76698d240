import type { BlobReference, PackId } from './types.js';

/** Neighbours in a pack, to be read with one request. */
export interface PackRange {
  readonly packId: PackId;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** In order of offset. */
  readonly references: readonly BlobReference[];
}

/** What one request may bring. */
export interface RangeLimits {
  /** Of what is not wanted, between two blobs that are. */
  readonly gapBytes: number;
  /** Unless one blob is longer. */
  readonly rangeBytes: number;
}

/** The fewest requests that read these blobs. */
export function* packRanges(
  references: readonly BlobReference[],
  rangeLimits: RangeLimits,
): Generator<PackRange, void> {
  let range: BlobReference[] = [];
  for (const reference of [...references].sort(byPlace)) {
    const first = range[0];
    const last = range.at(-1);
    if (first !== undefined && last !== undefined && !belongsTo(first, last, reference, rangeLimits)) {
      yield rangeOf(range, first, last);
      range = [];
    }
    range.push(reference);
  }
  const [first, last] = [range[0], range.at(-1)];
  if (first !== undefined && last !== undefined) yield rangeOf(range, first, last);
}

function belongsTo(
  first: BlobReference,
  last: BlobReference,
  next: BlobReference,
  { gapBytes, rangeBytes }: RangeLimits,
): boolean {
  return (
    next.packId === first.packId &&
    next.offsetBytes - endOf(last) <= gapBytes &&
    endOf(next) - first.offsetBytes <= rangeBytes
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
