import { createCipheriv, createDecipheriv, createHmac, type KeyObject } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { limits } from '../../base/index.js';
import { DamagedObject } from '../errors.js';
import type { BlobId, BlobKind, BlobReference, PackId } from '../types.js';
import { BadFrame, Compression, frameHeaderBytes } from './compression.js';
import { objectSecret, purposeKey, type SealingSecrets } from './key-schedule.js';
import { packKey } from './object-keys.js';
import { formatVersion } from './version.js';

/** Everything that is sealed into packs: blobs, and the pack's own index. */
export type SealedKind = BlobKind | 'pack-index';

const kindCodes: Readonly<Record<SealedKind, number>> = {
  chunk: 1,
  'map-node': 2,
  manifest: 3,
  'pack-index': 4,
  delta: 5,
  'delta-index': 6,
};

const algorithm = 'aes-256-gcm';
const nonceBytes = 12;
const tagBytes = 16;
const idBytes = 16;

/** What sealing adds to a blob that does not compress. */
export const sealOverheadBytes = frameHeaderBytes + tagBytes;

/** Counters are 32 bits of the 96-bit nonce. 0 is the pack index's. */
export const firstBlobCounter = 1;
export const blobCounterMax = 0xffff_ffff;

/** What `Sealer.open` must know of a sealed blob; its place in the pack is the reader's concern. */
export type SealedIdentity = Omit<BlobReference, 'offsetBytes'>;

/**
 * Seals and opens blobs: compress, then AES-256-GCM under the pack's key. Synchronous, keeps contexts and scratch memory:
 * one per thread.
 *
 * The kind, the blob's id and the format version are associated data; the counter is the nonce; the pack and the
 * repository are in the key. So a blob opens in its own place only.
 */
export class Sealer {
  readonly #identityKey: KeyObject;
  readonly #packsKey: KeyObject;
  readonly #packKeys = new LRUCache<PackId, KeyObject>({ max: limits.packKeysCached });
  readonly #compression = new Compression();
  readonly #nonce = Buffer.alloc(nonceBytes);
  readonly #associatedData = Buffer.alloc(2 + idBytes);

  constructor(secrets: SealingSecrets) {
    this.#identityKey = purposeKey(secrets, 'blob-identity');
    this.#packsKey = purposeKey(secrets, 'packs');
  }

  /** The keyed id of a plaintext: equal plaintext has the same id everywhere in a repository, and nobody else can compute it. */
  identify(plaintext: Uint8Array): BlobId {
    return createHmac('sha256', this.#identityKey)
      .update(plaintext)
      .digest('hex')
      .slice(0, 2 * idBytes) as BlobId;
  }

  /**
   * `id` is what `identify(plaintext)` answered. A counter must never be used twice within a pack:
   * that would reveal both plaintexts.
   */
  seal(plaintext: Uint8Array, kind: SealedKind, packId: PackId, counter: number, id: BlobId): Uint8Array {
    if (plaintext.length > limits.blobBytesMax) throw new RangeError(`blob of ${plaintext.length} bytes`);
    const cipher = createCipheriv(algorithm, this.#packKey(packId), this.#nonceOf(counter));
    cipher.setAAD(this.#associatedDataOf(kind, id));
    const [header, payload] = this.#compression.frame(plaintext);
    const sealed = Buffer.allocUnsafeSlow(header.length + payload.length + tagBytes);
    sealed.set(cipher.update(header), 0);
    sealed.set(cipher.update(payload), header.length);
    cipher.final();
    sealed.set(cipher.getAuthTag(), header.length + payload.length);
    return sealed;
  }

  /** The verified plaintext, in memory of its own. Throws `DamagedObject`. `sealed` is not modified. */
  open(sealed: Uint8Array, reference: SealedIdentity, kind: SealedKind): Uint8Array {
    const frame = this.#authenticFrame(sealed, reference, kind);
    try {
      return this.#compression.unframe(frame);
    } catch (error) {
      if (error instanceof BadFrame) throw damaged(reference, kind, error.message);
      throw error;
    }
  }

  /** Throws `DamagedObject` unless this is, byte for byte, what somebody sealed with the key for this place. Undoes no compression. */
  authenticate(sealed: Uint8Array, reference: SealedIdentity, kind: SealedKind): void {
    this.#authenticFrame(sealed, reference, kind);
  }

  #authenticFrame(sealed: Uint8Array, reference: SealedIdentity, kind: SealedKind): Buffer {
    const { packId, counter, id, sealedBytes } = reference;
    if (sealed.length !== sealedBytes || sealed.length < sealOverheadBytes) {
      throw damaged(reference, kind, `it has ${sealed.length} bytes instead of ${sealedBytes}`);
    }
    if (sealed.length > limits.blobBytesMax + sealOverheadBytes) {
      throw damaged(reference, kind, `it claims ${sealed.length} bytes`);
    }
    const decipher = createDecipheriv(algorithm, this.#packKey(packId), this.#nonceOf(counter));
    decipher.setAAD(this.#associatedDataOf(kind, id));
    decipher.setAuthTag(sealed.subarray(sealed.length - tagBytes));
    const frame = decipher.update(sealed.subarray(0, sealed.length - tagBytes));
    try {
      decipher.final();
    } catch {
      throw damaged(reference, kind, 'it is not authentic');
    }
    return frame;
  }

  #packKey(packId: PackId): KeyObject {
    let key = this.#packKeys.get(packId);
    if (key === undefined) {
      key = objectSecret(this.#packsKey, Buffer.from(packId, 'hex'));
      this.#packKeys.set(packId, key);
    }
    return key;
  }

  #nonceOf(counter: number): Uint8Array {
    this.#nonce.writeUInt32BE(counter, nonceBytes - 4);
    return this.#nonce;
  }

  #associatedDataOf(kind: SealedKind, id: BlobId): Uint8Array {
    this.#associatedData[0] = formatVersion;
    this.#associatedData[1] = kindCodes[kind];
    this.#associatedData.write(id, 2, 'hex');
    return this.#associatedData;
  }
}

function damaged(reference: SealedIdentity, kind: SealedKind, what: string): DamagedObject {
  return new DamagedObject(
    packKey(reference.packId),
    `the ${kind} with counter ${reference.counter}: ${what}`,
  );
}
