import { randomBytes } from 'node:crypto';
import { readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Cancelled, limits } from '../../src/base/index.js';
import { FileSystemError, notLocal, openOverlay, rootInode } from '../../src/fs/index.js';
import {
  caller,
  copyAtCrash,
  errnoOf,
  openPath,
  openTree,
  readAll,
  readWrite,
} from './support/open-file-system.js';

const pageBytes = 4096;
const chunk = 128 * 1024;

/** Resolves when the test says so. */
function gate(): { readonly opened: Promise<void>; readonly open: () => void } {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

t.test('what is local is answered without a promise, and exactly to the end of the file', async (t) => {
  const content = randomBytes(10_000);
  const { fileSystem } = await openTree(t, (version) => ({ disk: { file: version.addFile(content) } }));
  const handle = await openPath(fileSystem, 'disk');
  const into = Buffer.alloc(6000, 0xdd);
  t.equal(fileSystem.read(handle, 8000, into, 'ahead'), 2000);
  t.ok(into.subarray(0, 2000).equals(content.subarray(8000)));
  t.ok(
    into.subarray(2000).every((byte) => byte === 0xdd),
    'nothing is touched after the end',
  );
  t.equal(fileSystem.read(handle, 10_000, into, 'demand'), 0);
  t.equal(fileSystem.read(handle, 2 ** 40, into, 'demand'), 0);
  t.equal(fileSystem.write(handle, 9000, Buffer.from('abc')), 3);
  t.equal(fileSystem.read(handle, 8999, into, 'demand'), 1001);
  t.equal(into.toString('latin1', 1, 4), 'abc');
  t.throws(() => fileSystem.read(handle, -1, into, 'demand'), FileSystemError);
});

t.test('read-ahead over what is not local is refused, demand waits', async (t) => {
  const content = randomBytes(4 * chunk);
  const { fileSystem, version } = await openTree(t, (version) => ({
    ram: { file: version.addFile(content) },
  }));
  version.inMemory = () => false;
  version.isLocal = (offset, length) => offset + length <= chunk;
  const handle = await openPath(fileSystem, 'ram');
  const into = Buffer.alloc(chunk);
  t.equal(fileSystem.read(handle, chunk, into, 'ahead'), notLocal);
  t.equal(version.reads.length, 0);
  t.equal(await fileSystem.read(handle, chunk, into.subarray(0, pageBytes), 'demand'), pageBytes);
  t.ok(into.subarray(0, pageBytes).equals(content.subarray(chunk, chunk + pageBytes)));
  t.equal(version.reads[0]?.options.fetchClass, 'demand');
  t.equal(await fileSystem.read(handle, 0, into, 'ahead'), chunk, 'compressed but local: in full');
  t.ok(into.equals(content.subarray(0, chunk)));
});

t.test('pages of the overlay do not make read-ahead wait, holes of the base do', async (t) => {
  const { fileSystem, version } = await openTree(t, (version) => ({
    ram: { file: version.addFile(randomBytes(2 * chunk)) },
  }));
  version.inMemory = version.isLocal = () => false;
  const handle = await openPath(fileSystem, 'ram');
  await fileSystem.write(handle, 0, Buffer.alloc(2 * pageBytes, 7));
  t.equal(fileSystem.read(handle, 0, Buffer.alloc(2 * pageBytes), 'ahead'), 2 * pageBytes);
  t.equal(fileSystem.read(handle, 0, Buffer.alloc(3 * pageBytes), 'ahead'), notLocal);
  t.equal(version.reads.length, 0, 'whole-page writes fetch nothing');
});

t.test('a sequential stream is served in full, bursts around random faults are not', async (t) => {
  const { fileSystem, version } = await openTree(t, (version) => ({
    ram: { file: version.addFile(randomBytes(100), 100 * chunk) },
  }));
  version.inMemory = version.isLocal = () => false;
  const into = Buffer.alloc(chunk);
  const page = into.subarray(0, pageBytes);

  const random = await openPath(fileSystem, 'ram');
  for (const fault of [40, 20, 60, 10]) {
    for (let ahead = 0; ahead < 8; ahead++) {
      t.equal(fileSystem.read(random, (fault + ahead) * chunk, into, 'ahead'), notLocal);
    }
    await fileSystem.read(random, fault * chunk, page, 'demand');
  }

  const stream = await openPath(fileSystem, 'ram');
  t.equal(fileSystem.read(stream, 0, into, 'ahead'), notLocal);
  for (const index of [0, 1, 2]) await fileSystem.read(stream, index * pageBytes, page, 'demand');
  const burst = [1, 0, 2, 3].map((index) =>
    fileSystem.read(stream, 3 * pageBytes + index * chunk, into, 'ahead'),
  );
  for (const read of burst) t.equal(await read, chunk, 'also out of order');
  t.equal(fileSystem.read(stream, 50 * chunk, into, 'ahead'), notLocal, 'elsewhere it is none');
});

t.test('a stream is fetched ahead, further each time, one range at a time', async (t) => {
  const mebibyte = 1024 * 1024;
  const sizeBytes = 64 * mebibyte;
  const { fileSystem, version } = await openTree(t, (version) => ({
    ram: { file: version.addFile(randomBytes(100), sizeBytes) },
  }));
  let finish = (): void => undefined;
  version.duringWarm = () => new Promise((resolve) => (finish = resolve));
  const into = Buffer.alloc(mebibyte / 4);
  const handle = await openPath(fileSystem, 'ram');
  const readTo = async (fromBytes: number, toBytes: number): Promise<void> => {
    for (let at = fromBytes; at < toBytes; at += into.length)
      await fileSystem.read(handle, at, into, 'demand');
  };
  const ranges = () => version.warmed.map(({ offsetBytes, lengthBytes }) => [offsetBytes, lengthBytes]);

  await readTo(0, 2 * into.length);
  t.same(ranges(), [], 'two reads are no stream');
  await readTo(2 * into.length, 8 * into.length);
  t.same(ranges(), [[3 * into.length, mebibyte]], 'one range at a time');
  t.equal(version.warmed[0]?.options.fetchClass, 'around', 'behind all demand');
  finish();
  await new Promise(setImmediate);
  await readTo(8 * into.length, 9 * into.length);
  t.same(ranges().at(-1), [9 * into.length, mebibyte], 'from where the reader is if it has overtaken');
  for (let at = 9 * into.length; at < sizeBytes; at += into.length) {
    finish();
    await new Promise(setImmediate);
    await readTo(at, at + into.length);
  }
  const lengths = version.warmed.slice(2).map(({ lengthBytes }) => lengthBytes);
  t.equal(Math.max(...lengths), limits.streamAheadBytesMax);
  const ends = version.warmed.map(({ offsetBytes, lengthBytes }) => offsetBytes + lengthBytes);
  t.ok(
    ends.every((end) => end <= sizeBytes),
    'never past the end',
  );
  for (const [index, { offsetBytes }] of version.warmed.entries()) {
    if (index > 1) t.equal(offsetBytes, ends[index - 1], 'nothing twice, nothing left out');
  }
});

t.test('a failed fetch is an error and never data', async (t) => {
  const content = randomBytes(3 * pageBytes);
  const { fileSystem, version, errors } = await openTree(t, (version) => ({
    disk: { file: version.addFile(content) },
  }));
  version.inMemory = () => false;
  version.beforeRead = () => Promise.reject(new Error('damaged'));
  const handle = await openPath(fileSystem, 'disk');
  const failed = await Promise.resolve(fileSystem.read(handle, 0, Buffer.alloc(100), 'demand')).catch(
    (error: unknown) => error,
  );
  t.ok(failed instanceof FileSystemError && failed.errno === 'EIO');
  t.match(failed, { cause: { message: 'damaged' } });
  t.equal(await errnoOf(() => fileSystem.write(handle, 10, Buffer.from('x'))), 'EIO');
  t.equal(await errnoOf(() => fileSystem.allocate(handle, 'punchHole', 10, 20)), 'EIO');
  t.equal(errors.length, 3, 'all are told of');
  t.same(fileSystem.dirty(), { bytes: 0, changedFiles: 0 });
  version.beforeRead = () => Promise.reject(new Cancelled('The read'));
  t.equal(await errnoOf(() => fileSystem.read(handle, 0, Buffer.alloc(1), 'demand')), 'EINTR');
  version.beforeRead = () => Promise.resolve();
  t.ok((await readAll(fileSystem, handle)).equals(content));
});

t.test('writes to parts of one page at the same time all count', async (t) => {
  const content = randomBytes(2 * pageBytes);
  const { fileSystem, version } = await openTree(t, (version) => ({
    disk: { file: version.addFile(content) },
  }));
  const { opened, open } = gate();
  version.inMemory = () => false;
  version.beforeRead = () => opened;
  const handle = await openPath(fileSystem, 'disk');
  const writes = [
    fileSystem.write(handle, 10, Buffer.from('one')),
    fileSystem.write(handle, 100, Buffer.from('two')),
    fileSystem.write(handle, pageBytes - 2, Buffer.from('three')),
    fileSystem.allocate(handle, 'punchHole', 200, 50),
  ];
  t.ok(writes.every((write) => write instanceof Promise));
  const other = fileSystem.write(handle, pageBytes, Buffer.alloc(pageBytes, 9));
  t.equal(other, pageBytes, 'other pages do not wait');
  open();
  for (const write of writes) await write;
  const expected = Buffer.from(content);
  expected.fill(9, pageBytes);
  for (const [at, text] of [
    [10, 'one'],
    [100, 'two'],
    [pageBytes - 2, 'three'],
  ] as const) {
    expected.write(text, at);
  }
  expected.fill(0, 200, 250);
  t.ok((await readAll(fileSystem, handle)).equals(expected));
});

t.test('a change that waits for the store can be ended, and then nothing has changed', async (t) => {
  const content = randomBytes(2 * pageBytes);
  const { fileSystem, version, errors } = await openTree(t, (version) => ({
    disk: { file: version.addFile(content) },
  }));
  version.inMemory = () => false;
  version.beforeRead = ({ options: { signal } }) =>
    new Promise((_resolve, reject) => {
      signal?.addEventListener('abort', () => reject(new Cancelled('The fetch')));
    });
  const handle = await openPath(fileSystem, 'disk');
  const controller = new AbortController();
  const changes = [
    errnoOf(() => fileSystem.write(handle, 10, Buffer.from('one'), controller.signal)),
    errnoOf(() => fileSystem.allocate(handle, 'punchHole', 200, 50, controller.signal)),
  ];
  controller.abort();
  t.same(await Promise.all(changes), ['EINTR', 'EINTR']);
  t.same(errors, [], 'which is no failure');
  version.beforeRead = () => Promise.resolve();
  t.ok((await readAll(fileSystem, handle)).equals(content));
});

t.test('what cannot be enough space is not reserved at all', async (t) => {
  const { fileSystem } = await openTree(t, () => ({}));
  const { handle } = await fileSystem.create(rootInode, 'file', 0o600, readWrite, caller);
  const { totalBytes } = fileSystem.usage();
  t.equal(await errnoOf(() => fileSystem.allocate(handle, 'allocate', 0, totalBytes + 1)), 'ENOSPC');
  t.same(fileSystem.getAttributes(fileSystem.inodeOf(handle)).sizeBytes, 0);
  t.equal(fileSystem.getAttributes(fileSystem.inodeOf(handle)).blocks, 0);
});

t.test('a write that waited does not bring back what was cut off meanwhile', async (t) => {
  const { fileSystem, version } = await openTree(t, (version) => ({
    disk: { file: version.addFile(randomBytes(2 * pageBytes)) },
  }));
  const { opened, open } = gate();
  version.inMemory = () => false;
  version.beforeRead = () => opened;
  const handle = await openPath(fileSystem, 'disk');
  const write = fileSystem.write(handle, pageBytes + 500, Buffer.from('end'));
  await fileSystem.setAttributes(fileSystem.inodeOf(handle), { sizeBytes: pageBytes + 100 });
  open();
  await write;
  const last = (await readAll(fileSystem, handle)).subarray(pageBytes);
  t.ok(last.subarray(100, 500).every((byte) => byte === 0));
  t.equal(last.toString('latin1', 500), 'end');
});

t.test('a file that shrank and grew shows zeros where the base had data', async (t) => {
  const { fileSystem, options } = await openTree(t, (version) => ({
    disk: { file: version.addFile(randomBytes(5 * pageBytes)) },
  }));
  const { inode } = fileSystem.lookup(rootInode, 'disk');
  await fileSystem.setAttributes(inode, { sizeBytes: 1000 });
  await fileSystem.setAttributes(inode, { sizeBytes: 5 * pageBytes });
  const handle = await openPath(fileSystem, 'disk');
  t.ok((await readAll(fileSystem, handle)).subarray(1000).every((byte) => byte === 0));
  const directory = copyAtCrash(t, options.directory);
  const reopened = await openOverlay({ ...options, directory });
  t.teardown(() => reopened.close());
  const again = await openPath(reopened, 'disk');
  t.ok((await readAll(reopened, again)).subarray(1000).every((byte) => byte === 0));
});

t.test('data and holes', async (t) => {
  const { fileSystem } = await openTree(t, (version) => ({
    disk: { file: version.addFile(randomBytes(pageBytes)) },
  }));
  const handle = await openPath(fileSystem, 'disk');
  await fileSystem.setAttributes(fileSystem.inodeOf(handle), { sizeBytes: 100 * pageBytes });
  await fileSystem.write(handle, 50 * pageBytes, Buffer.alloc(2 * pageBytes, 1));
  t.equal(fileSystem.seek(handle, 10, 'data'), 10);
  t.equal(fileSystem.seek(handle, 10, 'hole'), pageBytes);
  t.equal(fileSystem.seek(handle, pageBytes, 'data'), 50 * pageBytes);
  t.equal(fileSystem.seek(handle, 50 * pageBytes + 5, 'hole'), 52 * pageBytes);
  t.equal(fileSystem.seek(handle, 60 * pageBytes + 5, 'hole'), 60 * pageBytes + 5);
  t.equal(await errnoOf(() => fileSystem.seek(handle, 52 * pageBytes, 'data')), 'ENXIO');
  t.equal(await errnoOf(() => fileSystem.seek(handle, 100 * pageBytes, 'hole')), 'ENXIO');
});

t.test('a sparse file of 1 TiB opens at once and costs what is written', async (t) => {
  const bytes = 2 ** 40;
  const { fileSystem, version, options } = await openTree(t, (version) => ({
    disk: { file: version.addFile(randomBytes(pageBytes), bytes) },
  }));
  const handle = await openPath(fileSystem, 'disk');
  version.inMemory = () => false;
  await fileSystem.write(handle, bytes - pageBytes, Buffer.alloc(pageBytes, 1));
  await fileSystem.allocate(handle, 'punchHole', 2 * pageBytes, bytes / 2);
  t.equal(version.reads.length, 0);
  const into = Buffer.alloc(pageBytes, 3);
  t.equal(fileSystem.read(handle, bytes / 4, into, 'ahead'), pageBytes);
  t.ok(into.every((byte) => byte === 0));
  await fileSystem.close();
  const reopened = await openOverlay(options);
  t.teardown(() => reopened.close());
  const again = await openPath(reopened, 'disk');
  t.equal(reopened.read(again, bytes / 4, into.fill(3), 'ahead'), pageBytes);
  t.ok(into.every((byte) => byte === 0));
  t.equal(reopened.read(again, bytes - 10, into, 'ahead'), 10);
  t.equal(into[0], 1);
});

t.test('open descriptors are bounded, and space comes back', async (t) => {
  const { fileSystem, options } = await openTree(t, () => ({}));
  const before = readdirSync('/proc/self/fd').length;
  const handles = Array.from({ length: 300 }, async (_, index) => {
    const { handle } = await fileSystem.create(rootInode, String(index), 0o600, readWrite, {
      uid: 0,
      gid: 0,
    });
    await fileSystem.write(handle, 0, Buffer.from(`content ${index}`));
    return handle;
  });
  for (const [index, handle] of (await Promise.all(handles)).entries()) {
    t.equal((await readAll(fileSystem, handle)).toString(), `content ${index}`);
    fileSystem.release(handle);
  }
  t.ok(readdirSync('/proc/self/fd').length < before + 150);
  t.equal(readdirSync(join(options.directory, 'data')).length, 300);
  for (let index = 0; index < 300; index++) await fileSystem.unlink(rootInode, String(index));
  await fileSystem.flush();
  t.equal(readdirSync(join(options.directory, 'data')).length, 0);
});

t.test('a full disk refuses a write and keeps what was there', async (t) => {
  const content = randomBytes(4 * pageBytes);
  const { fileSystem, options } = await openTree(t, (version) => ({
    disk: { file: version.addFile(content) },
  }));
  const handle = await openPath(fileSystem, 'disk');
  symlinkSync('/dev/full', join(options.directory, 'data', String(fileSystem.inodeOf(handle))));
  t.equal(await errnoOf(() => fileSystem.write(handle, 10, Buffer.alloc(2 * pageBytes))), 'ENOSPC');
  t.same(fileSystem.dirty(), { bytes: 0, changedFiles: 0 });
  t.ok((await readAll(fileSystem, handle)).equals(content));
  // The device cannot be synced: without the file there is nothing to sync.
  await fileSystem.unlink(rootInode, 'disk');
  fileSystem.release(handle);
});
