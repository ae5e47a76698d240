import { randomBytes } from 'node:crypto';
import { limits } from '../../base/index.js';
import type { ObjectStore } from '../../store/index.js';
import { packKey } from '../format/object-keys.js';
import { encodePackEnding, encodePackHeader, packHeaderBytes, type PackIndexEntry } from '../format/pack.js';
import { firstBlobCounter, type Sealer } from '../format/sealer.js';
import type { BlobId, BlobKind, BlobReference, PackId } from '../types.js';

/** The right to seal some blobs for one pack. Every reservation must be released, or the pack is never uploaded. */
export interface PackReservation {
  readonly packId: PackId;
  /** Nonce counters from here on belong to this reservation. */
  readonly firstCounter: number;
}

export interface SealedBlob {
  readonly kind: BlobKind;
  readonly id: BlobId;
  readonly counter: number;
  readonly plaintextBytes: number;
  readonly sealed: Uint8Array;
}

/** A pack that is being filled. */
class OpenPack {
  readonly packId = randomBytes(16).toString('hex') as PackId;
  readonly #parts: Uint8Array[] = [encodePackHeader(this.packId)];
  readonly #entries: PackIndexEntry[] = [];
  #lengthBytes = packHeaderBytes;
  nextCounter = firstBlobCounter;
  reservations = 0;
  #plaintextBytes = 0;
  readonly #plaintextBytesMax: number;

  constructor(plaintextBytesMax: number) {
    this.#plaintextBytesMax = plaintextBytesMax;
  }

  append({ kind, id, counter, plaintextBytes, sealed }: SealedBlob): BlobReference {
    const reference: BlobReference = {
      packId: this.packId,
      offsetBytes: this.#lengthBytes,
      sealedBytes: sealed.length,
      counter,
      id,
    };
    this.#parts.push(sealed);
    this.#entries.push({ kind, reference });
    this.#lengthBytes += sealed.length;
    this.#plaintextBytes += plaintextBytes;
    return reference;
  }

  get isEmpty(): boolean {
    return this.#entries.length === 0;
  }

  get isFull(): boolean {
    return this.#plaintextBytes >= this.#plaintextBytesMax;
  }

  /** The whole object. */
  complete(sealer: Sealer): readonly Uint8Array[] {
    return [...this.#parts, encodePackEnding(sealer, this.packId, this.#entries)];
  }
}

/**
 * Collects sealed blobs into packs, in the order in which they are appended, and uploads full packs meanwhile.
 * Blobs are sealed for the pack that they were reserved in, so a full pack waits for its last reservation.
 *
 * Memory: the pack being filled and `limits.packUploadsInFlight` packs being uploaded, each of at most
 * `limits.packPlaintextBytes` plus what is reserved when it becomes full.
 */
export class PackWriter {
  readonly #store: ObjectStore;
  readonly #sealer: Sealer;
  readonly #signal: AbortSignal | undefined;
  readonly #onUpload: ((packId: PackId) => Promise<void>) | undefined;
  /** The pack that takes new reservations, and full ones that still have some. */
  readonly #packs = new Map<PackId, OpenPack>();
  #filling: OpenPack | undefined;
  #nextPlaintextBytes: number = limits.packPlaintextBytesFirst;
  readonly #uploads = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;
  #storedBytes = 0;
  #blobs = 0;

  /** `onUpload` is called before a pack is uploaded, and waited for. */
  constructor(
    store: ObjectStore,
    sealer: Sealer,
    signal: AbortSignal | undefined,
    onUpload?: (packId: PackId) => Promise<void>,
  ) {
    this.#store = store;
    this.#sealer = sealer;
    this.#signal = signal;
    this.#onUpload = onUpload;
  }

  /** Bytes of all packs, as far as they are complete. */
  get storedBytes(): number {
    return this.#storedBytes;
  }

  get isEmpty(): boolean {
    return this.#blobs === 0;
  }

  reserve(blobs: number): PackReservation {
    if (this.#filling === undefined || this.#filling.isFull) {
      this.#filling = new OpenPack(this.#nextPlaintextBytes);
      this.#nextPlaintextBytes = Math.min(2 * this.#nextPlaintextBytes, limits.packPlaintextBytes);
      this.#packs.set(this.#filling.packId, this.#filling);
    }
    const pack = this.#filling;
    const firstCounter = pack.nextCounter;
    pack.nextCounter += blobs;
    pack.reservations += 1;
    return { packId: pack.packId, firstCounter };
  }

  append(reservation: PackReservation, blob: SealedBlob): BlobReference {
    this.#blobs += 1;
    return this.#reservedPack(reservation).append(blob);
  }

  /** Nothing more comes for this reservation. Waits while too many uploads are under way; throws what an upload threw. */
  async release(reservation: PackReservation): Promise<void> {
    const pack = this.#reservedPack(reservation);
    pack.reservations -= 1;
    if (pack.reservations > 0 || !pack.isFull) return;
    if (pack === this.#filling) this.#filling = undefined;
    await this.#upload(pack);
  }

  /** Uploads what is left. When this resolves, every appended blob is durable in the store. */
  async finish(): Promise<void> {
    const pack = this.#filling;
    this.#filling = undefined;
    if (pack !== undefined) await this.#upload(pack);
    if (this.#packs.size > 0) throw new Error('a pack still has reservations');
    await Promise.all(this.#uploads);
    this.#throwFailure();
  }

  /** Waits until no upload is under way. For cleaning up after a failure: throws nothing. */
  async settle(): Promise<void> {
    await Promise.all(this.#uploads);
  }

  #reservedPack(reservation: PackReservation): OpenPack {
    const pack = this.#packs.get(reservation.packId);
    if (pack === undefined || pack.reservations === 0) throw new Error('this reservation was released');
    return pack;
  }

  async #upload(pack: OpenPack): Promise<void> {
    if (pack.reservations > 0) throw new Error('a pack still has reservations');
    this.#packs.delete(pack.packId);
    if (pack.isEmpty) return;
    while (this.#uploads.size >= limits.packUploadsInFlight) await Promise.race(this.#uploads);
    this.#throwFailure();
    const parts = pack.complete(this.#sealer);
    for (const part of parts) this.#storedBytes += part.length;
    const upload: Promise<void> = this.#put(pack.packId, parts).finally(() => this.#uploads.delete(upload));
    this.#uploads.add(upload);
  }

  /** Never rejects: the first failure is thrown by the next call that may throw. */
  async #put(packId: PackId, parts: readonly Uint8Array[]): Promise<void> {
    try {
      await this.#onUpload?.(packId);
      await this.#store.put(
        packKey(packId),
        parts,
        this.#signal === undefined ? {} : { signal: this.#signal },
      );
    } catch (error) {
      this.#failure ??= { error };
    }
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}
