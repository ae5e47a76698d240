import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { limits } from '../../src/base/index.js';
import {
  directorySource,
  EarlierPacks,
  loadManifest,
  Repository,
  storeAhead,
  type PublishSource,
  type VersionNumber,
} from '../../src/repo/index.js';
import { setUserAttribute } from '../../src/system/index.js';
import { openStore } from '../../src/store/index.js';
import { host, patternChunk, publish } from './publish-support.js';

const chunkBytes = limits.chunkBytesMin;

/** Words that occur nowhere by chance, in every place where a VM has words. */
const names = {
  vm: 'secret-vm-name',
  mountPath: '/fixed/secret-mount-path',
  file: 'secret-file-name.img',
  directory: 'secret-directory',
  link: 'secret-link',
  target: '/secret/link/target',
  attribute: 'user.secret-attribute',
  attributeValue: 'secret attribute value',
  content: 'This sentence is secret content of a file.',
  host: 'secret-host-name',
};

t.test('nothing in a repository says what is in it', async (t) => {
  const scratch = t.testdir({ vm: {} });
  const vm = join(scratch, 'vm');
  const incompressible = Buffer.concat([
    patternChunk(chunkBytes, 1).subarray(0, chunkBytes / 2),
    patternChunk(chunkBytes, 2).subarray(0, chunkBytes / 2),
  ]);
  const text = Buffer.from(names.content.repeat(2000));
  await mkdir(join(vm, names.directory));
  await writeFile(join(vm, names.directory, names.file), text);
  await writeFile(join(vm, 'noise'), incompressible);
  await symlink(names.target, join(vm, names.link));
  setUserAttribute(join(vm, 'noise'), names.attribute, Buffer.from(names.attributeValue));

  const store = await openStore(join(scratch, 'store'), { create: true });
  t.teardown(() => store[Symbol.asyncDispose]());
  const { repository } = await Repository.create(store, { chunkBytes });
  t.teardown(() => repository[Symbol.asyncDispose]());
  const manifest = await writeHistory(repository, vm);

  const plaintexts = [text, incompressible, text.subarray(0, chunkBytes), Buffer.from(manifest)];
  const forbidden = new Map<string, Buffer>();
  for (const [what, word] of Object.entries(names)) {
    forbidden.set(what, Buffer.from(word));
    forbidden.set(`${what} in base64`, Buffer.from(Buffer.from(word).toString('base64').slice(0, -4)));
    forbidden.set(`digest of ${what}`, digest(Buffer.from(word)));
  }
  for (const [position, plaintext] of plaintexts.entries()) {
    forbidden.set(`piece of content ${position}`, plaintext.subarray(100, 124));
    forbidden.set(`digest of content ${position}`, digest(plaintext));
  }
  for (const [what, bytes] of [...forbidden]) {
    if (what.startsWith('digest'))
      forbidden.set(`hex ${what}`, Buffer.from(bytes.toString('hex').slice(0, 32)));
  }

  const objects = await everything(join(scratch, 'store'));
  t.ok(objects.size >= 8, `${objects.size} objects: ${[...objects.keys()].join(' ')}`);
  for (const [path, bytes] of objects) {
    for (const [what, pattern] of forbidden) {
      if (bytes.includes(pattern)) t.fail(`${path} holds ${what}`);
      if (Buffer.from(path).includes(pattern)) t.fail(`the name ${path} holds ${what}`);
    }
  }
  t.ok(text.includes(forbidden.get('piece of content 0')!), 'the patterns would be found in plaintext');
});

/** Two versions, what was stored ahead of them, a branch and a lease. Answers what the manifest says. */
async function writeHistory(repository: Repository, vm: string): Promise<string> {
  const secretHost = { ...host, hostName: names.host };
  const history = repository.history(names.vm);
  const lease = await history.acquireLease(secretHost);
  let parent: VersionNumber | undefined;
  let manifest = '';
  for (const content of ['', 'more']) {
    await writeFile(join(vm, 'more'), content);
    const source = await directorySource(vm, { chunkBytes });
    const request = { vmName: names.vm, mountPath: names.mountPath, host: secretHost, source, parent, lease };
    const published = await publish(repository, request);
    await storeAllAhead(repository, source);
    await source[Symbol.asyncDispose]();
    if (published.outcome !== 'published') throw new Error(published.outcome);
    parent = published.commit.version;
    await loadManifest(published.commit.manifest, repository.blobs);
    manifest = Buffer.from(await repository.blobs.readBlob(published.commit.manifest, 'manifest')).toString();
  }
  await history.saveBranch({ ...(await history.commit(1 as VersionNumber)), host: secretHost });
  return manifest;
}

/** Packs that no version refers to. */
async function storeAllAhead(repository: Repository, source: PublishSource): Promise<void> {
  const chunks = [...source.inodes()].flatMap((inode) =>
    inode.kind === 'file' && inode.content.sizeBytes > 0 ? [{ file: inode.content, index: 0 }] : [],
  );
  const storedBytes = await storeAhead({
    ...{ repository, reader: repository.blobs, chunks, stored: new EarlierPacks(repository, [], {}) },
    onSealed: () => Promise.resolve(),
    onPackBegun: () => Promise.resolve(),
    signal: new AbortController().signal,
  });
  if (storedBytes === 0) throw new Error('nothing was stored');
}

function digest(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest().subarray(0, 16);
}

/** Every file below a directory, by its path within. */
async function everything(root: string): Promise<Map<string, Buffer>> {
  const files = new Map<string, Buffer>();
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile()) files.set(path.slice(root.length), await readFile(path));
  }
  return files;
}
