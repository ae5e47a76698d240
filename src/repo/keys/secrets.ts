import { randomBytes } from 'node:crypto';
import * as v from 'valibot';
import { InvalidKeyFile } from '../errors.js';
import type { SealingSecrets } from '../format/key-schedule.js';
import { encodePayload, hex16, hex32 } from '../format/schemas.js';
import { verifyKeyOf } from '../format/signing.js';

/** Everything that a host must know to use a repository. Whoever has it can read; with the seed, also publish. */
export interface RepositorySecrets extends SealingSecrets {
  /** 32 bytes: Ed25519 public key; every record in the store is signed for it. */
  readonly verifyKey: Uint8Array;
  /** 32 bytes; undefined in a key that can only read. */
  readonly signingSeed: Uint8Array | undefined;
}

export type RandomBytes = (length: number) => Uint8Array;

export function generateSecrets(random: RandomBytes = randomBytes): RepositorySecrets {
  const repositoryId = Buffer.from(random(16)).toString('hex');
  const encryptionKey = random(32);
  const signingSeed = random(32);
  return { repositoryId, encryptionKey, verifyKey: verifyKeyOf(signingSeed), signingSeed };
}

/** The key that opens everything these secrets open, and signs nothing. */
export function readOnlySecrets(secrets: RepositorySecrets): RepositorySecrets {
  return { ...secrets, signingSeed: undefined };
}

const bytes32 = v.pipe(
  hex32,
  v.transform((hex): Uint8Array => Buffer.from(hex, 'hex')),
);

const secretsSchema = v.strictObject({
  repositoryId: hex16,
  encryptionKey: bytes32,
  verifyKey: bytes32,
  signingSeed: v.nullable(bytes32),
});

/** The secrets as JSON, unprotected: for memory, the inside of a key file, and files that only their owner can read. */
export function encodeSecrets(secrets: RepositorySecrets): Uint8Array {
  return encodePayload({
    repositoryId: secrets.repositoryId,
    encryptionKey: toHex(secrets.encryptionKey),
    verifyKey: toHex(secrets.verifyKey),
    signingSeed: secrets.signingSeed === undefined ? null : toHex(secrets.signingSeed),
  });
}

/** Throws `InvalidKeyFile`, also where the two halves of the signing key do not belong together. */
export function decodeSecrets(encoded: Uint8Array): RepositorySecrets {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(encoded).toString('utf8'));
  } catch (error) {
    throw new InvalidKeyFile('its content is not JSON', { cause: error });
  }
  const result = v.safeParse(secretsSchema, value);
  if (!result.success) throw new InvalidKeyFile('its content is not a repository key');
  const { signingSeed, ...secrets } = result.output;
  if (signingSeed !== null && !Buffer.from(verifyKeyOf(signingSeed)).equals(secrets.verifyKey)) {
    throw new InvalidKeyFile('its signing key and its verifying key do not belong together');
  }
  return { ...secrets, signingSeed: signingSeed ?? undefined };
}

function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
