import { limits } from '../base/index.js';
import type { BlobReference } from '../repo/index.js';
import { endOf } from './pack-range.js';

/**
 * Blobs in the order in which they will be wanted, and the requests to make for them: each brings what is wanted first,
 * and what lies beside it in its pack and is wanted soon. "Soon" is what two requests bring at the beginning, when somebody
 * waits for just that, and twice as much with each request.
 */
export class UpcomingBlobs {
  /** In order. */
  #blobs: BlobReference[] = [];
  #sealedBytes = 0;
  #requestsAhead = 2;

  /** Whether more of them would change the next request, if that may be of `rangeBytes`. */
  wantsMore(rangeBytes: number): boolean {
    return (
      this.#blobs.length < limits.warmLookAheadChunks && this.#sealedBytes < this.#requestsAhead * rangeBytes
    );
  }

  add(reference: BlobReference): void {
    this.#blobs.push(reference);
    this.#sealedBytes += reference.sealedBytes;
  }

  /**
   * The blobs of the next request, all of one pack: of a span of at most `rangeBytes` if it is
   * more than one, with no gap that another request would be cheaper than. Undefined when there are none left.
   */
  take(rangeBytes: number): readonly BlobReference[] | undefined {
    const [first] = this.#blobs;
    if (first === undefined) return undefined;
    const taken = new Set(around(first, this.#soon(first, rangeBytes), rangeBytes));
    // A blob may be wanted twice.
    const group = this.#blobs.filter((blob) => taken.has(blob));
    this.#blobs = this.#blobs.filter((blob) => !taken.has(blob));
    this.#sealedBytes -= group.reduce((sum, { sealedBytes }) => sum + sealedBytes, 0);
    if (this.#requestsAhead < limits.warmLookAheadChunks) this.#requestsAhead *= 2;
    return group;
  }

  /** Those in the pack of `first` that are wanted soon. */
  #soon({ packId }: BlobReference, rangeBytes: number): readonly BlobReference[] {
    let leftBytes = this.#requestsAhead * rangeBytes;
    return this.#blobs.filter((blob, rank) => {
      const isSoon = rank === 0 || (rank < limits.warmLookAheadChunks && leftBytes > 0);
      leftBytes -= blob.sealedBytes;
      return isSoon && blob.packId === packId;
    });
  }
}

/** `first` with those of its neighbours that fit, nearest first. */
function around(
  first: BlobReference,
  blobs: readonly BlobReference[],
  rangeBytes: number,
): readonly BlobReference[] {
  const byPlace = blobs.toSorted((one, other) => one.offsetBytes - other.offsetBytes);
  let start = byPlace.indexOf(first);
  let end = start + 1;
  let [startBytes, endBytes] = [first.offsetBytes, endOf(first)];
  for (;;) {
    const before = byPlace[start - 1];
    const after = byPlace[end];
    const gapBefore = before === undefined ? Infinity : startBytes - endOf(before);
    const gapAfter = after === undefined ? Infinity : after.offsetBytes - endBytes;
    if (Math.min(gapBefore, gapAfter) > limits.warmGapBytes) break;
    if (before !== undefined && gapBefore < gapAfter) {
      if (endBytes - before.offsetBytes > rangeBytes) break;
      startBytes = before.offsetBytes;
      start -= 1;
    } else if (after !== undefined) {
      const nextEndBytes = Math.max(endBytes, endOf(after));
      if (nextEndBytes > endBytes && nextEndBytes - startBytes > rangeBytes) break;
      endBytes = nextEndBytes;
      end += 1;
    }
  }
  return byPlace.slice(start, end);
}

/** How many requests bring blobs that are warmed in this order, if one may be so long. */
export function requestsFor(references: readonly BlobReference[], rangeBytes: number): number {
  const upcoming = new UpcomingBlobs();
  const left = references.values();
  for (let requests = 0; ; requests += 1) {
    while (upcoming.wantsMore(rangeBytes)) {
      const { done, value } = left.next();
      if (done === true) break;
      upcoming.add(value);
    }
    if (upcoming.take(rangeBytes) === undefined) return requests;
  }
}
