import { LRUCache } from 'lru-cache';
import type { BlobId } from '../repo/index.js';

/**
 * The memory tier as other threads see it: cells of equal size that hold one chunk each, and a sequence number for each
 * cell, odd while the cell is being filled. See `ChunkMemory` for what its numbers promise.
 */
export interface SharedChunkMemory {
  readonly cellBytes: number;
  readonly cells: SharedArrayBuffer;
  readonly sequences: SharedArrayBuffer;
}

/** Where a chunk lies: for as long as the cell's sequence number is this one. */
export interface ChunkPlace {
  readonly cell: number;
  readonly sequence: number;
}

/**
 * Verified plaintext of chunks, least recently used first out, in one piece of shared memory of a fixed size that the
 * system provides as it is used.
 *
 * This thread alone fills cells. Another thread that was told of a place copies what it wants, and then asks whether the
 * sequence number is still the same: `isStillThere`. Filling makes the number odd before the first byte changes, and even
 * again, and higher, after the last one.
 */
export class ChunkMemory {
  readonly shared: SharedChunkMemory;
  readonly #bytes: Uint8Array;
  readonly #sequences: Int32Array;
  readonly #lengths: Int32Array;
  readonly #cells: LRUCache<BlobId, number> | undefined;
  readonly #free: number[];

  /** `cellBytes`: the longest chunk that is kept. */
  constructor(limitBytes: number, cellBytes: number) {
    const count = Math.floor(limitBytes / cellBytes);
    this.shared = {
      cellBytes,
      cells: new SharedArrayBuffer(count * cellBytes),
      sequences: new SharedArrayBuffer(count * Int32Array.BYTES_PER_ELEMENT),
    };
    this.#bytes = new Uint8Array(this.shared.cells);
    this.#sequences = new Int32Array(this.shared.sequences);
    this.#lengths = new Int32Array(count);
    this.#free = Array.from({ length: count }, (_, index) => count - 1 - index);
    // The library takes 0 for "no limit".
    this.#cells =
      count === 0 ? undefined : new LRUCache({ max: count, dispose: (cell) => this.#free.push(cell) });
  }

  /** Bytes held now. */
  get sizeBytes(): number {
    return (this.#cells?.size ?? 0) * this.shared.cellBytes;
  }

  has(id: BlobId): boolean {
    return this.#cells?.has(id) ?? false;
  }

  /**
   * The chunk, which now counts as just used. Must not be modified, and holds the chunk only until this thread does
   * something else: the next chunk to arrive may take its cell.
   */
  peek(id: BlobId): Uint8Array | undefined {
    const cell = this.#cells?.get(id);
    if (cell === undefined) return undefined;
    const start = cell * this.shared.cellBytes;
    return this.#bytes.subarray(start, start + (this.#lengths[cell] ?? 0));
  }

  /** Where other threads find a chunk that is here in the length of a whole cell. */
  place(id: BlobId): ChunkPlace | undefined {
    const cell = this.#cells?.peek(id);
    if (cell === undefined || this.#lengths[cell] !== this.shared.cellBytes) return undefined;
    return { cell, sequence: this.#sequences[cell] ?? 0 };
  }

  /** Copies a chunk into a cell; one that is longer than a cell is not kept. */
  set(id: BlobId, chunk: Uint8Array): void {
    const cells = this.#cells;
    if (cells === undefined || cells.has(id) || chunk.length > this.shared.cellBytes) return;
    if (this.#free.length === 0) cells.pop();
    const cell = this.#free.pop();
    if (cell === undefined) throw new Error('a full cache has given back no cell');
    Atomics.add(this.#sequences, cell, 1);
    this.#bytes.set(chunk, cell * this.shared.cellBytes);
    this.#lengths[cell] = chunk.length;
    Atomics.add(this.#sequences, cell, 1);
    cells.set(id, cell);
  }

  clear(): void {
    this.#cells?.clear();
  }
}

/**
 * Whether a cell still held what a place says after everything that was copied from it before this call. The exchange
 * writes, if only what is there already: a processor may let a mere load overtake the copying that it is to prove right.
 */
export function isStillThere(sequences: Int32Array, { cell, sequence }: ChunkPlace): boolean {
  return Atomics.compareExchange(sequences, cell, sequence, sequence) === sequence;
}
