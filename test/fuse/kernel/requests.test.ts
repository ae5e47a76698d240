import { constants } from 'node:os';
import { once } from 'node:events';
import { spawn } from 'node:child_process';
import t from 'tap';
import { limits } from '../../../src/base/index.js';
import { FileSystemError, notLocal, rootInode } from '../../../src/fs/index.js';
import {
  fuse_attr_out,
  fuse_batch_forget_in,
  fuse_copy_file_range_in,
  fuse_create_in,
  fuse_dirent,
  fuse_entry_out,
  fuse_forget_in,
  fuse_forget_one,
  fuse_init_out,
  fuse_interrupt_in,
  fuse_open_in,
  fuse_open_out,
  fuse_read_in,
  fuse_release_in,
  fuse_setattr_in,
  fuse_write_in,
  initFlag,
} from '../../../src/fuse/kernel/protocol.js';
import { ModelFileSystem } from '../../support/model-file-system.js';
import { FakeKernel, structure, texts } from './wire.js';

const { ENOSYS, ENOTTY, EINVAL, EINTR, EAGAIN, ENOTCONN, EILSEQ } = constants.errno;
const pageBytes = 4096;
const caller = { uid: 0, gid: 0 };

function start() {
  const model = new ModelFileSystem();
  const kernel = new FakeKernel(model);
  kernel.initialize();
  return { model, kernel };
}

function addFile(model: ModelFileSystem, name: string, content: Uint8Array) {
  const { attributes, handle } = model.create(rootInode, name, 0o644, 2, caller);
  void model.write(handle, 0, content);
  return { inode: attributes.inode, handle };
}

function readOf(handle: number, offset: number, size: number): Buffer {
  return structure(fuse_read_in, { fh: BigInt(handle), offset: BigInt(offset), size });
}

t.test('both sides agree on what they can do', async (t) => {
  const kernel = new FakeKernel(new ModelFileSystem());
  const { errno, payload } = kernel.initialize(45, initFlag.MAX_PAGES | initFlag.BIG_WRITES | (1 << 16));
  t.equal(errno, 0);
  t.equal(payload.readUInt32LE(fuse_init_out.at.major), 7);
  t.equal(payload.readUInt32LE(fuse_init_out.at.flags), initFlag.MAX_PAGES | initFlag.BIG_WRITES);
  t.equal(payload.readUInt32LE(fuse_init_out.at.max_write), 2 ** 20);
  t.equal(payload.readUInt16LE(fuse_init_out.at.max_pages), 256);
  t.match(await kernel.requests.agreed, { minor: 45 });

  const old = new FakeKernel(new ModelFileSystem());
  t.not(old.initialize(30).errno, 0, 'a kernel that is too old is refused');
  t.equal(await old.requests.agreed, undefined);
});

t.test('what a process opens for a replay is read for that, and for nothing else', (t) => {
  const { model, kernel } = start();
  const { inode } = addFile(model, 'file', Buffer.alloc(16 * pageBytes, 1));
  const intents: string[] = [];
  model.hooks.beforeRead = ({ intent }) => void intents.push(intent);
  const openAs = (pid: number): number => {
    const { payload } = kernel.ask('OPEN', structure(fuse_open_in, {}), { nodeid: inode, pid });
    return Number(payload.readBigUInt64LE(fuse_open_out.at.fh));
  };
  const readBoth = (handle: number): void => {
    kernel.ask('READ', readOf(handle, 0, pageBytes), { nodeid: inode });
    kernel.ask('READ', readOf(handle, 0, 16 * pageBytes), { nodeid: inode, pid: 99 });
  };
  kernel.requests.replayFor(77);
  const replayed = openAs(77);
  readBoth(replayed);
  readBoth(openAs(78));
  kernel.ask('RELEASE', structure(fuse_release_in, { fh: BigInt(replayed) }), { nodeid: inode, pid: 77 });
  kernel.requests.replayFor(undefined);
  readBoth(openAs(77));
  t.strictSame(intents, ['replay', 'replay', 'demand', 'ahead', 'demand', 'ahead']);
  t.end();
});

t.test('look-ups are counted until they are forgotten', async (t) => {
  const { model, kernel } = start();
  const { inode } = addFile(model, 'file', Buffer.from('data'));
  for (let times = 0; times < 3; times++) {
    const { payload } = kernel.ask('LOOKUP', texts('file'));
    t.equal(payload.length, fuse_entry_out.bytes);
    t.equal(payload.readBigUInt64LE(fuse_entry_out.at.nodeid), BigInt(inode));
  }
  t.equal(kernel.requests.status().inodesReferenced, 1);
  const { answers } = kernel;
  const before = answers.length;
  t.equal(
    kernel.send('FORGET', structure(fuse_forget_in, { nlookup: 2n }), { nodeid: inode }).outcome,
    'silent',
  );
  t.equal(kernel.requests.status().inodesReferenced, 1);
  const one = structure(fuse_forget_one, { nodeid: BigInt(inode), nlookup: 1n });
  kernel.send('BATCH_FORGET', Buffer.concat([structure(fuse_batch_forget_in, { count: 1 }), one]));
  t.equal(kernel.requests.status().inodesReferenced, 0);
  t.equal(answers.length, before, 'forgetting has no answer');

  const missing = kernel.ask('LOOKUP', texts('missing'));
  t.equal(missing.errno, 0, 'a name that is not there is remembered');
  t.equal(missing.payload.readBigUInt64LE(fuse_entry_out.at.nodeid), 0n);
  t.equal(kernel.ask('LOOKUP', Buffer.from([0xff, 0xfe, 0])).errno, EILSEQ);
  t.equal(kernel.ask('LOOKUP', texts('replacement \ufffd')).errno, 0, 'U+FFFD itself is a character');
});

t.test('times before 1970 and after 2106 are exact', async (t) => {
  const { kernel } = start();
  const body = structure(fuse_setattr_in, {
    valid: 0x30,
    atime: -2n,
    atimensec: 999_999_999,
    mtime: 5_000_000_000n,
    mtimensec: 1,
  });
  const { payload } = kernel.ask('SETATTR', body);
  const { attr } = fuse_attr_out.at;
  t.equal(payload.readBigInt64LE(attr + 24), -2n);
  t.equal(payload.readUInt32LE(attr + 48), 999_999_999);
  t.equal(payload.readBigInt64LE(attr + 32), 5_000_000_000n);
  t.equal(payload.readUInt32LE(attr + 52), 1);
});

t.test('set-user-ID goes with a change of owner, or a write by somebody without privileges', async (t) => {
  const { model, kernel } = start();
  const { inode, handle } = addFile(model, 'program', Buffer.from('x'));
  const permissionsNow = () => model.getAttributes(inode).mode & 0o7777;
  model.setAttributes(inode, { permissions: 0o6755 });
  kernel.ask('SETATTR', structure(fuse_setattr_in, { valid: 2, uid: 5 }), { nodeid: inode });
  t.equal(permissionsNow(), 0o755);

  model.setAttributes(inode, { permissions: 0o6745 });
  const write = (write_flags: number) =>
    kernel.ask(
      'WRITE',
      Buffer.concat([
        structure(fuse_write_in, { fh: BigInt(handle), size: 1, write_flags }),
        Buffer.from('y'),
      ]),
      { nodeid: inode },
    );
  write(0);
  t.equal(permissionsNow(), 0o6745, 'privileged writers leave it');
  write(4);
  t.equal(permissionsNow(), 0o2745, 'without group execution, set-group-ID has another meaning');
  const { payload } = kernel.ask('GETATTR', Buffer.alloc(16), { nodeid: inode });
  t.equal(
    payload.readBigUInt64LE(fuse_attr_out.at.attr_valid),
    0n,
    'the kernel asks for such attributes each time',
  );

  model.setAttributes(inode, { permissions: 0o4755 });
  const opened = kernel.ask('OPEN', structure(fuse_open_in, { flags: 0o1001, open_flags: 1 }), {
    nodeid: inode,
  });
  t.equal(opened.errno, 0);
  t.equal(permissionsNow(), 0o755);
});

t.test('a listing gives each name once, however small the pieces', async (t) => {
  const { model, kernel } = start();
  const names = Array.from({ length: 40 }, (_, index) => `name-${'x'.repeat(index % 9)}${index}`);
  for (const name of names) model.release(addFile(model, name, Buffer.alloc(0)).handle);
  for (const operation of ['READDIR', 'READDIRPLUS'] as const) {
    const handle = Number(
      kernel.ask('OPENDIR', Buffer.alloc(8)).payload.readBigUInt64LE(fuse_open_out.at.fh),
    );
    const prefix = operation === 'READDIR' ? 0 : fuse_entry_out.bytes;
    const found: string[] = [];
    let position = 0n;
    for (;;) {
      const body = structure(fuse_read_in, { fh: BigInt(handle), offset: position, size: 500 });
      const { payload } = kernel.ask(operation, body);
      if (payload.length === 0) break;
      t.ok(payload.length <= 500);
      for (let at = 0; at < payload.length;) {
        const nameBytes = payload.readUInt32LE(at + prefix + fuse_dirent.at.namelen);
        const nameAt = at + prefix + fuse_dirent.bytes;
        found.push(payload.toString('utf8', nameAt, nameAt + nameBytes));
        position = payload.readBigUInt64LE(at + prefix + fuse_dirent.at.off);
        at += Math.ceil((prefix + fuse_dirent.bytes + nameBytes) / 8) * 8;
      }
      // Names that go while the listing is read do not move the others.
      if (found.length > 20 && model.readDirectory(rootInode).length === 40)
        model.unlink(rootInode, names[39]!);
    }
    t.same(found.slice(0, 2), ['.', '..']);
    t.same(found.slice(2).sort(), (operation === 'READDIR' ? names : names.slice(0, 39)).toSorted());
  }
  t.equal(kernel.requests.status().inodesReferenced, 39, 'a listing with attributes is a look-up');
});

t.test('what cannot be understood has a defined errno', async (t) => {
  const { kernel } = start();
  t.equal(kernel.ask(4095).errno, ENOSYS);
  t.equal(kernel.ask('COPY_FILE_RANGE', Buffer.alloc(48)).errno, EINVAL);
  t.equal(kernel.ask('IOCTL').errno, ENOTTY);
  t.equal(kernel.ask('READ', Buffer.alloc(8)).errno, EINVAL);
  t.equal(kernel.ask('READ', readOf(1, 0, 2 ** 21)).errno, EINVAL);
  t.equal(kernel.ask('MKDIR', Buffer.alloc(8)).errno, EINVAL, 'a name is missing');
  t.equal(kernel.ask('LOOKUP', Buffer.from('no end')).errno, EINVAL);
  t.equal(kernel.ask('WRITE', structure(fuse_write_in, { fh: 1n, size: 100 })).errno, EINVAL);
  t.equal(kernel.sendBytes(Buffer.alloc(39)), 'silent');
  t.equal(kernel.requests.status().errors, 1);
});

t.test('a request that waits holds up nobody, and can be interrupted', async (t) => {
  const { model, kernel } = start();
  const { handle } = addFile(model, 'file', Buffer.alloc(pageBytes, 7));
  model.hooks.beforeRead = ({ signal }) =>
    new Promise((_resolve, reject) => {
      signal?.addEventListener('abort', () => reject(new Error('stopped')));
    });
  const victim = spawn('sleep', ['1000'], { stdio: 'ignore' });
  const gone = once(victim, 'exit');
  t.teardown(() => victim.kill('SIGKILL'));
  const { unique, outcome } = kernel.send('READ', readOf(handle, 0, pageBytes), { pid: victim.pid! });
  t.equal(outcome, 'waits');
  t.equal(kernel.ask('GETATTR', Buffer.alloc(16)).errno, 0);
  t.equal(kernel.requests.status().requestsWaiting, 1);

  const interrupt = () => kernel.send('INTERRUPT', structure(fuse_interrupt_in, { unique })).unique;
  t.equal((await kernel.answerTo(interrupt())).errno, EAGAIN, 'other signals than SIGKILL must wait');
  t.equal(kernel.requests.status().requestsWaiting, 1);
  victim.kill('SIGKILL');
  await gone;
  interrupt();
  t.equal((await kernel.answerTo(unique)).errno, EINTR);
  t.equal(kernel.send('INTERRUPT', structure(fuse_interrupt_in, { unique })).outcome, 'silent', 'too late');
});

t.test('as many wait for the store as may; local data is still served, read-ahead refused', async (t) => {
  const { model, kernel } = start();
  const { handle } = addFile(model, 'file', Buffer.alloc(64 * pageBytes, 7));
  const finish: (() => void)[] = [];
  let remote = true;
  model.hooks.beforeRead = ({ intent, offsetBytes }) => {
    if (!remote || offsetBytes === 0) return undefined;
    if (intent === 'ahead') return notLocal;
    return new Promise((resolve) => finish.push(() => resolve(undefined)));
  };
  const extra = 10;
  const sent = Array.from({ length: limits.kernelRequestsWaiting + extra }, () =>
    kernel.send('READ', readOf(handle, pageBytes, pageBytes)),
  );
  t.ok(sent.every(({ outcome }) => outcome === 'waits'));
  t.equal(finish.length, limits.kernelRequestsWaiting);
  t.equal(kernel.ask('READ', readOf(handle, 0, pageBytes)).errno, 0, 'local');
  t.equal(kernel.ask('READ', readOf(handle, pageBytes, 8 * pageBytes)).errno, EAGAIN);
  finish.shift()?.();
  await kernel.answerTo(sent[0]!.unique);
  t.equal(finish.length, limits.kernelRequestsWaiting, 'the next in line has begun');
  remote = false;
  for (const resolve of finish) resolve();
  for (const { unique } of sent) t.equal((await kernel.answerTo(unique)).errno, 0);
  t.equal(kernel.requests.heldBytes, 0);
});

t.test('writes that wait keep their data', async (t) => {
  const { model, kernel } = start();
  const { handle } = addFile(model, 'file', Buffer.alloc(0));
  let go: () => void = () => undefined;
  const gate = new Promise<void>((resolve) => (go = resolve));
  model.hooks.beforeWrite = () => gate;
  const sent = [1, 2, 3].map((value) => {
    const size = value * 1000;
    const body = structure(fuse_write_in, { fh: BigInt(handle), offset: BigInt(value * 10_000), size });
    return kernel.send('WRITE', Buffer.concat([body, Buffer.alloc(size, value)]));
  });
  t.ok(kernel.requests.heldBytes > 3 * 2 ** 20);
  go();
  for (const { unique } of sent) t.equal((await kernel.answerTo(unique)).errno, 0);
  for (const value of [1, 2, 3]) {
    const { payload } = kernel.ask('READ', readOf(handle, value * 10_000, value * 1000));
    t.same(payload, Buffer.alloc(value * 1000, value));
  }
  t.equal(kernel.requests.heldBytes, 0);
});

t.test('pages that are written back wait for room on the disk; programs that write are told', async (t) => {
  const { model, kernel } = start();
  const { handle } = addFile(model, 'file', Buffer.alloc(pageBytes));
  let isFull = true;
  model.hooks.beforeWrite = () => {
    if (isFull) throw new FileSystemError('ENOSPC', 'a test says so');
  };
  const write = (write_flags: number, value: number) =>
    kernel.send(
      'WRITE',
      Buffer.concat([
        structure(fuse_write_in, { fh: BigInt(handle), size: pageBytes, write_flags }),
        Buffer.alloc(pageBytes, value),
      ]),
    );
  t.equal((await kernel.answerTo(write(0, 1).unique)).errno, constants.errno.ENOSPC);
  const { unique, outcome } = write(1, 2);
  t.equal(outcome, 'waits');
  t.type(kernel.requests.status().waitingForSpaceSince, 'string');
  isFull = false;
  t.equal((await kernel.answerTo(unique)).errno, 0);
  t.equal(kernel.requests.status().waitingForSpaceSince, undefined);
  t.same(kernel.ask('READ', readOf(handle, 0, pageBytes)).payload, Buffer.alloc(pageBytes, 2));

  isFull = true;
  const last = write(1, 3);
  await kernel.requests.stop();
  t.equal((await kernel.answerTo(last.unique)).errno, constants.errno.ENOSPC, 'the end of the mount ends it');
});

t.test('stopping ends what waits, releases what is open, and calls the file system no more', async (t) => {
  const { model, kernel } = start();
  const body = Buffer.concat([structure(fuse_create_in, { flags: 2, mode: 0o100644 }), texts('file')]);
  const created = kernel.ask('CREATE', body);
  const handle = Number(created.payload.readBigUInt64LE(fuse_entry_out.bytes + fuse_open_out.at.fh));
  model.hooks.beforeRead = ({ signal }) =>
    new Promise((_resolve, reject) => {
      signal?.addEventListener('abort', () => reject(new FileSystemError('EINTR', 'stopped')));
    });
  const { unique } = kernel.send('READ', readOf(handle, 0, pageBytes));
  await kernel.requests.stop();
  t.equal((await kernel.answerTo(unique)).errno, EINTR);
  t.equal(model.openHandles, 0);
  t.equal(kernel.ask('LOOKUP', texts('file')).errno, ENOTCONN);
});

t.test('copies of any length, for kernels that can be told of more than 4 GiB and for others', async (t) => {
  const { model, kernel } = start();
  const source = addFile(model, 'source', Buffer.from('content'));
  model.setAttributes(source.inode, { sizeBytes: 2 ** 33 });
  const target = addFile(model, 'target', Buffer.alloc(0));
  const copy = (operation: 'COPY_FILE_RANGE' | 'COPY_FILE_RANGE_64', members = {}) =>
    kernel.ask(
      operation,
      structure(fuse_copy_file_range_in, {
        fh_in: BigInt(source.handle),
        fh_out: BigInt(target.handle),
        nodeid_out: BigInt(target.inode),
        len: 2n ** 40n,
        ...members,
      }),
      { nodeid: source.inode },
    );
  t.equal(copy('COPY_FILE_RANGE').payload.readUInt32LE(), 2 ** 32 - 4096);
  t.equal(model.getAttributes(target.inode).sizeBytes, 2 ** 32 - 4096);
  t.equal(copy('COPY_FILE_RANGE_64', { off_in: 3n }).payload.readBigUInt64LE(), 2n ** 33n - 3n);
  const into = Buffer.alloc(4);
  void model.read(target.handle, 0, into, 'demand');
  t.equal(into.toString(), 'tent');
  t.equal(copy('COPY_FILE_RANGE', { flags: 1n }).errno, EINVAL);
  t.equal(copy('COPY_FILE_RANGE', { fh_out: 99n }).errno, constants.errno.EBADF);
});
