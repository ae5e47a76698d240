import { limits } from '../../base/index.js';
import type { BlobReference, FileMap, MapEntry } from '../types.js';

/** Chunks that a file of this size has. */
export function chunkCount(sizeBytes: number, chunkBytes: number): number {
  return Math.ceil(sizeBytes / chunkBytes);
}

/** Chunks below one entry of this height: a chunk itself is of height 0. */
export function chunksBelow(height: number): number {
  return limits.mapNodeEntries ** height;
}

/** Whether both say the same content. A blob may lie in two places: equal ids have equal plaintext. */
export function sameContent(left: MapEntry, right: MapEntry): boolean {
  if (left === 'zero' || right === 'zero') return left === right;
  return left.id === right.id;
}

/** Whether two entries say not only the same content but where it is. */
export function samePlace(left: MapEntry, right: MapEntry): boolean {
  if (left === 'zero' || right === 'zero') return left === right;
  return left.packId === right.packId && left.counter === right.counter && left.id === right.id;
}

/** Whether two maps describe the same file content, decided without loading a node. */
export function sameFileMap(left: FileMap, right: FileMap): boolean {
  return (
    left.sizeBytes === right.sizeBytes &&
    left.chunkBytes === right.chunkBytes &&
    left.height === right.height &&
    sameContent(left.root, right.root)
  );
}

/** A chunk that is not zero. */
export interface PlacedChunk {
  readonly index: number;
  readonly reference: BlobReference;
}
