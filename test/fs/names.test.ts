import { statfsSync } from 'node:fs';
import t from 'tap';
import { limits } from '../../src/base/index.js';
import { openOverlay, rootInode, type ErrnoName } from '../../src/fs/index.js';
import {
  caller,
  copyAtCrash,
  errnoOf,
  openPath,
  openTree,
  readAll,
  readWrite,
} from './support/open-file-system.js';

t.test('errors of names', async (t) => {
  const { fileSystem } = await openTree(t, (version) => ({
    file: { file: version.addFile(Buffer.from('content')) },
    link: { symlink: 'file' },
    directory: { directory: { inner: { directory: {} } } },
  }));
  const directory = fileSystem.lookup(rootInode, 'directory').inode;
  const inner = fileSystem.lookup(directory, 'inner').inode;
  const file = fileSystem.lookup(rootInode, 'file').inode;
  const make = (name: string) => fileSystem.makeNode(rootInode, name, 0o600, caller);
  const expected: readonly [ErrnoName, () => unknown][] = [
    ['ENOENT', () => fileSystem.lookup(rootInode, 'absent')],
    ['ENAMETOOLONG', () => fileSystem.lookup(rootInode, 'ä'.repeat(128))],
    ['ENAMETOOLONG', () => make('x'.repeat(256))],
    ['EINVAL', () => make('a/b')],
    ['EINVAL', () => make('')],
    ['EINVAL', () => make('..')],
    ['EINVAL', () => make('a\0')],
    ['EINVAL', () => make('\ud800')],
    ['EEXIST', () => make('file')],
    ['ENOTDIR', () => fileSystem.lookup(file, 'x')],
    ['ENOTDIR', () => fileSystem.removeDirectory(rootInode, 'file')],
    ['EISDIR', () => fileSystem.unlink(rootInode, 'directory')],
    ['ENOTEMPTY', () => fileSystem.removeDirectory(rootInode, 'directory')],
    ['EPERM', () => fileSystem.link(directory, rootInode, 'second')],
    ['EPERM', () => fileSystem.makeNode(rootInode, 'device', 0o020600, caller)],
    ['EINVAL', () => fileSystem.rename(rootInode, 'directory', inner, 'x', 'replace')],
    ['EINVAL', () => fileSystem.rename(directory, 'inner', rootInode, 'directory', 'exchange')],
    ['ENOTEMPTY', () => fileSystem.rename(directory, 'inner', rootInode, 'directory', 'replace')],
    ['EISDIR', () => fileSystem.rename(rootInode, 'file', rootInode, 'directory', 'replace')],
    ['ENOTDIR', () => fileSystem.rename(rootInode, 'directory', rootInode, 'file', 'replace')],
    ['EEXIST', () => fileSystem.rename(rootInode, 'file', rootInode, 'link', 'noReplace')],
    ['ENOENT', () => fileSystem.rename(rootInode, 'file', rootInode, 'absent', 'exchange')],
    ['EISDIR', () => fileSystem.open(directory, 0)],
    ['ELOOP', () => fileSystem.open(fileSystem.lookup(rootInode, 'link').inode, 0)],
    ['EISDIR', () => fileSystem.setAttributes(directory, { sizeBytes: 0 })],
    ['EFBIG', () => fileSystem.setAttributes(file, { sizeBytes: 2 ** 51 })],
    ['EINVAL', () => fileSystem.readLink(file)],
    ['ENOENT', () => fileSystem.makeSymlink(rootInode, 'empty', '', caller)],
    ['ENAMETOOLONG', () => fileSystem.makeSymlink(rootInode, 'long', 'x'.repeat(4096), caller)],
    ['ESTALE', () => fileSystem.getAttributes(9999 as typeof file)],
  ];
  for (const [errno, call] of expected) t.equal(await errnoOf(call), errno, call.toString());
  t.same(fileSystem.dirty(), { bytes: 0, changedFiles: 0 }, 'nothing happened');
  const readOnly = await openPath(fileSystem, 'file', 0);
  t.equal(await errnoOf(() => fileSystem.write(readOnly, 0, Buffer.from('x'))), 'EBADF');
  fileSystem.release(readOnly);
  t.equal(await errnoOf(() => fileSystem.read(readOnly, 0, Buffer.alloc(1), 'demand')), 'EBADF');
});

t.test('an unlinked file lives until its last handle is released, and not beyond a crash', async (t) => {
  const { fileSystem, options } = await openTree(t, (version) => ({
    file: { file: version.addFile(Buffer.from('base')) },
  }));
  const first = await openPath(fileSystem, 'file');
  const second = await openPath(fileSystem, 'file');
  const inode = fileSystem.inodeOf(first);
  await fileSystem.unlink(rootInode, 'file');
  await fileSystem.write(first, 4, Buffer.from(' and more'));
  t.equal(fileSystem.getAttributes(inode).linkCount, 0);
  t.equal((await readAll(fileSystem, second)).toString(), 'base and more');
  t.same(fileSystem.dirty(), { bytes: 0, changedFiles: 1 });
  t.equal(await errnoOf(() => fileSystem.link(inode, rootInode, 'back')), 'ENOENT');

  const reopened = await openOverlay({ ...options, directory: copyAtCrash(t, options.directory) });
  t.teardown(() => reopened.close());
  t.equal(await errnoOf(() => reopened.getAttributes(inode)), 'ESTALE');
  t.same(reopened.dirty(), { bytes: 0, changedFiles: 1 });

  fileSystem.release(first);
  t.equal((await readAll(fileSystem, second)).toString(), 'base and more');
  fileSystem.release(second);
  t.equal(await errnoOf(() => fileSystem.getAttributes(inode)), 'ESTALE');
});

t.test('inode numbers start where they are told to and are never used twice', async (t) => {
  const { fileSystem, options } = await openTree(
    t,
    (version) => ({ file: { file: version.addFile(Buffer.from('x')) } }),
    { firstInodeNumber: 1000 },
  );
  t.equal(fileSystem.lookup(rootInode, 'file').inode, 1000);
  const { inode } = await fileSystem.makeNode(rootInode, 'new', 0o600, caller);
  t.equal(inode, 1001);
  await fileSystem.unlink(rootInode, 'new');
  const reopened = await openOverlay({ ...options, directory: copyAtCrash(t, options.directory) });
  t.teardown(() => reopened.close());
  t.equal((await reopened.makeNode(rootInode, 'newer', 0o600, caller)).inode, 1002);
  await reopened.flush();
  const again = await openOverlay({
    ...options,
    bootId: 'boot 2',
    directory: copyAtCrash(t, options.directory),
  });
  t.teardown(() => again.close());
  t.ok((await again.makeNode(rootInode, 'newest', 0o600, caller)).inode > 1000);
});

t.test('times follow the rules of Linux', async (t) => {
  let nowMs = 5000;
  const { fileSystem } = await openTree(
    t,
    (version) => ({ file: { file: version.addFile(Buffer.alloc(100)) }, other: { directory: {} } }),
    { clock: { wallMs: () => nowMs } },
  );
  const at = (milliseconds: number) => BigInt(milliseconds) * 1_000_000n;
  const file = fileSystem.lookup(rootInode, 'file').inode;
  const times = () => {
    const { accessTimeNs, modifyTimeNs, changeTimeNs } = fileSystem.getAttributes(file);
    return [accessTimeNs, modifyTimeNs, changeTimeNs];
  };
  await fileSystem.setAttributes(file, { permissions: 0o600 });
  t.same(times(), [1n, 1n, at(5000)]);
  nowMs = 6000;
  const handle = await openPath(fileSystem, 'file');
  await fileSystem.read(handle, 0, Buffer.alloc(10), 'demand');
  t.same(times(), [1n, 1n, at(5000)], 'reading leaves no trace');
  await fileSystem.write(handle, 0, Buffer.from('x'));
  t.same(times(), [1n, at(6000), at(6000)]);
  nowMs = 7000;
  await fileSystem.setAttributes(file, { accessTimeNs: 12n, modifyTimeNs: 34n });
  t.same(times(), [12n, 34n, at(7000)]);
  await fileSystem.setAttributes(file, { accessTimeNs: 'now', sizeBytes: 5 });
  t.same(times(), [at(7000), at(7000), at(7000)]);
  nowMs = 8000;
  const other = fileSystem.lookup(rootInode, 'other').inode;
  await fileSystem.rename(rootInode, 'file', other, 'file', 'replace');
  t.same(times(), [at(7000), at(7000), at(8000)]);
  for (const directory of [rootInode, other]) {
    t.equal(fileSystem.getAttributes(directory).modifyTimeNs, at(8000));
  }
});

t.test('groups, links and directories', async (t) => {
  const { fileSystem } = await openTree(t, () => ({ shared: { directory: {} } }));
  const shared = fileSystem.lookup(rootInode, 'shared').inode;
  await fileSystem.setAttributes(shared, { permissions: 0o2775, gid: 77 });
  const inner = await fileSystem.makeDirectory(shared, 'inner', 0o755, caller);
  t.match(inner, { gid: 77, mode: 0o042755, linkCount: 2 });
  t.match(await fileSystem.makeNode(shared, 'file', 0o644, caller), { gid: 77, mode: 0o100644, uid: 1000 });
  t.equal(fileSystem.getAttributes(shared).linkCount, 3);
  t.equal(fileSystem.getAttributes(rootInode).linkCount, 3);
  await fileSystem.rename(shared, 'inner', rootInode, 'inner', 'replace');
  t.equal(fileSystem.getAttributes(shared).linkCount, 2);
  t.equal(fileSystem.getAttributes(rootInode).linkCount, 4);
  t.equal(fileSystem.parentOf(inner.inode), rootInode);
  t.equal(fileSystem.parentOf(rootInode), rootInode);
  await fileSystem.removeDirectory(rootInode, 'inner');
  t.equal(fileSystem.getAttributes(rootInode).linkCount, 3);
});

t.test('usage is that of the disk under the overlay, and files are counted up to the limit', async (t) => {
  const { fileSystem, options } = await openTree(t, () => ({}));
  const before = fileSystem.usage();
  const disk = statfsSync(options.directory);
  t.equal(before.usedBytes, 0);
  t.equal(before.totalBytes, disk.blocks * disk.bsize);
  t.ok(before.availableBytes <= before.freeBytes && before.freeBytes <= before.totalBytes);
  t.ok(before.availableBytes > 0 && before.freeInodes > 0);
  t.ok(before.inodes + before.freeInodes <= limits.manifestInodesMax);
  await fileSystem.makeNode(rootInode, 'file', 0o100600, caller);
  const after = fileSystem.usage();
  t.ok(after.inodes === before.inodes + 1 && after.freeInodes <= before.freeInodes);
});

t.test('an inode that is held outlives its names, whatever it is', async (t) => {
  const { fileSystem } = await openTree(t, () => ({}));
  const directory = await fileSystem.makeDirectory(rootInode, 'directory', 0o755, caller);
  const fifo = await fileSystem.makeNode(directory.inode, 'fifo', 0o010600, caller);
  const file = await fileSystem.makeNode(directory.inode, 'file', 0o100600, caller);
  for (const { inode } of [directory, fifo, file]) fileSystem.hold(inode);
  fileSystem.hold(file.inode);
  const handle = await fileSystem.open(file.inode, readWrite);
  await fileSystem.write(handle, 0, Buffer.from('content'));
  for (const name of ['fifo', 'file']) await fileSystem.unlink(directory.inode, name);
  await fileSystem.removeDirectory(rootInode, 'directory');
  for (const { inode } of [directory, fifo, file]) t.equal(fileSystem.getAttributes(inode).linkCount, 0);
  await fileSystem.setAttributes(directory.inode, { permissions: 0o700 });
  t.equal(fileSystem.getAttributes(directory.inode).mode & 0o777, 0o700);
  t.equal(fileSystem.parentOf(directory.inode), rootInode);
  t.same(fileSystem.readDirectory(directory.inode), []);
  t.equal(await errnoOf(() => fileSystem.makeNode(directory.inode, 'x', 0o100600, caller)), 'ENOENT');
  t.equal(await errnoOf(() => fileSystem.link(fifo.inode, rootInode, 'back')), 'ENOENT');
  fileSystem.release(handle);
  t.equal(fileSystem.getAttributes(file.inode).sizeBytes, 7);
  t.equal(fileSystem.usage().inodes, 4);
  for (const { inode } of [directory, fifo, file]) {
    fileSystem.forget(inode);
    t.equal(await errnoOf(() => fileSystem.getAttributes(inode)), 'ESTALE');
    fileSystem.forget(inode);
  }
  t.equal(fileSystem.usage().inodes, 1);
  t.equal(await errnoOf(() => fileSystem.hold(file.inode)), 'ESTALE');
});

t.test('a file with content of the base never shows as one that uses no space', async (t) => {
  const { fileSystem } = await openTree(t, (version) => ({
    disk: { file: version.addFile(Buffer.alloc(10_000, 1)) },
    hole: { file: version.addFile(Buffer.alloc(0), 10_000) },
  }));
  t.equal(fileSystem.lookup(rootInode, 'disk').blocks, 8);
  const { inode, blocks } = fileSystem.lookup(rootInode, 'hole');
  t.equal(blocks, 0);
  const handle = await fileSystem.open(inode, readWrite);
  await fileSystem.write(handle, 0, Buffer.alloc(16_384, 1));
  t.equal(fileSystem.getAttributes(inode).blocks, 32);
  await fileSystem.allocate(handle, 'punchHole', 0, 8192);
  t.equal(fileSystem.getAttributes(inode).blocks, 16);
});

t.test('extended attributes', async (t) => {
  const { fileSystem, options } = await openTree(t, (version) => ({
    file: { file: version.addFile(Buffer.from('x')) },
  }));
  const { inode } = fileSystem.lookup(rootInode, 'file');
  const set = (name: string, bytes: number, mode: 'create' | 'replace' | 'either' = 'either') =>
    fileSystem.setExtendedAttribute(inode, name, Buffer.alloc(bytes, 0x80), mode);
  await set('user.one', 0, 'create');
  await set('security.two', 300);
  await set('trusted.three', 1);
  t.same(fileSystem.listExtendedAttributes(inode), ['user.one', 'security.two', 'trusted.three']);
  t.equal(await errnoOf(() => set('user.one', 1, 'create')), 'EEXIST');
  t.equal(await errnoOf(() => set('user.absent', 1, 'replace')), 'ENODATA');
  t.equal(await errnoOf(() => set('system.posix_acl_access', 1)), 'EOPNOTSUPP');
  t.equal(await errnoOf(() => set('other', 1)), 'EOPNOTSUPP');
  t.equal(await errnoOf(() => set('user.', 1)), 'EINVAL');
  t.equal(await errnoOf(() => set(`user.${'x'.repeat(251)}`, 1)), 'ERANGE');
  t.equal(await errnoOf(() => set('user.large', 65_537)), 'E2BIG');
  t.equal(await errnoOf(() => set('user.large', 65_536)), 'ENOSPC');
  t.equal(await errnoOf(() => fileSystem.getExtendedAttribute(inode, 'user.absent')), 'ENODATA');
  t.equal(await errnoOf(() => fileSystem.removeExtendedAttribute(inode, 'user.absent')), 'ENODATA');
  await fileSystem.removeExtendedAttribute(inode, 'user.one');
  const reopened = await openOverlay({ ...options, directory: copyAtCrash(t, options.directory) });
  t.teardown(() => reopened.close());
  t.same(reopened.listExtendedAttributes(inode), ['security.two', 'trusted.three']);
  t.ok(Buffer.alloc(300, 0x80).equals(reopened.getExtendedAttribute(inode, 'security.two')));
});

t.test('truncating at opening', async (t) => {
  const { fileSystem } = await openTree(t, (version) => ({
    file: { file: version.addFile(Buffer.from('content')) },
  }));
  const handle = await openPath(fileSystem, 'file', readWrite | 0o1000);
  t.equal((await readAll(fileSystem, handle)).length, 0);
});
