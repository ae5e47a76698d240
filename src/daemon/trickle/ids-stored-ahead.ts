import { LRUCache } from 'lru-cache';
import { limits } from '../../base/index.js';
import type { BlobId, BlobReference, EarlierPacks, StoredChunks } from '../../repo/index.js';

/** Chunks that were stored ahead: by this process, or as far as their packs tell by one before it. */
export class IdsStoredAhead implements StoredChunks {
  readonly #earlier: EarlierPacks;
  readonly #known = new LRUCache<BlobId, BlobReference>({ max: limits.trickleIdsRemembered });
  #usedBytes = 0;

  constructor(earlier: EarlierPacks) {
    this.#earlier = earlier;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  add(reference: BlobReference): void {
    this.#known.set(reference.id, reference);
  }

  async find(id: BlobId): Promise<BlobReference | undefined> {
    const found = this.#known.get(id) ?? (await this.#earlier.find(id));
    if (found === undefined) return undefined;
    this.add(found);
    this.#usedBytes += found.sealedBytes;
    return found;
  }
}
