import { limits } from '../../base/index.js';
import type { BlobReference, FileMap, MapEntry } from '../types.js';
import type { MapNode } from '../format/map-node.js';
import { mapHeight } from '../format/manifest.js';
import { chunkCount, chunksBelow, sameContent, samePlace } from './shape.js';

/** Consecutive chunks that get the same entry; only zero ones come in runs longer than one. */
export interface MapChange {
  readonly first: number;
  readonly count: number;
  readonly entry: MapEntry;
}

export interface MapRevision {
  /** The map to start from; undefined: everything zero. */
  readonly base: FileMap | undefined;
  readonly sizeBytes: number;
  readonly chunkBytes: number;
  /** Ascending, not overlapping, within the new size. */
  readonly changes: AsyncIterator<MapChange>;
  readonly loadNode: (reference: BlobReference) => Promise<MapNode>;
  readonly storeNode: (entries: readonly MapEntry[]) => Promise<BlobReference>;
}

/**
 * The map of a file after some chunks changed and its size became `sizeBytes`. Loads and stores only nodes on the way
 * to a change, to the new end of a file that shrank, or to the root of one that grew; all others are referenced.
 * Memory: one node of each height.
 */
export async function reviseMap(revision: MapRevision): Promise<FileMap> {
  const { base, sizeBytes, chunkBytes } = revision;
  if (base !== undefined && base.chunkBytes !== chunkBytes) {
    throw new Error(
      `a map of ${base.chunkBytes}-byte chunks cannot be revised in chunks of ${chunkBytes} bytes`,
    );
  }
  const height = mapHeight(sizeBytes, chunkBytes);
  const tree = new TreeRevision(revision);
  const root = await tree.subtree(height, 0, await loweredRoot(revision, height));
  await tree.expectNoMoreChanges();
  return { sizeBytes, chunkBytes, height, root };
}

/** The base's root entry; of a base that is higher than the new tree, the part that the new tree covers. */
async function loweredRoot({ base, loadNode }: MapRevision, height: number): Promise<MapEntry> {
  let entry: MapEntry = base?.root ?? 'zero';
  for (let baseHeight = base?.height ?? 0; baseHeight > height && entry !== 'zero'; baseHeight -= 1) {
    entry = (await loadNode(entry)).entry(0);
  }
  return entry;
}

class TreeRevision {
  readonly #revision: MapRevision;
  readonly #chunks: number;
  readonly #baseChunks: number;
  readonly #baseHeight: number;
  /** The first change that is not yet behind us. */
  #change: MapChange | undefined;
  #changesEnded = false;

  constructor(revision: MapRevision) {
    this.#revision = revision;
    this.#chunks = chunkCount(revision.sizeBytes, revision.chunkBytes);
    this.#baseChunks = chunkCount(revision.base?.sizeBytes ?? 0, revision.chunkBytes);
    this.#baseHeight = revision.base?.height ?? 0;
  }

  /** The new entry for the subtree of `height` that starts at chunk `first`, whose entry was `base`. */
  async subtree(height: number, first: number, base: MapEntry): Promise<MapEntry> {
    if (first >= this.#chunks) return 'zero';
    const end = first + chunksBelow(height);
    const change = await this.#changeAfter(first);
    if (change !== undefined && this.#covers(change, height, first)) return change.entry;
    const changed = change !== undefined && change.first < end;
    const cut = end > this.#chunks && this.#baseChunks > this.#chunks;
    const raised = height > this.#baseHeight;
    if (base === 'zero' ? !changed : !changed && !cut && !raised) return base;
    return this.#node(height, first, base);
  }

  /** A programming error in the source of the changes. */
  async expectNoMoreChanges(): Promise<void> {
    const change = await this.#changeAfter(this.#chunks);
    if (change !== undefined) throw new Error(`change of chunk ${change.first} is past the end of the file`);
  }

  /** Whether the whole subtree gets the entry of this change. */
  #covers(change: MapChange, height: number, first: number): boolean {
    if (height > 0 && change.entry !== 'zero') return false;
    const end = Math.min(first + chunksBelow(height), this.#chunks);
    return change.first <= first && change.first + change.count >= end;
  }

  async #node(height: number, first: number, base: MapEntry): Promise<MapEntry> {
    const raised = height > this.#baseHeight && base !== 'zero';
    const baseNode = base === 'zero' || raised ? undefined : await this.#revision.loadNode(base);
    const childSpan = chunksBelow(height - 1);
    const entries: MapEntry[] = [];
    let same = !raised;
    for (let child = 0; child < limits.mapNodeEntries; child += 1) {
      // A tree that grew in height has its base at the far left, below new nodes.
      const before = raised ? (child === 0 ? base : 'zero') : (baseNode?.entry(child) ?? 'zero');
      const after = await this.subtree(height - 1, first + child * childSpan, before);
      // A chunk may have moved and be the same; of a node, what it says of its chunks' places is content.
      const keeps = height === 1 ? samePlace(before, after) : sameContent(before, after);
      same &&= keeps;
      entries.push(keeps ? before : after);
    }
    if (same) return base;
    if (entries.every((entry) => entry === 'zero')) return 'zero';
    return this.#revision.storeNode(entries);
  }

  /** The first change that reaches past chunk `index`. */
  async #changeAfter(index: number): Promise<MapChange | undefined> {
    while (
      !this.#changesEnded &&
      (this.#change === undefined || this.#change.first + this.#change.count <= index)
    ) {
      const next = await this.#revision.changes.next();
      if (next.done === true) this.#changesEnded = true;
      else this.#change = checked(next.value, this.#change);
    }
    return this.#changesEnded ? undefined : this.#change;
  }
}

/** Wrong order would lose changes silently. */
function checked(change: MapChange, previous: MapChange | undefined): MapChange {
  if (change.count < 1 || (change.count > 1 && change.entry !== 'zero')) {
    throw new Error(`not a change of a chunk map: ${JSON.stringify(change)}`);
  }
  if (previous !== undefined && change.first < previous.first + previous.count) {
    throw new Error(`changes of a chunk map out of order: chunk ${change.first} after ${previous.first}`);
  }
  return change;
}
