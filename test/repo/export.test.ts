import { execFileSync } from 'node:child_process';
import {
  chmod,
  link,
  lstat,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  readlink,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Cancelled, limits } from '../../src/base/index.js';
import { encodeManifest } from '../../src/repo/format/manifest.js';
import {
  DamagedObject,
  directorySource,
  ExportFailed,
  exportVersion,
  Repository,
  TargetNotEmpty,
  type BlobReader,
  type Commit,
} from '../../src/repo/index.js';
import { makeFifo, setTimes, setUserAttribute, userAttributes } from '../../src/system/index.js';
import { MemoryStore } from '../support/memory-store.js';
import { metadata, patternChunk, publish, writeBlob } from './publish-support.js';

const chunkBytes = limits.chunkBytesMin;

/** Everything that a tree says, by path; the root is `.`. Inodes with several names are named after the first. */
async function treeOf(root: string): Promise<Map<string, object>> {
  const tree = new Map<string, object>();
  const firstNames = new Map<bigint, string>();
  const visit = async (path: string): Promise<void> => {
    const full = join(root, path);
    const stats = await lstat(full, { bigint: true });
    const sameAs = firstNames.get(stats.ino) ?? path;
    firstNames.set(stats.ino, sameAs);
    tree.set(path, {
      sameAs,
      mode: Number(stats.mode).toString(8),
      owner: [stats.uid, stats.gid],
      accessTimeNs: stats.atimeNs,
      modifyTimeNs: stats.mtimeNs,
      attributes: userAttributes(full),
      size: stats.isFile() ? stats.size : undefined,
      target: stats.isSymbolicLink() ? await readlink(full) : undefined,
    });
    if (!stats.isDirectory()) return;
    for (const name of (await readdir(full)).sort()) await visit(path === '.' ? name : `${path}/${name}`);
  };
  await visit('.');
  return tree;
}

async function makeDirectory(root: string): Promise<void> {
  const big = await open(join(root, 'big'), 'wx');
  for (const chunk of [3, 4, 600])
    await big.write(patternChunk(chunkBytes, chunk), 0, chunkBytes, chunk * chunkBytes);
  await big.truncate(1000 * chunkBytes + 77);
  await big.close();
  await writeFile(join(root, 'small'), 'hello');
  await writeFile(join(root, 'empty'), '');
  await mkdir(join(root, 'locked'));
  await writeFile(join(root, 'locked', 'inside'), 'x');
  await link(join(root, 'small'), join(root, 'locked', 'same'));
  await symlink('/nowhere/at all', join(root, 'dangling'));
  makeFifo(join(root, 'pipe'), 0o620);
  setUserAttribute(join(root, 'small'), 'user.note', Buffer.from([0, 1, 255]));
  await chmod(join(root, 'small'), 0o4751);
  await chmod(join(root, 'locked'), 0o555);
  for (const [position, path] of [
    'big',
    'locked/inside',
    'small',
    'dangling',
    'pipe',
    'locked',
    '.',
  ].entries()) {
    setTimes(join(root, path), 1_000_000_000_123_456_789n + BigInt(position), 1_600_000_000_987_654_321n);
  }
}

async function publishedDirectory(t: Test): Promise<{
  readonly root: string;
  readonly repository: Repository;
  readonly commit: Commit;
  readonly before: Map<string, object>;
}> {
  const scratch = await mkdtemp(join(tmpdir(), 'isr-export-'));
  t.teardown(async () => {
    execFileSync('chmod', ['-R', 'u+w', scratch]);
    await rm(scratch, { recursive: true });
  });
  const root = join(scratch, 'source');
  await mkdir(root);
  await makeDirectory(root);
  // The first look may move access times, the second does not.
  await treeOf(root);
  const before = await treeOf(root);
  const { repository } = await Repository.create(new MemoryStore(), { chunkBytes });
  t.teardown(() => repository[Symbol.asyncDispose]());
  const source = await directorySource(root, { chunkBytes });
  t.teardown(() => source[Symbol.asyncDispose]());
  const published = await publish(repository, { source });
  if (published.outcome !== 'published') throw new Error(published.outcome);
  return { root, repository, commit: published.commit, before };
}

t.test('an exported version is the directory that was imported', async (t) => {
  const { root, repository, commit, before } = await publishedDirectory(t);
  const target = `${root}-copy`;
  const progress: number[] = [];
  const written = await exportVersion({
    commit,
    reader: repository.blobs,
    targetDirectory: target,
    onProgress: ({ doneBytes }) => void progress.push(doneBytes),
  });
  t.same(await treeOf(target), before);
  for (const path of ['big', 'small', 'empty', 'locked/inside']) {
    const [one, other] = [await readFile(join(root, path)), await readFile(join(target, path))];
    t.ok(one.equals(other), path);
  }
  const { blocks } = await lstat(join(target, 'big'));
  t.ok(blocks * 512 < 5 * chunkBytes, `zero chunks are holes: ${blocks} blocks`);
  t.same(written, {
    files: 4,
    logicalBytes: commit.logicalBytes,
    writtenBytes: 3 * chunkBytes + 5 + 1,
    ownersKept: process.getuid?.() === 0,
    attributesKept: true,
  });
  t.equal(progress.at(-1), commit.logicalBytes);
  t.same((await readdir(join(root, '..'))).sort(), ['source', 'source-copy'], 'nothing else is left');
});

t.test('an export takes the place of nothing but an empty directory', async (t) => {
  const { root, repository, commit } = await publishedDirectory(t);
  const scratch = join(root, '..');
  const request = { commit, reader: repository.blobs };
  await mkdir(join(scratch, 'full'));
  await writeFile(join(scratch, 'full', 'precious'), 'x');
  for (const target of ['full', 'full/precious']) {
    await t.rejects(exportVersion({ ...request, targetDirectory: join(scratch, target) }), TargetNotEmpty);
  }
  t.same(await readdir(join(scratch, 'full')), ['precious']);
  await t.rejects(exportVersion({ ...request, targetDirectory: join(scratch, 'no/such') }), ExportFailed);

  await mkdir(join(scratch, 'empty'));
  await symlink('empty', join(scratch, 'link'));
  await exportVersion({ ...request, targetDirectory: join(scratch, 'link') });
  t.equal(
    await readFile(join(scratch, 'empty', 'small'), 'utf8'),
    'hello',
    'through a link, where that leads',
  );
});

t.test('an export that fails leaves nothing', async (t) => {
  const { root, repository, commit } = await publishedDirectory(t);
  const scratch = join(root, '..');
  const targetDirectory = join(scratch, 'target');
  const controller = new AbortController();
  const failing = (fail: () => void): BlobReader => {
    let chunks = 0;
    return {
      readBlob: async (reference, kind, options) => {
        if (kind === 'chunk' && ++chunks === 3) fail();
        return repository.blobs.readBlob(reference, kind, options);
      },
    };
  };
  const damaged = failing(() => {
    throw new DamagedObject('pack/x', 'a test says so');
  });
  await t.rejects(exportVersion({ commit, reader: damaged, targetDirectory }), DamagedObject);
  const cancelling = failing(() => controller.abort());
  await t.rejects(
    exportVersion({ commit, reader: cancelling, targetDirectory, signal: controller.signal }),
    Cancelled,
  );
  const short: BlobReader = {
    readBlob: async (reference, kind) =>
      kind === 'chunk' ? new Uint8Array(1) : repository.blobs.readBlob(reference, kind),
  };
  await t.rejects(exportVersion({ commit, reader: short, targetDirectory }), DamagedObject);
  t.same(await readdir(scratch), ['source']);
});

t.test('names that lead elsewhere are refused', async (t) => {
  const { repository, commit, root } = await publishedDirectory(t);
  const evil = { ...metadata, number: 2, kind: 'symlink', target: 'x' } as const;
  for (const name of ['../evil', '..', '/evil', 'a/b', '']) {
    const directory = { ...metadata, number: 1, kind: 'directory', entries: new Map([[name, 2]]) } as const;
    const inodes = new Map<number, typeof directory | typeof evil>([
      [1, directory],
      [2, evil],
    ]);
    const manifest = await writeBlob(repository, encodeManifest({ inodes }), 'manifest');
    const request = { commit: { ...commit, manifest }, reader: repository.blobs };
    await t.rejects(exportVersion({ ...request, targetDirectory: `${root}-evil` }), DamagedObject, name);
  }
  t.same(await readdir(join(root, '..')), ['source']);
});
