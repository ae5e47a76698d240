import { limits } from '../../base/index.js';
import type { MapNode } from '../format/map-node.js';
import type { BlobReference, FileMap, MapEntry } from '../types.js';
import { chunkCount, chunksBelow, sameContent, type PlacedChunk } from './shape.js';

/** A subtree of the earlier map, which may be lower than the one that it is compared with: then it lies at its beginning. */
interface Earlier {
  readonly entry: MapEntry;
  readonly height: number;
}

const nothing: Earlier = { entry: 'zero', height: 0 };

type LoadNode = (reference: BlobReference) => Promise<MapNode>;

/**
 * The chunks of a map, ascending, that are not zero and have other content than in an earlier map of the file. Subtrees
 * that are equal cost nothing. Rejects as `load` does.
 */
export async function* changedChunks(
  map: FileMap,
  earlier: FileMap,
  load: LoadNode,
): AsyncGenerator<PlacedChunk, void> {
  let before: Earlier = { entry: earlier.root, height: earlier.height };
  while (before.height > map.height) before = await firstChild(before, load);
  // A file that has shrunk may keep what it had behind its end in the last nodes.
  const end = chunkCount(map.sizeBytes, map.chunkBytes);
  yield* changesBelow({ entry: map.root, height: map.height, start: 0, end }, before, load);
}

interface Subtree {
  readonly entry: MapEntry;
  readonly height: number;
  /** The first chunk that it speaks of. */
  readonly start: number;
  readonly end: number;
}

async function* changesBelow(
  { entry, height, start, end }: Subtree,
  before: Earlier,
  load: LoadNode,
): AsyncGenerator<PlacedChunk, void> {
  if (entry === 'zero' || start >= end) return;
  if (before.height === height && sameContent(entry, before.entry)) return;
  if (height === 0) {
    yield { index: start, reference: entry };
    return;
  }
  const node = await load(entry);
  const nodeBefore =
    before.height === height && before.entry !== 'zero' ? await load(before.entry) : undefined;
  const span = chunksBelow(height - 1);
  const children = Math.min(limits.mapNodeEntries, Math.ceil((end - start) / span));
  for (let child = 0; child < children; child += 1) {
    if (node.isZero(child)) continue;
    const subtree = { entry: node.entry(child), height: height - 1, start: start + child * span, end };
    const childBefore =
      nodeBefore === undefined ? nothing : { entry: nodeBefore.entry(child), height: height - 1 };
    const isBeginning = child === 0 && before.height < height;
    yield* changesBelow(subtree, isBeginning ? before : childBefore, load);
  }
}

async function firstChild({ entry, height }: Earlier, load: LoadNode): Promise<Earlier> {
  if (entry === 'zero') return nothing;
  return { entry: (await load(entry)).entry(0), height: height - 1 };
}
