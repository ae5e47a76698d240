import fc from 'fast-check';
import t from 'tap';
import {
  exportKey,
  importKey,
  InvalidKeyFile,
  readOnlySecrets,
  UnknownFormat,
  WrongPassphrase,
  type RepositorySecrets,
} from '../../src/repo/index.js';
import { decodeSecrets, encodeSecrets } from '../../src/repo/keys/secrets.js';
import { anyDamage, damage } from './format/damage.js';
import { otherSecrets, secrets } from './format/examples.js';

const passphrase = 'correct horse battery staple';
const exported = exportKey(secrets, passphrase);

function toHex({ repositoryId, encryptionKey, verifyKey, signingSeed }: RepositorySecrets): unknown {
  const hex = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString('hex');
  return {
    repositoryId,
    encryptionKey: hex(encryptionKey),
    verifyKey: hex(verifyKey),
    signingSeed: hex(signingSeed),
  };
}

t.test('a key file opens with its passphrase', async (t) => {
  t.same(toHex(await importKey(await exported, passphrase)), toHex(secrets));
});

t.test('a key that can only read stays one', async (t) => {
  const imported = decodeSecrets(encodeSecrets(readOnlySecrets(secrets)));
  t.equal(imported.signingSeed, undefined);
  t.same(toHex(imported), { ...(toHex(secrets) as object), signingSeed: undefined });
});

t.test('a passphrase means the same however its letters are composed', async (t) => {
  const file = await exportKey(secrets, 'caf\u00e9');
  t.same(toHex(await importKey(file, 'cafe\u0301')), toHex(secrets));
});

t.test('a key file holds nothing readable', async (t) => {
  const text = Buffer.from(await exported).toString();
  t.notOk(text.includes(Buffer.from(secrets.encryptionKey).toString('hex')));
  t.notOk(text.includes(Buffer.from(secrets.signingSeed!).toString('hex')));
  t.notOk(text.includes(passphrase));
});

t.test('the wrong passphrase is told from a damaged file', async (t) => {
  await t.rejects(importKey(await exported, 'wrong'), {
    code: new WrongPassphrase().code,
    message: 'The passphrase does not open this key file.',
  });
});

t.test('any damage to a key file is refused, or changes nothing that matters', async (t) => {
  const file = Buffer.from(await exported);
  await fc.assert(
    fc.asyncProperty(anyDamage, async (how) => {
      const damaged = damage(file, how);
      try {
        // White space around the JSON does not matter; with it gone the file must still be the key.
        const imported = await importKey(damaged, passphrase);
        t.same(toHex(imported), toHex(secrets));
      } catch (error) {
        return error instanceof InvalidKeyFile || error instanceof UnknownFormat;
      }
      return true;
    }),
  );
  t.pass();
});

t.test('key files that cannot be are refused without work', async (t) => {
  const file = JSON.parse(Buffer.from(await exported).toString()) as Record<string, unknown>;
  const importChanged = (change: object) =>
    importKey(Buffer.from(JSON.stringify({ ...file, ...change })), passphrase);
  await t.rejects(importChanged({ version: 2 }), {
    code: 'UNKNOWN_FORMAT',
    message: 'The key file has format version 2; this program knows version 1.',
  });
  await t.rejects(importChanged({ format: 'ssh' }), InvalidKeyFile);
  await t.rejects(importChanged({ extra: 1 }), InvalidKeyFile);
  await t.rejects(importChanged({ sealed: '' }), InvalidKeyFile);
  const parameters = file['scrypt'] as object;
  for (const greedy of [
    { cost: 2 ** 30 },
    { cost: 2 ** 24, blockSize: 64 },
    { cost: 3 },
    { parallelization: 1000 },
  ]) {
    await t.rejects(importChanged({ scrypt: { ...parameters, ...greedy } }), InvalidKeyFile);
  }
  await t.rejects(importChanged({ repositoryId: otherSecrets.repositoryId }), InvalidKeyFile);
  await t.rejects(importKey(Buffer.from('not json'), passphrase), InvalidKeyFile);
  await t.rejects(importKey(Buffer.alloc(100_000, ' '), passphrase), InvalidKeyFile);
});

t.test('secrets whose halves do not belong together are refused', async (t) => {
  t.same(toHex(decodeSecrets(encodeSecrets(secrets))), toHex(secrets));
  const mixed = encodeSecrets({ ...secrets, signingSeed: otherSecrets.signingSeed });
  t.throws(() => decodeSecrets(mixed), InvalidKeyFile);
});
