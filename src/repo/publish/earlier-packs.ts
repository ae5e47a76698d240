import { limits } from '../../base/index.js';
import { ObjectMissing, type RequestOptions } from '../../store/index.js';
import { DamagedObject } from '../errors.js';
import { packKey } from '../format/object-keys.js';
import { inOrder } from '../in-order.js';
import type { Repository } from '../repository.js';
import type { BlobId, BlobReference, PackId } from '../types.js';

interface LoadedPack {
  readonly packId: PackId;
  readonly chunks: readonly BlobReference[];
}

/** Chunks that are in the store already. */
export interface StoredChunks {
  /** Sealed bytes of chunks that `find` has answered; each is asked for once. */
  readonly usedBytes: number;
  /** Where a chunk with this id is. Errors: those of the store. */
  find(id: BlobId): Promise<BlobReference | undefined>;
}

/**
 * Chunks in packs that an earlier attempt of a publish has uploaded. What they hold is asked of the store, so that a
 * pack that is not there (any more) is never referred to.
 *
 * Of more than `limits.earlierPacksKnown` packs, those are known at a time that are around the last one which was of use: an
 * attempt meets its chunks in the order in which the one before did.
 */
export class EarlierPacks implements StoredChunks {
  readonly #repository: Repository;
  readonly #options: RequestOptions;
  readonly #packIds: readonly PackId[];
  readonly #known = new Map<BlobId, { readonly reference: BlobReference; readonly position: number }>();
  /** By position; those that are known. */
  readonly #loaded = new Map<number, LoadedPack>();
  #nextPosition = 0;
  readonly #used = new Set<PackId>();
  #usedBytes = 0;

  /** `packIds`: in the order in which they were filled; may name packs that were never uploaded. */
  constructor(repository: Repository, packIds: readonly PackId[], options: RequestOptions) {
    this.#repository = repository;
    this.#packIds = packIds;
    this.#options = options;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  async find(id: BlobId): Promise<BlobReference | undefined> {
    if (this.#nextPosition === 0) await this.#loadFirst();
    const found = this.#known.get(id);
    if (found === undefined) return undefined;
    const { reference, position } = found;
    this.#used.add(reference.packId);
    this.#usedBytes += reference.sealedBytes;
    if (this.#nextPosition - position <= limits.earlierPacksKnown / 2) await this.#advanceTo(position);
    return reference;
  }

  /** Whether every pack that `find` referred to is in the store still. */
  async areThere(): Promise<boolean> {
    const infos = inOrder(
      this.#used.values(),
      (packId) => this.#repository.store.stat(packKey(packId), this.#options),
      limits.earlierPackReadsInFlight,
    );
    for await (const info of infos) if (info === undefined) return false;
    return true;
  }

  /** Packs that were never uploaded do not count. */
  async #loadFirst(): Promise<void> {
    if (this.#packIds.length <= limits.earlierPacksKnown) return this.#load(this.#packIds.length);
    const half = limits.earlierPacksKnown / 2;
    while (this.#loaded.size <= half && this.#nextPosition < this.#packIds.length) {
      await this.#load(this.#nextPosition + half);
    }
  }

  async #advanceTo(position: number): Promise<void> {
    const first = position - limits.earlierPacksKnown / 2;
    for (const [at, { chunks }] of this.#loaded) {
      if (at >= first) continue;
      this.#loaded.delete(at);
      for (const { id } of chunks) if (this.#known.get(id)?.position === at) this.#known.delete(id);
    }
    await this.#load(first + limits.earlierPacksKnown);
  }

  /** Makes packs before this position known. */
  async #load(endPosition: number): Promise<void> {
    const end = Math.min(endPosition, this.#packIds.length);
    const packs = inOrder(
      this.#packIds.slice(this.#nextPosition, end).values(),
      (packId) => this.#read(packId),
      limits.earlierPackReadsInFlight,
    );
    for await (const pack of packs) {
      const position = this.#nextPosition++;
      if (pack === undefined) continue;
      this.#loaded.set(position, pack);
      for (const reference of pack.chunks) this.#known.set(reference.id, { reference, position });
    }
  }

  /** Undefined for a pack that is of no use: it was never uploaded, is gone, or is damaged. */
  async #read(packId: PackId): Promise<LoadedPack | undefined> {
    try {
      const index = await this.#repository.packIndex(packId, this.#options);
      const chunks = index.flatMap(({ kind, reference }) => (kind === 'chunk' ? [reference] : []));
      return { packId, chunks };
    } catch (error) {
      if (error instanceof ObjectMissing || error instanceof DamagedObject) return undefined;
      throw error;
    }
  }
}
