import { createCipheriv, createDecipheriv, createHash, createHmac, type KeyObject } from 'node:crypto';
import { limits } from '../../base/index.js';
import type { ObjectKey } from '../../store/index.js';
import { DamagedObject, ReadOnlyKey, UnknownFormat } from '../errors.js';
import type { RandomBytes, RepositorySecrets } from '../keys/secrets.js';
import { objectSecret, purposeKey } from './key-schedule.js';
import type { VmId } from './object-keys.js';
import { SignatureVerifier, signatureBytes, Signer } from './signing.js';
import { formatVersion } from './version.js';

/*
 * A record is a small object of its own: a VM's name, a log entry, a branch, a trace.
 *
 *   magic (8), format version (4), salt (16), sealed payload, tag (16), signature (64)
 *
 * The key of the AEAD is derived from the salt, which no two records share, so the nonce is zero. The object's key in
 * the store is part of the associated data and of what is signed: a record is valid in its own place only.
 */

const magic = Buffer.from('isr-recd', 'latin1');
const saltBytes = 16;
const headerBytes = magic.length + 4 + saltBytes;
const tagBytes = 16;
const algorithm = 'aes-256-gcm';
const zeroNonce = Buffer.alloc(12);
const signatureContext = 'isr/1/record';

/** What a record adds to its payload. */
export const recordOverheadBytes = headerBytes + tagBytes + signatureBytes;

/** Seals, signs and opens records; names VMs. */
export class RecordSealer {
  readonly #key: KeyObject;
  readonly #namesKey: KeyObject;
  readonly #verifier: SignatureVerifier;
  readonly #signer: Signer | undefined;
  readonly #randomBytes: RandomBytes;

  constructor(secrets: RepositorySecrets, randomBytes: RandomBytes) {
    this.#key = purposeKey(secrets, 'records');
    this.#namesKey = purposeKey(secrets, 'vm-names');
    this.#verifier = new SignatureVerifier(secrets.verifyKey);
    this.#signer = secrets.signingSeed === undefined ? undefined : new Signer(secrets.signingSeed);
    this.#randomBytes = randomBytes;
  }

  /** The keyed hash that stands for a VM's name in the store. */
  vmId(vmName: string): VmId {
    return createHmac('sha256', this.#namesKey).update(vmName, 'utf8').digest('hex').slice(0, 32) as VmId;
  }

  /** Throws `ReadOnlyKey` where there is nothing to sign with; `operation` says what could not be done. */
  seal(payload: Uint8Array, place: ObjectKey, operation: string): Uint8Array {
    if (this.#signer === undefined) throw new ReadOnlyKey(operation);
    const header = Buffer.alloc(headerBytes);
    magic.copy(header);
    header.writeUInt32BE(formatVersion, magic.length);
    header.set(this.#randomBytes(saltBytes), magic.length + 4);
    const cipher = createCipheriv(algorithm, this.#keyOf(header), zeroNonce);
    cipher.setAAD(associatedData(header, place));
    const sealed = Buffer.concat([header, cipher.update(payload), cipher.final(), cipher.getAuthTag()]);
    return Buffer.concat([sealed, this.#signer.sign(signedMessage(sealed, place))]);
  }

  /** The payload of the record that was read from `place`. `DamagedObject`, `UnknownFormat`. */
  open(object: Uint8Array, place: ObjectKey, bytesMax: number = limits.logEntryBytesMax): Uint8Array {
    const view = Buffer.from(object.buffer, object.byteOffset, object.byteLength);
    if (view.length < recordOverheadBytes || view.length > bytesMax) {
      throw new DamagedObject(place, `a record cannot have ${view.length} bytes`);
    }
    const header = view.subarray(0, headerBytes);
    if (!header.subarray(0, magic.length).equals(magic)) throw new DamagedObject(place, 'it is not a record');
    const version = header.readUInt32BE(magic.length);
    if (version !== formatVersion) throw new UnknownFormat(`The record ${place}`, version, formatVersion);
    const sealed = view.subarray(0, -signatureBytes);
    if (!this.#verifier.accepts(signedMessage(sealed, place), view.subarray(-signatureBytes))) {
      throw new DamagedObject(place, 'its signature does not hold');
    }
    const decipher = createDecipheriv(algorithm, this.#keyOf(header), zeroNonce);
    decipher.setAAD(associatedData(header, place));
    decipher.setAuthTag(sealed.subarray(-tagBytes));
    const payload = decipher.update(sealed.subarray(headerBytes, -tagBytes));
    try {
      decipher.final();
    } catch {
      throw new DamagedObject(place, 'it is not authentic');
    }
    return payload;
  }

  #keyOf(header: Buffer): KeyObject {
    return objectSecret(this.#key, header.subarray(-saltBytes));
  }
}

/** What the next log entry, and a host that remembers, know a record by: SHA-256 of the stored bytes, in hex. */
export function recordDigest(object: Uint8Array): string {
  return createHash('sha256').update(object).digest('hex');
}

function associatedData(header: Uint8Array, place: ObjectKey): Uint8Array {
  return Buffer.concat([header, Buffer.from(place, 'latin1')]);
}

function signedMessage(sealed: Uint8Array, place: ObjectKey): Uint8Array {
  return Buffer.concat([Buffer.from(`${signatureContext}\0${place}\0`, 'latin1'), sealed]);
}
