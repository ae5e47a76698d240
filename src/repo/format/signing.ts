import { createPrivateKey, createPublicKey, sign, verify, type KeyObject } from 'node:crypto';

/* Ed25519 (RFC 8032) over Node's key objects, which are made from DER: a fixed prefix (RFC 8410) and the 32 bytes. */

const privateKeyPrefix = Buffer.from('302e020100300506032b657004220420', 'hex');
const publicKeyPrefix = Buffer.from('302a300506032b6570032100', 'hex');

export const signatureBytes = 64;

export function verifyKeyOf(signingSeed: Uint8Array): Uint8Array {
  const der = createPublicKey(privateKey(signingSeed)).export({ format: 'der', type: 'spki' });
  return der.subarray(publicKeyPrefix.length);
}

export class Signer {
  readonly #key: KeyObject;

  constructor(signingSeed: Uint8Array) {
    this.#key = privateKey(signingSeed);
  }

  sign(message: Uint8Array): Uint8Array {
    return sign(null, message, this.#key);
  }
}

export class SignatureVerifier {
  readonly #key: KeyObject;

  constructor(verifyKey: Uint8Array) {
    const der = Buffer.concat([publicKeyPrefix, verifyKey]);
    this.#key = createPublicKey({ key: der, format: 'der', type: 'spki' });
  }

  accepts(message: Uint8Array, signature: Uint8Array): boolean {
    return verify(null, message, this.#key, signature);
  }
}

function privateKey(signingSeed: Uint8Array): KeyObject {
  return createPrivateKey({
    key: Buffer.concat([privateKeyPrefix, signingSeed]),
    format: 'der',
    type: 'pkcs8',
  });
}
