import { LRUCache } from 'lru-cache';
import type { BlobId } from '../repo/index.js';
import type { ChunkPlace, SharedChunkCells } from '../resident/index.js';

/**
 * Verified plaintext of chunks, least recently used first out, in one piece of shared memory of a fixed size that the
 * system provides as it is used.
 *
 * This thread alone fills cells, as `SharedChunkCells` says. Another thread that was told of a place copies what it wants, and
 * then asks whether the chunk is still there.
 */
export class ChunkMemory {
  readonly shared: SharedChunkCells;
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
