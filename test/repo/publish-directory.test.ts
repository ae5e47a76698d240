import { execFileSync } from 'node:child_process';
import { constants } from 'node:fs';
import {
  appendFile,
  chmod,
  link,
  lstat,
  mkdtemp,
  open,
  rm,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { limits } from '../../src/base/index.js';
import {
  directorySource,
  loadManifest,
  Repository,
  SourceChanged,
  UnsupportedFile,
  type DirectorySource,
  type Manifest,
  type SourceInode,
  type VersionNumber,
} from '../../src/repo/index.js';
import { makeFifo, setTimes, setUserAttribute } from '../../src/system/index.js';
import { MemoryStore } from '../support/memory-store.js';
import { patternChunk, publish } from './publish-support.js';

const chunkBytes = limits.chunkBytesMin;

async function scan(t: Test, path: string, manifest?: Manifest): Promise<DirectorySource> {
  const base = manifest === undefined ? undefined : { manifest };
  const source = await directorySource(path, { chunkBytes, base });
  t.teardown(() => source[Symbol.asyncDispose]());
  return source;
}

async function create(t: Test): Promise<Repository> {
  const { repository } = await Repository.create(new MemoryStore(), { chunkBytes });
  t.teardown(() => repository[Symbol.asyncDispose]());
  return repository;
}

/** By path, `.` is the root. */
function byPath(source: DirectorySource): Map<string, SourceInode> {
  const inodes = new Map([...source.inodes()].map((inode) => [inode.number, inode]));
  const paths = new Map<string, SourceInode>();
  const visit = (path: string, number: number): void => {
    const inode = inodes.get(number);
    if (inode === undefined) throw new Error(`no inode ${number}`);
    paths.set(path, inode);
    if (inode.kind === 'directory')
      for (const [name, child] of inode.entries) visit(path === '.' ? name : `${path}/${name}`, child);
  };
  visit('.', 1);
  return paths;
}

async function rangesOf(inode: SourceInode | undefined): Promise<unknown[]> {
  if (inode?.kind !== 'file') throw new Error('not a file');
  const ranges = [];
  for await (const range of inode.content.changedChunks()) ranges.push(range);
  return ranges;
}

async function write(path: string, offsetBytes: number, data: Uint8Array): Promise<void> {
  const file = await open(path, constants.O_WRONLY | constants.O_CREAT);
  await file.write(data, 0, data.length, offsetBytes);
  await file.close();
}

t.test('a directory is seen as it is', async (t) => {
  const root = t.testdir({ 'isr.toml': 'ram = "mem"\n', disks: { 'a b\u00e9\n': 'x' }, empty: '' });
  await symlink('../outside', join(root, 'disks', 'link'));
  await link(join(root, 'isr.toml'), join(root, 'disks', 'same'));
  makeFifo(join(root, 'pipe'), 0o600);
  await chmod(join(root, 'isr.toml'), 0o4750);
  await chmod(join(root, 'disks'), 0o711);
  setTimes(join(root, 'isr.toml'), 1_234_567_890_123_456_789n, 987_654_321_987_654_321n);
  setTimes(join(root, 'disks', 'link'), 5n, -1n);
  setUserAttribute(join(root, 'isr.toml'), 'user.note', Buffer.from('keep'));
  const paths = byPath(await scan(t, root));
  t.same(
    [...paths].map(([path, { kind }]) => `${path} ${kind}`),
    [
      '. directory',
      'disks directory',
      'disks/a b\u00e9\n file',
      'disks/link symlink',
      'disks/same file',
      'empty file',
      'isr.toml file',
      'pipe fifo',
    ],
  );
  const toml = paths.get('isr.toml');
  t.equal(paths.get('disks/same'), toml, 'a hard link is the same inode');
  t.match(toml, {
    permissions: 0o4750,
    uid: process.getuid?.(),
    gid: process.getgid?.(),
    accessTimeNs: 1_234_567_890_123_456_789n,
    modifyTimeNs: 987_654_321_987_654_321n,
  });
  t.equal(toml?.changeTimeNs, (await lstat(join(root, 'isr.toml'), { bigint: true })).ctimeNs);
  t.same(toml?.extendedAttributes, new Map([['user.note', Uint8Array.from(Buffer.from('keep'))]]));
  t.equal(paths.get('disks')?.permissions, 0o711);
  const linked = paths.get('disks/link');
  t.match(linked, { kind: 'symlink', target: '../outside', modifyTimeNs: -1n });
});

t.test('holes are not read', async (t) => {
  const path = join(t.testdir({}), 'sparse');
  await write(path, 10 * chunkBytes + 5, Buffer.from('data'));
  await write(path, 12 * chunkBytes, Buffer.alloc(2 * chunkBytes, 1));
  await truncate(path, 2 ** 40);
  const source = await scan(t, join(path, '..'));
  const ranges = await rangesOf(byPath(source).get('sparse'));
  t.same(ranges, [
    { first: 0, count: 10, zero: true },
    { first: 10, count: 1 },
    { first: 11, count: 1, zero: true },
    { first: 12, count: 2 },
    { first: 14, count: 2 ** 40 / chunkBytes - 14, zero: true },
  ]);
});

t.test('pieces of data with small holes between are one range', async (t) => {
  const path = join(t.testdir({}), 'sparse');
  for (const chunk of [1, 2, 3]) await write(path, chunk * chunkBytes + 8192, Buffer.from('data'));
  await truncate(path, 5 * chunkBytes);
  const ranges = await rangesOf(byPath(await scan(t, join(path, '..'))).get('sparse'));
  t.same(ranges, [
    { first: 0, count: 1, zero: true },
    { first: 1, count: 3 },
    { first: 4, count: 1, zero: true },
  ]);
});

t.test('an import over a version stores what differs', async (t) => {
  const root = t.testdir({ big: '', other: 'as it was' });
  for (const chunk of [0, 1, 2, 700])
    await write(join(root, 'big'), chunk * chunkBytes, patternChunk(chunkBytes, chunk + 1));
  const repository = await create(t);
  const first = await publish(repository, { source: await scan(t, root) });
  if (first.outcome !== 'published') throw new Error(first.outcome);
  const manifest = await loadManifest(first.commit.manifest, repository.blobs);
  const parent = first.commit.version;

  const same = await publish(repository, { source: await scan(t, root, manifest), parent });
  t.equal(same.outcome, 'unchanged');

  await write(join(root, 'big'), chunkBytes, patternChunk(chunkBytes, 99));
  execFileSync('fallocate', [
    '--punch-hole',
    '-o',
    `${2 * chunkBytes}`,
    '-l',
    `${chunkBytes}`,
    join(root, 'big'),
  ]);
  await writeFile(join(root, 'another'), 'new');
  const source = await scan(t, root, manifest);
  const numbers = new Map([...byPath(source)].map(([path, { number }]) => [path, number]));
  const baseRoot = manifest.inodes.get(1);
  t.equal(
    numbers.get('big'),
    baseRoot?.kind === 'directory' ? baseRoot.entries.get('big') : undefined,
    'a path keeps its inode number',
  );
  t.notOk(manifest.inodes.has(numbers.get('another')!), 'a new path gets a new one');
  const chunks: number[] = [];
  const second = await publish(repository, {
    source,
    parent,
    onSealed: (_reference, kind, sealed) => {
      if (kind === 'chunk') chunks.push(sealed.length);
    },
  });
  t.equal(second.outcome === 'published' && second.commit.version, 2 as VersionNumber);
  t.equal(chunks.length, 2, 'the changed chunk and the new file');
});

t.test('what a version cannot hold is refused by name', async (t) => {
  await t.test('sockets', async (t) => {
    // The path of a socket must be short.
    const root = await mkdtemp(join(tmpdir(), 'isr-'));
    t.teardown(() => rm(root, { recursive: true }));
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(join(root, 'sock'), resolve));
    t.teardown(() => new Promise((resolve) => server.close(resolve)));
    await t.rejects(scan(t, root), {
      code: 'UNSUPPORTED_FILE',
      message: /sock cannot be part .*: it is a socket\./,
    });
  });
  await t.test('names that are not UTF-8', async (t) => {
    const root = t.testdir({});
    await writeFile(Buffer.concat([Buffer.from(`${root}/bad`), Buffer.from([0xff])]), 'x');
    await t.rejects(scan(t, root), { code: 'UNSUPPORTED_FILE', message: /not UTF-8: "bad\u00ff"/ });
  });
  await t.test('a file in place of the directory', async (t) => {
    const root = t.testdir({ file: '' });
    await t.rejects(scan(t, join(root, 'file')), UnsupportedFile);
    await t.rejects(scan(t, join(root, 'missing')), {
      code: 'SOURCE_UNREADABLE',
      message: /missing cannot be read: ENOENT/,
    });
  });
});

t.test('a file that changes while it is read is an error, and no version', async (t) => {
  const changes: Record<string, (path: string) => Promise<void>> = {
    grows: (path) => appendFile(path, 'more'),
    shrinks: (path) => truncate(path, 10),
    'is rewritten': (path) => write(path, 0, Buffer.from('other')),
    'is touched': (path) => utimes(path, 1, 1),
    'is replaced by a link': async (path) => {
      await rm(path);
      await symlink('/etc/passwd', path);
    },
  };
  const repository = await create(t);
  for (const [name, change] of Object.entries(changes)) {
    await t.test(name, async (t) => {
      const root = t.testdir({ victim: 'x'.repeat(3 * chunkBytes) });
      const source = await scan(t, root);
      await change(join(root, 'victim'));
      await t.rejects(publish(repository, { source }), SourceChanged);
    });
  }
  t.equal((await repository.history('vm').head()).latest, undefined);
});
