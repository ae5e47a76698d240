import assert from 'node:assert/strict';
import fc from 'fast-check';
import { constants } from 'node:os';
import t, { type Test } from 'tap';
import { limits } from '../../src/base/index.js';
import { FileSystemError, notLocal, rootInode, type FileSystem } from '../../src/fs/index.js';
import type { Addon, Args, OperationName, Payload, RequestThread } from '../../src/fuse/fuse-native/addon.js';
import { Requests } from '../../src/fuse/fuse-native/requests.js';
import { ModelFileSystem } from '../support/model-file-system.js';

const { ENOENT, EIO, EAGAIN, ENOTCONN, ENOTEMPTY, EINTR } = constants.errno;

/** Every operation with arguments for it, and how many values its answer must carry. */
const operations: { readonly [Name in OperationName]: { args: () => Args<Name>; payloadLength: number } } = {
  init: { args: () => [], payloadLength: 0 },
  statfs: { args: () => ['/'], payloadLength: 1 },
  getattr: { args: () => ['/file'], payloadLength: 1 },
  readdir: { args: () => ['/'], payloadLength: 2 },
  readlink: { args: () => ['/link'], payloadLength: 1 },
  mknod: { args: () => ['/node', 0o100600, 0], payloadLength: 0 },
  mkdir: { args: () => ['/directory', 0o755], payloadLength: 0 },
  unlink: { args: () => ['/file'], payloadLength: 0 },
  rmdir: { args: () => ['/directory'], payloadLength: 0 },
  symlink: { args: () => ['target', '/link'], payloadLength: 0 },
  rename: { args: () => ['/file', '/other'], payloadLength: 0 },
  link: { args: () => ['/file', '/other'], payloadLength: 0 },
  chmod: { args: () => ['/file', 0o600], payloadLength: 0 },
  chown: { args: () => ['/file', 1, 0xffff_ffff], payloadLength: 0 },
  truncate: { args: () => ['/file', 5, 0], payloadLength: 0 },
  ftruncate: { args: () => ['/file', 1, 5, 0], payloadLength: 0 },
  utimens: { args: () => ['/file', 5, 0, 5, 0], payloadLength: 0 },
  open: { args: () => ['/file', 2], payloadLength: 1 },
  create: { args: () => ['/file', 0o644], payloadLength: 1 },
  release: { args: () => ['/file', 1], payloadLength: 0 },
  fsync: { args: () => ['/file', 0, 1], payloadLength: 0 },
  fsyncdir: { args: () => ['/', 0, 0], payloadLength: 0 },
  read: { args: () => ['/file', 1, Buffer.alloc(100), 100, 0, 0], payloadLength: 2 },
  write: { args: () => ['/file', 1, Buffer.alloc(100), 100, 0, 0], payloadLength: 2 },
  setxattr: { args: () => ['/file', 'user.a', Buffer.from('v'), 0, 0], payloadLength: 1 },
  getxattr: { args: () => ['/file', 'user.a', Buffer.alloc(10), 0], payloadLength: 1 },
  listxattr: { args: () => ['/file', Buffer.alloc(100)], payloadLength: 1 },
  removexattr: { args: () => ['/file', 'user.a'], payloadLength: 0 },
};
const operationNames = Object.keys(operations) as OperationName[];

interface Answer {
  readonly result: number;
  readonly payload: readonly unknown[];
}

/** Stands in for the addon: sends requests as libfuse would and collects the answers. */
class FakeLibfuse {
  readonly requests: Requests;
  readonly #answers = new Map<RequestThread, Answer[]>();

  constructor(fileSystem: FileSystem) {
    const addon: Record<string, unknown> = {};
    operationNames.forEach((name, number) => {
      addon[`op_${name}`] = number;
      addon[`fuse_native_signal_${name}`] = (thread: RequestThread, result: number, ...payload: unknown[]) =>
        this.#answers.get(thread)?.push({ result, payload });
    });
    this.requests = new Requests(addon as unknown as Addon, fileSystem);
  }

  /** All answers that the request has got, filled as they come. */
  send<Name extends OperationName>(name: Name, ...args: Args<Name>): Answer[] {
    const number = operationNames.indexOf(name);
    const thread = Buffer.alloc(128) as RequestThread;
    const answers: Answer[] = [];
    this.#answers.set(thread, answers);
    const handler = this.requests.handlers[number] as (
      thread: RequestThread,
      operation: number,
      ...args: readonly unknown[]
    ) => void;
    handler(thread, number, ...args);
    return answers;
  }

  /** The result of a request that is answered at once. */
  result<Name extends OperationName>(name: Name, ...args: Args<Name>): number {
    const answers = this.send(name, ...args);
    if (answers.length !== 1) throw new Error(`${answers.length} answers to ${name}`);
    return answers[0]!.result;
  }

  payload<Name extends OperationName>(name: Name, ...args: Args<Name>): Payload<Name> {
    return this.send(name, ...args)[0]!.payload as Payload<Name>;
  }
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

/** A file system whose every method fails in the given way. */
function failing(fail: () => unknown): FileSystem {
  return new Proxy({} as FileSystem, { get: () => fail });
}

/** A model with `/file` open as file number 1. */
function openFile(): { readonly model: ModelFileSystem; readonly libfuse: FakeLibfuse } {
  const model = new ModelFileSystem();
  const libfuse = new FakeLibfuse(model);
  const [file] = libfuse.payload('create', '/file', 0o644);
  if (file !== 1) throw new Error('the first file has number 1');
  return { model, libfuse };
}

t.test('whatever comes, every request is answered once and in full', async () => {
  const script = fc.array(fc.constantFrom(...operationNames), { maxLength: 60 });
  const stopAt = fc.nat(60);
  await fc.assert(
    fc.asyncProperty(script, stopAt, fc.boolean(), async (names, stopAt, slow) => {
      const model = new ModelFileSystem();
      if (slow) model.hooks.beforeRead = async () => undefined;
      const libfuse = new FakeLibfuse(model);
      const all: [OperationName, Answer[]][] = [];
      for (const [index, name] of names.entries()) {
        if (index === stopAt) await libfuse.requests.stop();
        all.push([name, libfuse.send(name, ...operations[name].args())]);
      }
      await settled();
      for (const [name, answers] of all) {
        const [answer, ...others] = answers;
        assert.ok(answer !== undefined && others.length === 0, `${name} has ${answers.length} answers`);
        assert.equal(answer.payload.length, operations[name].payloadLength, name);
        assert.ok(Number.isInteger(answer.result), name);
      }
      assert.equal(libfuse.requests.status().requestsWaiting, 0);
      await libfuse.requests.stop();
      assert.equal(model.openHandles, 0, 'stopping releases what is open');
    }),
    { numRuns: 60 },
  );
});

t.test('failures of any kind are answers', async (t) => {
  const ways: readonly [string, () => unknown, number][] = [
    ['FileSystemError', () => raise(new FileSystemError('ENOENT', 'x')), ENOENT],
    ['Error', () => raise(new Error('x')), EIO],
    ['text', () => raise('x'), EIO],
  ];
  for (const [way, fail, errno] of ways) {
    const libfuse = new FakeLibfuse(failing(fail));
    for (const name of operationNames) {
      const answers = libfuse.send(name, ...operations[name].args());
      await settled();
      t.equal(answers.length, 1, `${name} ${way}`);
      t.equal(answers[0]?.payload.length, operations[name].payloadLength);
      const takesNoFile = !['init', 'read', 'write', 'fsync', 'ftruncate', 'release'].includes(name);
      if (takesNoFile) t.equal(answers[0]?.result, -errno, `${name} ${way}`);
    }
  }
});

function raise(error: unknown): never {
  throw error;
}

t.test('reads', async (t) => {
  t.test('of more than a page are guesses, unless the file is O_DIRECT', async (t) => {
    const { model, libfuse } = openFile();
    const [direct] = libfuse.payload('open', '/file', 2 | 0o40000);
    const intents: string[] = [];
    model.hooks.beforeRead = ({ intent }) => {
      intents.push(intent);
      return intent === 'ahead' ? notLocal : undefined;
    };
    const read = (file: number, length: number) =>
      libfuse.result('read', '/file', file, Buffer.alloc(length), length, 0, 0);
    t.equal(read(1, 4096), 0);
    t.equal(read(1, 4097), -EAGAIN);
    t.equal(read(direct, 131_072), 0);
    t.same(intents, ['demand', 'ahead', 'demand']);
    t.match(libfuse.requests.status(), { refusedAhead: 1, errors: 0 });
  });

  t.test('reach beyond 4 GiB', async (t) => {
    const { libfuse } = openFile();
    t.equal(libfuse.result('write', '/file', 1, Buffer.from('far'), 3, 7, 5), 3);
    const into = Buffer.alloc(10);
    t.equal(libfuse.result('read', '/file', 1, into, 10, 6, 5), 4);
    t.equal(into.subarray(0, 4).toString(), '\0far');
  });

  t.test('wait their turn when too many wait', async (t) => {
    const { model, libfuse } = openFile();
    const finish: (() => void)[] = [];
    model.hooks.beforeRead = () => new Promise((resolve) => finish.push(() => resolve(undefined)));
    const read = (length: number) => libfuse.send('read', '/file', 1, Buffer.alloc(length), length, 0, 0);
    const first = Array.from({ length: limits.kernelRequestsWaiting }, () => read(10));
    const late = read(10);
    t.equal(finish.length, limits.kernelRequestsWaiting, 'the file system is not asked for more');
    t.equal(read(8192)[0]?.result, -EAGAIN, 'guesses are refused at once');
    finish[0]!();
    await settled();
    t.equal(first[0]?.length, 1);
    t.equal(finish.length, limits.kernelRequestsWaiting + 1);
    for (const end of finish) end();
    await settled();
    t.equal(late.length, 1);
    t.equal(libfuse.requests.status().requestsWaiting, 0);
  });
});

t.test('stopping', async (t) => {
  t.test('aborts reads that wait, then answers without the file system', async (t) => {
    const { model, libfuse } = openFile();
    model.hooks.beforeRead = ({ signal }) =>
      new Promise((_resolve, reject) => {
        signal?.addEventListener('abort', () => reject(new FileSystemError('EINTR', 'stopped')));
      });
    const waiting = libfuse.send('read', '/file', 1, Buffer.alloc(10), 10, 0, 0);
    await libfuse.requests.stop();
    t.equal(waiting[0]?.result, -EINTR);
    t.equal(model.openHandles, 0);
    t.equal(libfuse.result('getattr', '/'), -ENOTCONN);
    t.equal(libfuse.result('release', '/file', 1), -ENOTCONN);
  });

  t.test('survives a file system that cannot release', async (t) => {
    const { model, libfuse } = openFile();
    model.release = () => raise(new Error('bug'));
    await libfuse.requests.stop();
    t.equal(libfuse.requests.status().requestsWaiting, 0);
  });
});

t.test('unlinking an open file', async (t) => {
  const hidden = '/directory/.fuse_hidden0000000200000001';

  function unlinkWhileOpen(t: Test) {
    const model = new ModelFileSystem();
    const libfuse = new FakeLibfuse(model);
    libfuse.result('mkdir', '/directory', 0o755);
    const [file] = libfuse.payload('create', '/directory/file', 0o644);
    t.equal(libfuse.result('getattr', hidden), -ENOENT, 'libfuse looks whether its name is free');
    t.equal(libfuse.result('rename', '/directory/file', hidden), 0);
    return { model, libfuse, file };
  }

  t.test('removes its name at once, and libfuse goes on to find it', async (t) => {
    const { model, libfuse, file } = unlinkWhileOpen(t);
    const directory = model.lookup(rootInode, 'directory').inode;
    t.same(model.readDirectory(directory), []);
    t.same(libfuse.payload('readdir', '/directory')[0], ['.', '..']);
    t.equal(libfuse.payload('getattr', hidden)[0][6], 1, 'libfuse takes the hidden name from its links');
    t.equal(libfuse.result('chmod', hidden, 0o600), 0);
    t.equal(libfuse.result('write', hidden, file, Buffer.from('data'), 4, 0, 0), 4);
    t.equal(libfuse.result('ftruncate', hidden, file, 2, 0), 0);
    t.equal(libfuse.result('rename', '/directory', '/moved'), 0);
    t.equal(libfuse.result('getattr', hidden.replace('directory', 'moved')), 0, 'also when it moves');
    t.equal(libfuse.result('release', hidden, file), 0);
    libfuse.result('unlink', hidden);
    t.equal(libfuse.result('getattr', hidden), -ENOENT);
    t.equal(model.inodeCount, 2, 'the root and the directory');
  });

  t.test('keeps its directory until it is closed', async (t) => {
    const { libfuse, file } = unlinkWhileOpen(t);
    libfuse.result('mkdir', '/other', 0o755);
    t.equal(libfuse.result('rmdir', '/directory'), -ENOTEMPTY);
    t.equal(libfuse.result('rename', '/other', '/directory'), -ENOTEMPTY);
    libfuse.result('release', hidden, file);
    t.equal(libfuse.result('rmdir', '/directory'), 0);
  });

  t.test('of two opens ends with the second', async (t) => {
    const { model, libfuse, file } = unlinkWhileOpen(t);
    const [again] = libfuse.payload('open', hidden, 0);
    libfuse.result('release', hidden, file);
    t.equal(libfuse.result('getattr', hidden), 0);
    libfuse.result('release', hidden, again);
    t.equal(libfuse.result('getattr', hidden), -ENOENT);
    t.equal(model.inodeCount, 2);
  });

  t.test('that is closed meanwhile is an ordinary rename, which libfuse undoes', async (t) => {
    const model = new ModelFileSystem();
    const libfuse = new FakeLibfuse(model);
    libfuse.result('mknod', '/file', 0o100644, 0);
    const name = '/.fuse_hidden0000000200000001';
    t.equal(libfuse.result('rename', '/file', name), 0);
    t.equal(libfuse.result('getattr', name), 0);
    t.equal(libfuse.result('unlink', name), 0);
    t.equal(model.inodeCount, 1);
  });
});

t.test('times', async (t) => {
  const setTimes = (thread: RequestThread, low: number, high: number) => {
    const model = new ModelFileSystem();
    const libfuse = new FakeLibfuse(model);
    libfuse.result('mknod', '/file', 0o100644, 0);
    const handler = libfuse.requests.handlers[operationNames.indexOf('utimens')] as (
      ...args: unknown[]
    ) => void;
    handler(thread, 0, '/file', low, high, low, high);
    const { accessTimeNs, modifyTimeNs } = model.lookup(rootInode, 'file');
    return [accessTimeNs, modifyTimeNs];
  };
  const memory = Buffer.alloc(128) as RequestThread;
  memory.writeBigInt64LE(0x1_0000_0005n, 104);
  memory.writeBigInt64LE(-7n, 112);
  const access = 0x1_0000_0005n * 1_000_000n;
  t.same(setTimes(memory, 5, 1), [access, -7_000_000n], 'the modification time is in the memory');
  t.same(
    setTimes(Buffer.alloc(128) as RequestThread, 5, 1),
    [access, access],
    'not where the memory looks wrong',
  );
  t.same(setTimes(Buffer.alloc(8) as RequestThread, 5, 1), [access, access]);
});

t.test('what is made belongs to the owner of its directory', async (t) => {
  const model = new ModelFileSystem();
  const libfuse = new FakeLibfuse(model);
  libfuse.result('mkdir', '/directory', 0o755);
  libfuse.result('chown', '/directory', 12, 34);
  libfuse.result('create', '/directory/file', 0o644);
  const file = model.lookup(model.lookup(rootInode, 'directory').inode, 'file');
  t.match(file, { uid: 12, gid: 34 });
});

t.test('a name that is not UTF-8 is refused', async (t) => {
  const libfuse = new FakeLibfuse(new ModelFileSystem());
  t.equal(libfuse.result('mkdir', '/\ufffd', 0o755), -constants.errno.EILSEQ);
});

t.test('access control lists are refused, not stored without effect', async (t) => {
  const { libfuse } = openFile();
  const name = 'system.posix_acl_access';
  t.equal(libfuse.result('setxattr', '/file', name, Buffer.from('x'), 0, 0), -constants.errno.EOPNOTSUPP);
  t.equal(libfuse.result('getxattr', '/file', name, Buffer.alloc(10), 0), -constants.errno.EOPNOTSUPP);
});
