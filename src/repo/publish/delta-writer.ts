import { limits } from '../../base/index.js';
import { deltaIndexEntryBytes, encodeDeltaIndex } from '../format/delta.js';
import type { Repository } from '../repository.js';
import type { BlobId, BlobReference, ChunkDelta } from '../types.js';
import { PackWriter } from './pack-writer.js';

/** What makes a chunk out of its base; not sealed yet. */
export interface DeltaDraft {
  readonly base: BlobReference;
  readonly plaintext: Uint8Array;
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
    const bytesMax = Math.min(
      chunk.sealedBytes * limits.deltaBytesFraction,
      this.#budgetBytes - this.#deltaBytes,
    );
    if (draft.plaintext.length > bytesMax) return;
    const delta = await this.#write(draft.plaintext, 'delta');
    this.#deltaBytes += delta.reference.sealedBytes;
    this.#written.set(chunk.id, { chunkId: chunk.id, base: draft.base, delta: delta.reference });
  }

  /**
   * Uploads what is left, with an index of these deltas and of `earlier` ones, and answers it and its sealed bytes; undefined where
   * none was written.
   */
  async finish(
    earlier: () => Promise<readonly ChunkDelta[]>,
  ): Promise<{ readonly reference: BlobReference; readonly sealed: Uint8Array } | undefined> {
    if (this.#written.size === 0) return undefined;
    const kept = (await earlier()).filter(({ chunkId }) => !this.#written.has(chunkId));
    const entriesMax = Math.min(limits.deltaIndexEntries, this.#budgetBytes / deltaIndexEntryBytes);
    const room = Math.max(0, Math.floor(entriesMax) - this.#written.size);
    const plaintext = encodeDeltaIndex([...this.#written.values(), ...kept.slice(0, room)]);
    const index = await this.#write(plaintext, 'delta-index');
    await this.#packs.finish();
    return index;
  }

  /** Waits until no upload is under way. */
  async settle(): Promise<void> {
    await this.#packs.settle();
  }

  /** What deltas may have together, and what their index may have. */
  get #budgetBytes(): number {
    return this.#chunkBytes * limits.deltaBudgetFraction + limits.deltaBudgetFreeBytes;
  }

  async #write(
    plaintext: Uint8Array,
    kind: 'delta' | 'delta-index',
  ): Promise<{ readonly reference: BlobReference; readonly sealed: Uint8Array }> {
    const reservation = this.#packs.reserve(1);
    const { packId, firstCounter: counter } = reservation;
    const plaintextBytes = plaintext.length;
    const outcome = await this.#repository.codec.seal({ plaintext, kind, packId, counter });
    if (outcome.outcome !== 'sealed') throw new Error(`a ${kind} cannot be ${outcome.outcome}`);
    const { id, sealed } = outcome;
    const reference = this.#packs.append(reservation, { kind, id, counter, plaintextBytes, sealed });
    await this.#packs.release(reservation);
    return { reference, sealed };
  }
}
