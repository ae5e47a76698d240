import { LRUCache } from 'lru-cache';
import { limits } from '../../base/index.js';
import { packKey, type BlobReference, type PackId } from '../../repo/index.js';
import { ObjectMissing, type ObjectStore } from '../../store/index.js';
import { exactRange } from '../pack-range.js';
import type { TierSource } from './tier.js';

/** A copy of the same repository, perhaps an older one: its packs have the same ids, and what it lacks it lacks whole. */
export class StoreTier implements TierSource {
  readonly #store: ObjectStore;
  readonly #absent = new LRUCache<PackId, true>({
    max: limits.tierPacksRemembered,
    ttl: limits.tierMemoryMs,
  });

  /** The tier owns the store. */
  constructor(store: ObjectStore) {
    this.#store = store;
  }

  async find(
    reference: BlobReference,
    _kind: unknown,
    signal: AbortSignal,
  ): Promise<{ readonly reference: BlobReference; readonly sealed: Uint8Array } | undefined> {
    const { packId } = reference;
    if (this.#absent.has(packId)) return undefined;
    try {
      return { reference, sealed: await this.#store.get(packKey(packId), exactRange(reference), { signal }) };
    } catch (error) {
      if (!(error instanceof ObjectMissing)) throw error;
      this.#absent.set(packId, true);
      return undefined;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#store[Symbol.asyncDispose]();
  }
}
