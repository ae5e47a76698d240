import { limits } from '../base/index.js';
import type { BlobKind, BlobReference } from '../repo/index.js';
import { endOf, sliceOf, type PackRange } from './pack-range.js';

/**
 * Pieces of packs around map nodes, manifests and deltas that were fetched a moment ago. A publish writes these together, nodes
 * in the order of what they map and the manifest last, deltas in that of their chunks and their index last, so whoever needs
 * one soon needs its neighbours, each of which would cost a round trip. Nothing here is verified: what is taken out is opened like any other sealed bytes.
 */
export class PackNeighbourhood {
  /** Oldest first. */
  readonly #pieces: { readonly range: PackRange; readonly bytes: Uint8Array }[] = [];

  /** A copy of a blob's sealed bytes, if they are here. */
  find(reference: BlobReference): Uint8Array | undefined {
    const piece = this.#pieces.find(({ range }) => covers(range, reference));
    if (piece === undefined) return undefined;
    return sliceOf(piece.bytes, piece.range, reference);
  }

  add(range: PackRange, bytes: Uint8Array): void {
    this.#pieces.push({ range, bytes });
    if (this.#pieces.length > limits.mapRangesKept) this.#pieces.shift();
  }

  /** Drops every piece that holds this blob. */
  forget(reference: BlobReference): void {
    const kept = this.#pieces.filter(({ range }) => !covers(range, reference));
    this.#pieces.splice(0, this.#pieces.length, ...kept);
  }
}

/** What has what it leads to before it in its pack. */
const lastKinds: readonly BlobKind[] = ['manifest', 'delta-index'];

/**
 * What to fetch with a blob that is no chunk; no wider than needed when that is large. May reach past the end of the pack
 * where `endBytes` does not say what lies in it, except for a manifest and an index of deltas, which have everything that
 * they lead to before them. At most `spareBytesMax` more than the blob.
 */
export function rangeAround(
  reference: BlobReference,
  kind: Exclude<BlobKind, 'chunk'>,
  {
    spareBytesMax,
    endBytes = Infinity,
  }: { readonly spareBytesMax: number; readonly endBytes?: number | undefined },
): PackRange {
  const spareBytes = Math.min(spareBytesMax, Math.max(0, limits.mapRangeBytes - reference.sealedBytes));
  const isLast = lastKinds.includes(kind);
  const beforeBytes = Math.min(reference.offsetBytes, isLast ? spareBytes : Math.floor(spareBytes / 4));
  const afterBytes = isLast ? 0 : Math.min(spareBytes - beforeBytes, endBytes - endOf(reference));
  return {
    packId: reference.packId,
    offsetBytes: reference.offsetBytes - beforeBytes,
    lengthBytes: beforeBytes + reference.sealedBytes + afterBytes,
  };
}

function covers(range: PackRange, reference: BlobReference): boolean {
  return (
    range.packId === reference.packId &&
    range.offsetBytes <= reference.offsetBytes &&
    range.offsetBytes + range.lengthBytes >= reference.offsetBytes + reference.sealedBytes
  );
}
