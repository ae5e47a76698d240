import { createSecretKey, hkdfSync, type KeyObject } from 'node:crypto';

/** What sealing and opening blobs needs; codec threads get no more than this. */
export interface SealingSecrets {
  /** 16 random bytes in lower-case hex. */
  readonly repositoryId: string;
  /** 32 random bytes. */
  readonly encryptionKey: Uint8Array;
}

export type KeyPurpose = 'blob-identity' | 'packs' | 'vm-names' | 'records' | 'header';

const keyBytes = 32;

/** The repository's key for one purpose: HKDF-SHA-256 of the encryption key, salted with the repository id. */
export function purposeKey(secrets: SealingSecrets, purpose: KeyPurpose): KeyObject {
  return derive(
    createSecretKey(secrets.encryptionKey),
    Buffer.from(secrets.repositoryId, 'hex'),
    `isr/1/${purpose}`,
  );
}

/** A key for one object, salted with random bytes that no other object shares. */
export function objectSecret(purposeKey: KeyObject, salt: Uint8Array): KeyObject {
  return derive(purposeKey, salt, 'isr/1/object');
}

function derive(from: KeyObject, salt: Uint8Array, info: string): KeyObject {
  return createSecretKey(new Uint8Array(hkdfSync('sha256', from, salt, info, keyBytes)));
}
