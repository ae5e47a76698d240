import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import type { NodeCache } from './chunk-map/node-cache.js';
import { changedChunks } from './chunk-map/changes.js';
import { searchMap, type SoughtChunk } from './chunk-map/search.js';
import { chunkCount, chunksBelow, type PlacedChunk } from './chunk-map/shape.js';
import type { MapNode } from './format/map-node.js';
import { Cancelled, limits } from '../base/index.js';
import type { BlobReader, BlobReference, FileMap, MapEntry } from './types.js';

interface LoadOptions {
  readonly signal?: AbortSignal;
}

/** Consecutive chunks that one leaf node (or the lone chunk of a tree of height 0) speaks of. */
interface LeafRun {
  readonly first: number;
  readonly count: number;
  entry(position: number): MapEntry;
}

/**
 * One file of one version: says for every chunk whether it is zero, or where it is. Nodes are loaded when touched.
 * Chunks past the end of the file are zero. Holds no resources.
 */
export class ChunkMap {
  readonly map: FileMap;
  readonly #reader: BlobReader;
  readonly #cache: NodeCache;

  constructor(map: FileMap, reader: BlobReader, cache: NodeCache) {
    this.map = map;
    this.#reader = reader;
    this.#cache = cache;
  }

  get chunkCount(): number {
    return chunkCount(this.map.sizeBytes, this.map.chunkBytes);
  }

  /** The entry of a chunk, or undefined when a node on the path to it is not in memory. */
  peekEntry(chunkIndex: number): MapEntry | undefined {
    if (chunkIndex >= this.chunkCount) return 'zero';
    let entry = this.map.root;
    for (let height = this.map.height; height > 0 && entry !== 'zero'; height -= 1) {
      const node = this.#cache.peek(entry);
      if (node === undefined) return undefined;
      entry = node.entry(positionAt(chunkIndex, height));
    }
    return entry;
  }

  /** Rejects as `BlobReader.readBlob` does. */
  async entry(chunkIndex: number, options: LoadOptions = {}): Promise<MapEntry> {
    if (chunkIndex >= this.chunkCount) return 'zero';
    let entry = this.map.root;
    for (let height = this.map.height; height > 0 && entry !== 'zero'; height -= 1) {
      const node = await this.#load(entry, options);
      entry = node.entry(positionAt(chunkIndex, height));
    }
    return entry;
  }

  /**
   * The first chunk from `first` up to `end` that is of this kind; `end` if there is none. Undefined when that needs a
   * node that is not in memory, or too many for one turn.
   */
  peekNext(sought: SoughtChunk, first: number, end: number): number | undefined {
    const search = searchMap(this.map, sought, first, this.#end(end));
    let node: MapNode | undefined;
    for (let nodes = 0; nodes <= limits.mapNodesPerTurn; nodes += 1) {
      const step = node === undefined ? search.next() : search.next(node);
      if (step.done === true) return this.#found(step.value, sought, first, end);
      node = this.#cache.peek(step.value);
      if (node === undefined) return undefined;
    }
    return undefined;
  }

  /** As `peekNext`, loading nodes; subtrees that are zero cost nothing. Rejects as `BlobReader.readBlob` does. */
  async next(sought: SoughtChunk, first: number, end: number, options: LoadOptions = {}): Promise<number> {
    const search = searchMap(this.map, sought, first, this.#end(end));
    let step = search.next();
    for (let nodes = 1; step.done !== true; nodes += 1) {
      if (nodes % limits.mapNodesPerTurn === 0) await eventLoopTurn();
      if (options.signal?.aborted === true) throw new Cancelled('Looking through a chunk map');
      step = search.next(await this.#load(step.value, options));
    }
    return this.#found(step.value, sought, first, end);
  }

  /** The chunks of a range that are not zero, ascending. Zero subtrees cost nothing. Rejects as `BlobReader.readBlob` does. */
  async *entries(first: number, count: number, options: LoadOptions = {}): AsyncGenerator<PlacedChunk, void> {
    const end = Math.min(first + count, this.chunkCount);
    for await (const run of this.#leafRuns(this.map.root, this.map.height, 0, first, end, options)) {
      for (let position = 0; position < run.count; position += 1) {
        const reference = run.entry(position);
        if (reference !== 'zero') yield { index: run.first + position, reference };
      }
    }
  }

  /**
   * The chunks that are not zero and have other content than in an earlier map of this file, ascending. What both have as a
   * whole costs nothing. Rejects as `BlobReader.readBlob` does.
   */
  changedSince(earlier: FileMap, options: LoadOptions = {}): AsyncGenerator<PlacedChunk, void> {
    return changedChunks(this.map, earlier, (reference) => this.#load(reference, options));
  }

  /** What the subtree of `height` under `entry`, which starts at chunk `start`, says of the chunks from `first` to `end`. */
  async *#leafRuns(
    entry: MapEntry,
    height: number,
    start: number,
    first: number,
    end: number,
    options: LoadOptions,
  ): AsyncGenerator<LeafRun, void> {
    if (entry === 'zero' || first >= end) return;
    if (height === 0) {
      yield { first: start, count: 1, entry: () => entry };
      return;
    }
    const node = await this.#load(entry, options);
    const childSpan = chunksBelow(height - 1);
    const firstChild = Math.max(0, Math.floor((first - start) / childSpan));
    const endChild = Math.min(limits.mapNodeEntries, Math.ceil((end - start) / childSpan));
    if (height === 1) {
      yield {
        first: start + firstChild,
        count: endChild - firstChild,
        entry: (position) => node.entry(firstChild + position),
      };
      return;
    }
    for (let child = firstChild; child < endChild; child += 1) {
      yield* this.#leafRuns(node.entry(child), height - 1, start + child * childSpan, first, end, options);
    }
  }

  #end(end: number): number {
    return Math.min(end, this.chunkCount);
  }

  /** What a search found within the file, or what there is after it: zeros. */
  #found(found: number | undefined, sought: SoughtChunk, first: number, end: number): number {
    if (found !== undefined) return found;
    return sought === 'zero' ? Math.max(first, this.#end(end)) : end;
  }

  #load(reference: BlobReference, options: LoadOptions): Promise<MapNode> {
    return this.#cache.load(reference, this.#reader, options);
  }
}

/** Which entry of a node of this height leads to the chunk. */
function positionAt(chunkIndex: number, height: number): number {
  return Math.floor(chunkIndex / chunksBelow(height - 1)) % limits.mapNodeEntries;
}
