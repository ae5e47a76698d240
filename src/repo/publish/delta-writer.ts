import { limits } from '../../base/index.js';
import { deltaPageBytes, encodeDelta, encodeDeltaIndex } from '../format/delta.js';
import type { Repository } from '../repository.js';
import type { BlobId, BlobReference, ChunkDelta, SourceFile } from '../types.js';
import { PackWriter } from './pack-writer.js';

/** What would make a chunk out of its base; not sealed yet. */
export interface DeltaDraft {
  readonly base: BlobReference;
  readonly plaintext: Uint8Array;
}

/** A chunk of a source as it was read, and what its place held before. */
export interface RevisedChunk {
  readonly file: SourceFile;
  readonly index: number;
  readonly base: BlobReference | undefined;
  readonly plaintext: Uint8Array;
}

/** The delta of a chunk that changed in few pages, as far as its source knows. */
export function draftDelta({ file, index, base, plaintext }: RevisedChunk): DeltaDraft | undefined {
  if (base === undefined) return undefined;
  const pagesMax = Math.floor((plaintext.length / deltaPageBytes) * limits.deltaPagesFraction);
  const pages = file.changedPages?.(index, pagesMax) ?? [];
  if (pages.length === 0) return undefined;
  return { base, plaintext: encodeDelta(base.id, pages, plaintext) };
}

/**
 * Writes deltas into packs of their own, in the order of the chunks that they make, as long as they are small beside these, and
 * an index of them at the end. They are a short way to what is stored anyway: whoever has the base of a chunk at hand
 * fetches the delta instead of the chunk.
 */
export class DeltaWriter {
  readonly #repository: Repository;
  readonly #packs: PackWriter;
  readonly #written = new Map<BlobId, ChunkDelta>();
  #chunkBytes = 0;
  #deltaBytes = 0;

  constructor(repository: Repository, signal: AbortSignal | undefined) {
    this.#repository = repository;
    this.#packs = new PackWriter(repository.store, repository.sealer, signal);
  }

  /** Bytes of all pack objects, as far as they are complete. */
  get storedBytes(): number {
    return this.#packs.storedBytes;
  }

  /** Tells of a chunk that is stored, with its delta if there is one; writes that if it is worth its bytes. */
  async add(chunk: BlobReference, draft: DeltaDraft | undefined): Promise<void> {
    this.#chunkBytes += chunk.sealedBytes;
    if (draft === undefined || this.#written.has(chunk.id) || draft.base.id === chunk.id) return;
    if (this.#written.size >= limits.deltaIndexEntries) return;
    const budgetBytes = this.#chunkBytes * limits.deltaBudgetFraction + limits.deltaBudgetFreeBytes;
    const bytesMax = Math.min(chunk.sealedBytes * limits.deltaBytesFraction, budgetBytes - this.#deltaBytes);
    const delta = await this.#write(draft.plaintext, 'delta', bytesMax);
    if (delta === undefined) return;
    this.#deltaBytes += delta.reference.sealedBytes;
    this.#written.set(chunk.id, { chunkId: chunk.id, base: draft.base, delta: delta.reference });
  }

  /**
   * Uploads what is left, with an index of these deltas and of `earlier` ones, and answers it and its sealed bytes; undefined where
   * none was written.
   */
  async finish(
    earlier: readonly ChunkDelta[],
  ): Promise<{ readonly reference: BlobReference; readonly sealed: Uint8Array } | undefined> {
    if (this.#written.size === 0) return undefined;
    const deltas = [
      ...this.#written.values(),
      ...earlier.filter(({ chunkId }) => !this.#written.has(chunkId)),
    ];
    const plaintext = encodeDeltaIndex(deltas.slice(0, limits.deltaIndexEntries));
    const index = await this.#write(plaintext, 'delta-index', Infinity);
    await this.#packs.finish();
    return index;
  }

  /** Waits until no upload is under way. */
  async settle(): Promise<void> {
    await this.#packs.settle();
  }

  /** Undefined where it would have more sealed bytes than that. */
  async #write(
    plaintext: Uint8Array,
    kind: 'delta' | 'delta-index',
    sealedBytesMax: number,
  ): Promise<{ readonly reference: BlobReference; readonly sealed: Uint8Array } | undefined> {
    const reservation = this.#packs.reserve(1);
    const { packId, firstCounter: counter } = reservation;
    const plaintextBytes = plaintext.length;
    const outcome = await this.#repository.codec.seal({ plaintext, kind, packId, counter });
    if (outcome.outcome !== 'sealed') throw new Error(`a ${kind} cannot be ${outcome.outcome}`);
    const { id, sealed } = outcome;
    const isWorthIt = sealed.length <= sealedBytesMax;
    const reference = isWorthIt
      ? this.#packs.append(reservation, { kind, id, counter, plaintextBytes, sealed })
      : undefined;
    await this.#packs.release(reservation);
    return reference === undefined ? undefined : { reference, sealed };
  }
}
