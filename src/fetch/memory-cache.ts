import { LRUCache } from 'lru-cache';
import type { BlobId } from '../repo/index.js';

/** What a chunk may pin beyond itself, such as the frame that it was stored in. */
const pinnedShareMax = 1 / 8;

/** Verified plaintext of chunks, least recently used first out. Bounded by the bytes that it keeps from being freed. */
export class MemoryCache {
  readonly #chunks: LRUCache<BlobId, Uint8Array>;

  constructor(limitBytes: number) {
    this.#chunks = new LRUCache({
      maxSize: Math.max(1, limitBytes),
      sizeCalculation: (chunk) => Math.max(1, chunk.buffer.byteLength),
    });
  }

  /** Bytes held now. */
  get sizeBytes(): number {
    return this.#chunks.calculatedSize;
  }

  has(id: BlobId): boolean {
    return this.#chunks.has(id);
  }

  /** The chunk, which now counts as just used. Shared: must not be modified. */
  get(id: BlobId): Uint8Array | undefined {
    return this.#chunks.get(id);
  }

  /** A chunk larger than the limit is not kept. A view of a much larger buffer is copied: it would pin the rest. */
  set(id: BlobId, chunk: Uint8Array): void {
    if (this.#chunks.has(id)) return;
    const isWasteful = chunk.buffer.byteLength > chunk.length * (1 + pinnedShareMax);
    this.#chunks.set(id, isWasteful ? chunk.slice() : chunk);
  }

  clear(): void {
    this.#chunks.clear();
  }
}
