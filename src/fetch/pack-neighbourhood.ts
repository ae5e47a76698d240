import { limits } from '../base/index.js';
import type { BlobReference } from '../repo/index.js';
import { sliceOf, type PackRange } from './pack-range.js';

/**
 * Pieces of packs around map nodes and manifests that were fetched a moment ago. A publish writes these together, nodes
 * in the order of what they map and the manifest last, so whoever needs one soon needs its neighbours, each of which
 * would cost a round trip. Nothing here is verified: what is taken out is opened like any other sealed bytes.
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

/**
 * What to fetch with a map node or manifest; no wider than needed when that is large. May reach past the end of the
 * pack, except for a manifest, which has everything it needs before it.
 */
export function rangeAround(reference: BlobReference, kind: 'map-node' | 'manifest'): PackRange {
  const spareBytes = Math.max(0, limits.mapRangeBytes - reference.sealedBytes);
  const beforeBytes = Math.min(
    reference.offsetBytes,
    kind === 'manifest' ? spareBytes : Math.floor(spareBytes / 4),
  );
  const afterBytes = kind === 'manifest' ? 0 : spareBytes - beforeBytes;
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
