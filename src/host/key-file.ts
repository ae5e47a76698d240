import * as v from 'valibot';
import type { RepositorySecrets } from '../repo/index.js';
import { createFile, readFileIfPresent, replaceFile } from './atomic-file.js';
import { HomeDamaged, KeyConflict, KeyMissing } from './errors.js';

const keyBytes = v.pipe(
  v.string(),
  v.base64(),
  v.transform((text) => new Uint8Array(Buffer.from(text, 'base64'))),
  v.length(32),
);

const schema = v.strictObject({
  version: v.literal(1),
  repositoryId: v.string(),
  encryptionKey: keyBytes,
  verifyKey: keyBytes,
  signingSeed: v.optional(keyBytes),
});

/** Reads a repository's keys from this host's home. `KeyMissing`, `HomeDamaged`. */
export async function readKeyFile(path: string, repositoryId: string): Promise<RepositorySecrets> {
  const content = await readFileIfPresent(path);
  if (content === undefined) throw new KeyMissing(repositoryId);
  const secrets = parseKeyFile(path, content);
  if (secrets.repositoryId !== repositoryId) throw keyFileDamaged(path);
  return secrets;
}

/**
 * Keeps a repository's keys, durably. Saving what is there already changes nothing; a read-only key never replaces
 * one that can sign, and one that can sign replaces a read-only one. `KeyConflict` when the keys differ.
 */
export async function writeKeyFile(path: string, secrets: RepositorySecrets): Promise<void> {
  const content = `${JSON.stringify({
    version: 1,
    repositoryId: secrets.repositoryId,
    encryptionKey: base64(secrets.encryptionKey),
    verifyKey: base64(secrets.verifyKey),
    ...(secrets.signingSeed === undefined ? {} : { signingSeed: base64(secrets.signingSeed) }),
  })}\n`;
  if ((await createFile(path, content)) === 'created') return;
  const known = await readKeyFile(path, secrets.repositoryId);
  if (!sameKey(known, secrets)) throw new KeyConflict(secrets.repositoryId, path);
  if (known.signingSeed === undefined && secrets.signingSeed !== undefined) await replaceFile(path, content);
}

function parseKeyFile(path: string, content: string): RepositorySecrets {
  try {
    const { version: _, signingSeed, ...keys } = v.parse(schema, JSON.parse(content));
    return { ...keys, signingSeed };
  } catch {
    // The cause is left out: it could quote the key.
    throw keyFileDamaged(path);
  }
}

function keyFileDamaged(path: string): HomeDamaged {
  return new HomeDamaged(
    path,
    'Move it away, and bring the key here again with `isr key import FILE` from a host that has it.',
  );
}

function sameKey(a: RepositorySecrets, b: RepositorySecrets): boolean {
  const seedsAgree =
    a.signingSeed === undefined || b.signingSeed === undefined || equal(a.signingSeed, b.signingSeed);
  return seedsAgree && equal(a.encryptionKey, b.encryptionKey) && equal(a.verifyKey, b.verifyKey);
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}
