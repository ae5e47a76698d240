import type { BlobReference, PackId } from '../repo/index.js';
import type { ByteRange } from '../store/index.js';

/** Bytes of one pack. */
export interface PackRange extends ByteRange {
  readonly packId: PackId;
}

/** Exactly the sealed bytes of a blob. */
export function exactRange(reference: BlobReference): PackRange {
  const { packId, offsetBytes, sealedBytes } = reference;
  return { packId, offsetBytes, lengthBytes: sealedBytes };
}

/** The shortest range that holds blobs of one pack; undefined for none. */
export function spanOf(references: readonly BlobReference[]): PackRange | undefined {
  const [first] = references;
  if (first === undefined) return undefined;
  const offsetBytes = Math.min(...references.map((reference) => reference.offsetBytes));
  const endBytes = Math.max(...references.map(endOf));
  return { packId: first.packId, offsetBytes, lengthBytes: endBytes - offsetBytes };
}

/** A copy of a blob's sealed bytes, out of the bytes of a range that covers them. */
export function sliceOf(bytes: Uint8Array, range: PackRange, reference: BlobReference): Uint8Array {
  const start = reference.offsetBytes - range.offsetBytes;
  return bytes.slice(start, start + reference.sealedBytes);
}

export function endOf(reference: BlobReference): number {
  return reference.offsetBytes + reference.sealedBytes;
}

/**
 * Groups blobs so that each group is worth one request: of one pack, close together, of a span of at most `rangeBytes`.
 * Groups come in the order of that of their members which is first in `references`.
 */
export function groupNeighbours(
  references: readonly BlobReference[],
  bounds: { readonly gapBytes: number; readonly rangeBytes: number },
): BlobReference[][] {
  const byPack = new Map<PackId, BlobReference[]>();
  for (const reference of references) {
    const members = byPack.get(reference.packId);
    if (members === undefined) byPack.set(reference.packId, [reference]);
    else members.push(reference);
  }
  const ranks = new Map(references.map((reference, rank) => [reference, rank]));
  return [...byPack.values()]
    .flatMap((members) => groupWithinPack(members, bounds))
    .map((group) => ({
      group,
      rank: group.reduce((least, reference) => Math.min(least, ranks.get(reference) ?? Infinity), Infinity),
    }))
    .sort((one, other) => one.rank - other.rank)
    .map(({ group }) => group);
}

function groupWithinPack(
  references: readonly BlobReference[],
  bounds: { readonly gapBytes: number; readonly rangeBytes: number },
): BlobReference[][] {
  const groups: BlobReference[][] = [];
  let group: BlobReference[] = [];
  for (const reference of references.toSorted((a, b) => a.offsetBytes - b.offsetBytes)) {
    const first = group[0];
    const last = group.at(-1);
    const isNeighbour =
      first !== undefined &&
      last !== undefined &&
      reference.offsetBytes - endOf(last) <= bounds.gapBytes &&
      endOf(reference) - first.offsetBytes <= bounds.rangeBytes;
    if (isNeighbour) group.push(reference);
    else groups.push((group = [reference]));
  }
  return groups;
}
