import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { limits } from '../../src/base/index.js';
import {
  discardOverlay,
  FileSystemBusy,
  openOverlay,
  OverlayDamaged,
  OverlayFormatUnknown,
  overlayExists,
  OverlayMismatch,
  readOverlaySummary,
  rootInode,
} from '../../src/fs/index.js';
import { chunkBytes, type FakeVersion } from './support/fake-version.js';
import {
  caller,
  copyAtCrash,
  errnoOf,
  openPath,
  openTree,
  readAll,
  readWrite,
} from './support/open-file-system.js';
import { publishInto } from './support/publish.js';

const disk = (version: FakeVersion) => ({ disk: { file: version.addFile(randomBytes(3 * chunkBytes)) } });

t.test('an overlay belongs to one version', async (t) => {
  const { fileSystem, options } = await openTree(t, disk);
  await fileSystem.close();
  const other = { ...options, base: { ...options.base, identity: '2' } };
  await t.rejects(openOverlay(other), OverlayMismatch);
  await t.rejects(openOverlay(other), { message: /to version 1, not to version 2/ });
  const again = await openOverlay(options);
  t.teardown(() => again.close());
});

t.test('a summary tells what is there without opening it', async (t) => {
  const { fileSystem, options } = await openTree(t, disk, { bootId: undefined });
  const none = { commits: [], changedSince: true };
  t.same(await readOverlaySummary(options.directory), {
    ...{ identity: '1', dirtyBytes: 0, changedFiles: 0 },
    ...{ announced: none, nextInode: 3 },
  });
  const handle = await openPath(fileSystem, 'disk');
  await fileSystem.write(handle, 0, Buffer.alloc(8192, 1));
  await fileSystem.makeNode(rootInode, 'new', 0o600, caller);
  t.same(fileSystem.dirty(), { bytes: 8192, changedFiles: 2 });
  await fileSystem.flush();
  t.same(await readOverlaySummary(options.directory), {
    ...{ identity: '1', dirtyBytes: 8192, changedFiles: 2 },
    ...{ announced: none, nextInode: 4 },
  });
  await fileSystem.close();
  t.ok(overlayExists(options.directory));
  await discardOverlay(options.directory);
  t.notOk(overlayExists(options.directory));
  t.notOk(existsSync(options.directory));
  t.equal(await readOverlaySummary(options.directory), undefined);
  await discardOverlay(options.directory);
});

t.test('damage and newer formats are recognised', async (t) => {
  const { fileSystem, options } = await openTree(t, disk);
  const handle = await openPath(fileSystem, 'disk');
  await fileSystem.write(handle, 0, Buffer.alloc(8192, 1));
  await fileSystem.write(handle, chunkBytes, Buffer.alloc(8192, 1));
  await fileSystem.close();
  const journal = join(options.directory, 'journal');
  const good = readFileSync(journal);

  const flipped = Buffer.from(good);
  flipped.writeUInt8(flipped.readUInt8(50) ^ 1, 50);
  writeFileSync(journal, flipped);
  await t.rejects(openOverlay(options), OverlayDamaged);
  await t.rejects(readOverlaySummary(options.directory), OverlayDamaged);

  const data = join(options.directory, 'data', '2');
  const dataBefore = readFileSync(data);
  writeFileSync(journal, good);
  truncateSync(data, 4096);
  const short = await openOverlay(options);
  t.teardown(() => short.close());
  const again = await openPath(short, 'disk');
  t.equal(
    await errnoOf(() => short.read(again, chunkBytes, Buffer.alloc(10), 'demand')),
    'EIO',
    'never zeros',
  );
  await short.close();

  writeFileSync(data, dataBefore);
  const { Journal } = await import('../../src/fs/journal.js');
  const newer = Journal.begin(journal, ['{"type":"overlay","format":7}']);
  await newer.close();
  await t.rejects(openOverlay(options), OverlayFormatUnknown);
});

t.test('changes wait while the file system is frozen, and not without a bound', async (t) => {
  const { fileSystem } = await openTree(t, disk);
  const handle = await openPath(fileSystem, 'disk');
  t.throws(() => fileSystem.freeze(), FileSystemBusy);
  t.throws(() => fileSystem.freeze(), { message: /open for writing: disk/ });
  t.equal(fileSystem.write(handle, 0, Buffer.from('a')), 1, 'nothing was frozen');
  fileSystem.freeze({ force: true });
  const waiting = [
    fileSystem.write(handle, 0, Buffer.from('b')),
    fileSystem.makeNode(rootInode, 'new', 0o600, caller),
    fileSystem.setAttributes(rootInode, { permissions: 0o700 }),
    fileSystem.allocate(handle, 'punchHole', 10, 10),
  ];
  t.ok(waiting.every((each) => each instanceof Promise));
  const into = Buffer.alloc(1);
  t.equal(fileSystem.read(handle, 0, into, 'demand'), 1, 'reading goes on');
  t.equal(into.toString(), 'a');
  const more = Array.from({ length: limits.kernelRequestsWaiting }, () =>
    Promise.resolve(fileSystem.setAttributes(rootInode, { uid: 5 })),
  );
  const outcomes = Promise.allSettled(more);
  fileSystem.thaw();
  for (const each of waiting) await each;
  t.ok(
    (await outcomes).some((each) => each.status === 'rejected'),
    'the last ones were turned away',
  );
  t.same((await readAll(fileSystem, handle)).toString('latin1', 0, 1), 'b');
  fileSystem.release(handle);
  fileSystem.freeze();
  fileSystem.thaw();
});

t.test('publishing reads what changed and nothing else', async (t) => {
  const { fileSystem, version } = await openTree(t, (version) => ({
    big: { file: version.addFile(randomBytes(8 * chunkBytes)) },
    small: { file: version.addFile(randomBytes(100)) },
  }));
  const big = await openPath(fileSystem, 'big');
  await fileSystem.write(big, 2 * chunkBytes + 5, Buffer.from('x'));
  await fileSystem.write(big, 3 * chunkBytes, Buffer.alloc(4096, 1));
  await fileSystem.allocate(big, 'punchHole', 5 * chunkBytes, 2 * chunkBytes);
  await fileSystem.setAttributes(fileSystem.inodeOf(big), { sizeBytes: 7 * chunkBytes + 100 });
  t.throws(() => fileSystem.publishSource(chunkBytes), /not frozen/);
  fileSystem.freeze({ force: true });
  const changed = new Map<string, unknown>();
  for (const inode of fileSystem.publishSource(chunkBytes).inodes()) {
    if (inode.kind !== 'file') continue;
    const ranges: unknown[] = [];
    for await (const range of inode.content.changedChunks()) ranges.push(range);
    changed.set(inode.content.sizeBytes === 100 ? 'small' : 'big', ranges);
  }
  t.same(changed.get('small'), []);
  t.same(changed.get('big'), [
    { first: 2, count: 2 },
    { first: 5, count: 2, zero: true },
    { first: 7, count: 1 },
  ]);
  version.inMemory = () => true;
  const files = await publishInto(version, fileSystem.publishSource(chunkBytes * 2));
  t.equal(files.size, 2, 'chunks of another size are all read');
  fileSystem.thaw();
});

t.test('after publishing the overlay is empty, whenever the process dies', async (t) => {
  const { fileSystem, version, options } = await openTree(t, disk);
  const handle = await openPath(fileSystem, 'disk');
  await fileSystem.write(handle, 100, Buffer.from('changed'));
  await fileSystem.makeNode(rootInode, 'new', 0o600, caller);
  const expected = await readAll(fileSystem, handle);
  const inode = fileSystem.inodeOf(handle);

  fileSystem.freeze({ force: true });
  const files = await publishInto(version, fileSystem.publishSource(chunkBytes));
  const rebasing = fileSystem.rebase('2', files);
  const during = copyAtCrash(t, options.directory);
  await rebasing;
  const after = copyAtCrash(t, options.directory);
  // Data files that a crash kept from being removed.
  const leftover = copyAtCrash(t, options.directory);
  writeFileSync(join(leftover, 'data', String(inode)), randomBytes(10_000));
  fileSystem.thaw();

  t.same(fileSystem.dirty(), { bytes: 0, changedFiles: 0 });
  t.ok((await readAll(fileSystem, handle)).equals(expected));
  for (const [directory, identity] of [
    [during, '1'],
    [after, '2'],
    [leftover, '2'],
  ] as const) {
    const reopened = await openOverlay({ ...options, directory, base: { ...options.base, identity } });
    const again = await openPath(reopened, 'disk');
    t.equal(reopened.inodeOf(again), inode);
    t.ok((await readAll(reopened, again)).equals(expected), identity);
    t.equal(reopened.dirty().bytes > 0, identity === '1');
    await reopened.write(again, 0, Buffer.from('x'));
    await reopened.close();
  }
  t.ok(existsSync(join(leftover, 'data', String(inode))), 'in use again');
});

t.test('a write that waits while a version is published merges with the new base', async (t) => {
  const { fileSystem, version } = await openTree(t, disk);
  const handle = await openPath(fileSystem, 'disk');
  let release = (): void => undefined;
  version.inMemory = () => false;
  version.beforeRead = () =>
    new Promise((resolve) => {
      release = resolve;
    });
  const write = fileSystem.write(handle, 4000, Buffer.from('late'));
  version.inMemory = () => true;
  await fileSystem.write(handle, 0, Buffer.from('early'));
  fileSystem.freeze({ force: true });
  await fileSystem.rebase('2', await publishInto(version, fileSystem.publishSource(chunkBytes)));
  fileSystem.thaw();
  release();
  await write;
  const content = await readAll(fileSystem, handle);
  t.equal(content.toString('latin1', 0, 5), 'early');
  t.equal(content.toString('latin1', 4000, 4004), 'late');
});

t.test('flush does not wait for what it need not, close is idempotent', async (t) => {
  const { fileSystem, options } = await openTree(t, disk);
  const { handle } = await fileSystem.create(rootInode, 'new', 0o600, readWrite, caller);
  await fileSystem.write(handle, 0, Buffer.from('data'));
  await Promise.all([fileSystem.flush(), fileSystem.fsync(handle, true), fileSystem.syncAll()]);
  const copy = copyAtCrash(t, options.directory);
  await Promise.all([fileSystem.close(), fileSystem.close()]);
  await fileSystem.close();
  t.equal(await errnoOf(() => fileSystem.makeNode(rootInode, 'late', 0o600, caller)), 'EIO');
  const afterPowerLoss = await openOverlay({ ...options, directory: copy, bootId: 'boot 2' });
  t.teardown(() => afterPowerLoss.close());
  t.equal((await readAll(afterPowerLoss, await openPath(afterPowerLoss, 'new'))).toString(), 'data');
});

t.test(
  'an overlay that was not finished is begun anew, a directory that cannot be one is refused',
  async (t) => {
    const { fileSystem, options } = await openTree(t, disk);
    await fileSystem.close();
    rmSync(join(options.directory, 'journal'));
    const fresh = await openOverlay(options);
    t.teardown(() => fresh.close());
    t.same(fresh.dirty(), { bytes: 0, changedFiles: 0 });
    t.equal(
      await errnoOf(() => openOverlay({ ...options, directory: join(options.directory, 'journal') })),
      'EIO',
    );
  },
);
