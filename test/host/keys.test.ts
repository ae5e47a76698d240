import { randomBytes } from 'node:crypto';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import t from 'tap';
import { HomeDamaged, KeyConflict, KeyMissing, openHostHome, type HostHome } from '../../src/host/index.js';
import type { RepositorySecrets } from '../../src/repo/index.js';
import { shortDirectory } from './short-directory.js';

const repositoryId = 'fedcba9876543210fedcba9876543210';

function openHome(directory: string): Promise<HostHome> {
  return openHostHome(join(directory, 'home'), { XDG_CONFIG_HOME: join(directory, 'config') });
}

function makeSecrets(): RepositorySecrets {
  return {
    repositoryId,
    encryptionKey: new Uint8Array(randomBytes(32)),
    verifyKey: new Uint8Array(randomBytes(32)),
    signingSeed: new Uint8Array(randomBytes(32)),
  };
}

t.test('a key is kept for this user alone and comes back as it was', async (t) => {
  const home = await openHome(shortDirectory(t));
  const secrets = makeSecrets();
  await home.saveSecrets(secrets);
  t.same(await home.loadSecrets(repositoryId), secrets);
  const path = home.keyPath(repositoryId);
  t.equal((await stat(path)).mode & 0o777, 0o600);
  t.same(await readdir(dirname(path)), [`${repositoryId}.json`], 'no temporary file stays');
});

t.test('a missing key says how to get it', async (t) => {
  const home = await openHome(shortDirectory(t));
  await t.rejects(home.loadSecrets(repositoryId), {
    constructor: KeyMissing,
    code: 'KEY_MISSING',
    remedy: /isr key import/,
  });
});

t.test('a read-only key never replaces one that can sign, and is replaced by it', async (t) => {
  const home = await openHome(shortDirectory(t));
  const secrets = makeSecrets();
  const readOnly = { ...secrets, signingSeed: undefined };
  await home.saveSecrets(readOnly);
  t.same(await home.loadSecrets(repositoryId), readOnly);
  await home.saveSecrets(secrets);
  t.same(await home.loadSecrets(repositoryId), secrets);
  await home.saveSecrets(readOnly);
  t.same(await home.loadSecrets(repositoryId), secrets);
});

t.test('another key of the same repository is refused and the first one stays', async (t) => {
  const home = await openHome(shortDirectory(t));
  const secrets = makeSecrets();
  await home.saveSecrets(secrets);
  for (const part of ['encryptionKey', 'verifyKey', 'signingSeed'] as const) {
    await t.rejects(home.saveSecrets({ ...secrets, [part]: new Uint8Array(32) }), KeyConflict, part);
  }
  t.same(await home.loadSecrets(repositoryId), secrets);
});

t.test('a damaged key file is refused without showing what it holds', async (t) => {
  const home = await openHome(shortDirectory(t));
  const secrets = makeSecrets();
  await home.saveSecrets(secrets);
  const path = home.keyPath(repositoryId);
  const good = await readFile(path, 'utf8');
  const encoded = Buffer.from(secrets.encryptionKey).toString('base64');
  const damaged = [
    good.slice(0, -10),
    good.replace(encoded, encoded.slice(4)),
    good.replace('"version":1', '"version":2'),
    good.replace(repositoryId, '0'.repeat(32)),
    '',
  ];
  for (const content of damaged) {
    await writeFile(path, content);
    const error = await home.loadSecrets(repositoryId).catch((thrown: unknown) => thrown);
    t.ok(error instanceof HomeDamaged);
    const { message, facts, cause } = error as HomeDamaged;
    t.notOk(JSON.stringify([message, facts, String(cause)]).includes(encoded.slice(4, 20)));
  }
});
