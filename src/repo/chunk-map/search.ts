import { limits } from '../../base/index.js';
import type { MapNode } from '../format/map-node.js';
import type { BlobReference, FileMap, MapEntry } from '../types.js';
import { chunksBelow } from './shape.js';

/** What is looked for: a chunk that has content, or one that is all zero. */
export type SoughtChunk = 'data' | 'zero';

/** Asks for nodes as it goes, gets them, and ends with the chunk that it found. */
export type MapSearch = Generator<BlobReference, number | undefined, MapNode>;

/**
 * Looks for the first chunk of a kind from `first` up to `end`, which lies within the file. Subtrees that are zero are
 * judged, or passed over, as a whole.
 */
export function searchMap(map: FileMap, sought: SoughtChunk, first: number, end: number): MapSearch {
  return searchSubtree(map.root, map.height, 0, { sought, first, end });
}

interface Wanted {
  readonly sought: SoughtChunk;
  readonly first: number;
  readonly end: number;
}

/** `entry` stands for the subtree of this height that starts at chunk `start`. */
function* searchSubtree(entry: MapEntry, height: number, start: number, wanted: Wanted): MapSearch {
  const { sought, first, end } = wanted;
  const from = Math.max(start, first);
  if (from >= Math.min(end, start + chunksBelow(height))) return undefined;
  if (entry === 'zero') return sought === 'zero' ? from : undefined;
  if (height === 0) return sought === 'data' ? from : undefined;
  const node = yield entry;
  const childSpan = chunksBelow(height - 1);
  const endChild = Math.min(limits.mapNodeEntries, Math.ceil((end - start) / childSpan));
  for (let child = Math.floor((from - start) / childSpan); child < endChild; child += 1) {
    const childStart = start + child * childSpan;
    const isZero = node.isZero(child);
    if (isZero || height === 1) {
      if (isZero === (sought === 'zero')) return Math.max(childStart, first);
      continue;
    }
    const found = yield* searchSubtree(node.entry(child), height - 1, childStart, wanted);
    if (found !== undefined) return found;
  }
  return undefined;
}
