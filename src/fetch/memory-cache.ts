import { LRUCache } from 'lru-cache';
import type { BlobId } from '../repo/index.js';

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

  /** A chunk larger than the limit is not kept. A view of a larger buffer is copied, so that it does not pin the rest. */
  set(id: BlobId, chunk: Uint8Array): void {
    if (this.#chunks.has(id)) return;
    this.#chunks.set(id, chunk.length === chunk.buffer.byteLength ? chunk : chunk.slice());
  }

  clear(): void {
    this.#chunks.clear();
  }
}
