import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { FileSystemError, notLocal, rootInode, type HandleId, type InodeNumber } from '../src/fs/index.js';
import { mountFuseNative } from '../src/fuse/fuse-native/index.js';
import {
  checkMountPoint,
  clearStaleMount,
  findMount,
  isStaleMount,
  readMountTable,
} from '../src/fuse/index.js';
import { ModelFileSystem, type ModelRead } from '../test/support/model-file-system.js';
import { mountForTest, runProgram, runPython } from './support/mount-contract.js';

const pageBytes = 4096;
const chunkBytes = 128 * 1024;
const caller = { uid: 0, gid: 0 };
const readWrite = 2;

/** A file whose every 8 bytes are their own position. */
function addNumberedFile(model: ModelFileSystem, name: string, chunks: number): InodeNumber {
  const { attributes, handle } = model.create(rootInode, name, 0o644, readWrite, caller);
  const chunk = Buffer.alloc(chunkBytes);
  for (let index = 0; index < chunks; index++) {
    for (let offset = 0; offset < chunkBytes; offset += 8) {
      chunk.writeBigUInt64LE(BigInt(index * chunkBytes + offset), offset);
    }
    void model.write(handle, index * chunkBytes, chunk);
  }
  model.release(handle);
  return attributes.inode;
}

/** Chunks become local when demand has waited for them, as in the real file system. */
function makeRemote(model: ModelFileSystem): { readonly reads: ModelRead[]; readonly fetched: Set<number> } {
  const reads: ModelRead[] = [];
  const fetched = new Set<number>();
  model.hooks.beforeRead = (read) => {
    reads.push(read);
    const first = Math.floor(read.offsetBytes / chunkBytes);
    const last = Math.floor((read.offsetBytes + read.lengthBytes - 1) / chunkBytes);
    const missing = [first, last].filter((chunk) => !fetched.has(chunk));
    if (missing.length === 0) return undefined;
    if (read.intent === 'ahead') return notLocal;
    return new Promise((resolve) =>
      setImmediate(() => {
        for (const chunk of missing) fetched.add(chunk);
        resolve(undefined);
      }),
    );
  };
  return { reads, fetched };
}

async function mountModel(t: Test) {
  const model = new ModelFileSystem();
  return { model, ...(await mountForTest(t, mountFuseNative, model)) };
}

/** A program that uses the mount until its standard input ends. Says "ready" when it does. */
async function startUser(t: Test, source: string, ...args: readonly string[]) {
  const child = spawn('python3', [
    '-c',
    `${source}\nprint("ready", flush=True)\nimport sys\nsys.stdin.read()`,
    ...args,
  ]);
  const exited = once(child, 'exit');
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  return {
    pid: child.pid,
    end: async () => {
      child.stdin.end();
      await exited;
    },
  };
}

await t.test('read-ahead over data that is not local is refused, and programs see right data', async (t) => {
  const { model, engine, mountPath } = await mountModel(t);
  const checker = `
import mmap, os, struct, sys
file = os.open(sys.argv[1], os.O_RDWR)
def check(data, offset):
    skip = -offset % 8
    for position in range(skip, len(data) - 8, 8):
        assert struct.unpack_from("<Q", data, position)[0] == offset + position, (offset, position)
`;

  await t.test('page faults ask for single pages', async (t) => {
    addNumberedFile(model, 'mapped', 64);
    const { reads, fetched } = makeRemote(model);
    const pages = [5, 700, 701, 1500, 2047, 64, 33];
    const result = await runPython(
      `${checker}
view = mmap.mmap(file, 0)
for page in ${JSON.stringify(pages)}: check(view[page * 4096:(page + 1) * 4096], page * 4096)`,
      join(mountPath, 'mapped'),
    );
    t.equal(result.exitCode, 0, result.stderr);
    const demand = reads.filter(({ intent }) => intent === 'demand');
    t.ok(
      demand.every(({ lengthBytes }) => lengthBytes === pageBytes),
      'demand is one page',
    );
    t.same(
      [...fetched].sort((a, b) => a - b),
      [...new Set(pages.map((page) => Math.floor(page / 32)))].sort((a, b) => a - b),
      'only touched chunks are fetched',
    );
    t.ok(engine.status().refusedAhead > 0);
  });

  await t.test('read(2) of any size', async (t) => {
    addNumberedFile(model, 'read', 64);
    makeRemote(model);
    const result = await runPython(
      `${checker}
for offset, length in ((300 * 4096, 65536), (900 * 4096 + 100, 100000), (0, 1 << 20), (63 * 131072, 1 << 20)):
    data = os.pread(file, length, offset)
    assert len(data) == min(length, 64 * 131072 - offset)
    check(data, offset)`,
      join(mountPath, 'read'),
    );
    t.equal(result.exitCode, 0, result.stderr);
  });

  await t.test('a whole file', async (t) => {
    addNumberedFile(model, 'whole', 64);
    const { fetched } = makeRemote(model);
    const result = await runPython(
      `${checker}
data = b""
while piece := os.read(file, 1 << 17): data += piece
assert len(data) == 64 * 131072
check(data, 0)`,
      join(mountPath, 'whole'),
    );
    t.equal(result.exitCode, 0, result.stderr);
    t.equal(fetched.size, 64);
  });

  await t.test('O_DIRECT is always demand', async (t) => {
    addNumberedFile(model, 'direct', 8);
    const { reads } = makeRemote(model);
    const result = await runPython(
      `${checker}
file = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
memory = mmap.mmap(-1, 8 * 131072)
assert os.preadv(file, [memory], 0) == len(memory)
check(memory, 0)`,
      join(mountPath, 'direct'),
    );
    t.equal(result.exitCode, 0, result.stderr);
    t.ok(reads.every(({ intent }) => intent === 'demand'));
  });
});

await t.test('failures become errnos, and the mount goes on', async (t) => {
  const { model, engine, mountPath } = await mountModel(t);
  addNumberedFile(model, 'file', 1);
  const readErrno = async () => {
    const result = await runPython(
      `import os, sys
try:
    os.pread(os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT), 4096, 0)
    print(0)
except OSError as error: print(error.errno)`,
      join(mountPath, 'file'),
    );
    return Number(result.stdout);
  };

  const failures: readonly [string, () => never, number][] = [
    ['a FileSystemError has its errno', () => fail(new FileSystemError('EDQUOT', 'too much')), 122],
    ['an Error is EIO', () => fail(new Error('a programming error')), 5],
    ['even what is no Error is EIO', () => fail('text'), 5],
  ];
  for (const [name, throwIt, errno] of failures) {
    model.hooks = { beforeRead: throwIt };
    t.equal(await readErrno(), errno, `${name}, thrown`);
    model.hooks = { beforeRead: async () => throwIt() };
    t.equal(await readErrno(), errno, `${name}, rejected`);
  }
  t.equal(engine.status().errors, 6);
  model.hooks = {};
  t.equal(await readErrno(), 0);

  model.hooks = { beforeWrite: () => fail(new FileSystemError('ENOSPC', 'full')) };
  const full = await runProgram('dd', ['if=/dev/zero', `of=${mountPath}/new`, 'bs=1', 'count=1']);
  t.match(full.stderr, /No space left on device/);
});

function fail(error: unknown): never {
  throw error;
}

await t.test('a read that waits holds up nobody else', async (t) => {
  const { model, mountPath, engine } = await mountModel(t);
  addNumberedFile(model, 'slow', 1);
  addNumberedFile(model, 'fast', 1);
  const slow = model.lookup(rootInode, 'slow').inode;
  let arrive: () => void = () => undefined;
  const arrived = new Promise<void>((resolve) => (arrive = resolve));
  let finish: () => void = () => undefined;
  model.hooks.beforeRead = ({ inode }) => {
    if (inode !== slow) return undefined;
    arrive();
    return new Promise((resolve) => (finish = () => resolve(undefined)));
  };
  const waiting = runProgram('head', ['-c', '10', join(mountPath, 'slow')]);
  await arrived;
  t.equal((await runProgram('head', ['-c', '10', join(mountPath, 'fast')])).exitCode, 0);
  t.equal((await runProgram('ls', ['-l', mountPath])).exitCode, 0);
  t.ok(engine.status().requestsWaiting >= 1);
  finish();
  t.equal((await waiting).exitCode, 0);
});

await t.test('the mount table shows what is mounted', async (t) => {
  const { mountPath } = await mountModel(t);
  t.match(await findMount(mountPath), { type: 'fuse.isr', source: 'isr:test' });
  t.equal(await isStaleMount(mountPath), false);
  t.equal(await clearStaleMount(mountPath), false, 'a live mount is left alone');
  await t.rejects(checkMountPoint(mountPath, []), { code: 'MOUNT_BUSY' });
});

await t.test('unmounting', async (t) => {
  await t.test('is refused while a program uses the mount, and says which', async (t) => {
    const { engine, mountPath } = await mountModel(t);
    const user = await startUser(t, `import os, sys; os.chdir(sys.argv[1])`, mountPath);
    await t.rejects(engine.unmount(), {
      code: 'MOUNT_BUSY',
      message: `${mountPath} is in use: by python3 (process ${user.pid}).`,
    });
    t.equal((await runProgram('touch', [join(mountPath, 'file')])).exitCode, 0, 'the mount still works');
    await user.end();
    await engine.unmount();
    await engine.unmount();
    t.equal(await findMount(mountPath), undefined);
  });

  await t.test('lazily: what was written arrives, then nothing is asked any more', async (t) => {
    const { model, engine, mountPath } = await mountModel(t);
    addNumberedFile(model, 'file', 1);
    const user = await startUser(
      t,
      `import mmap, os, sys
view = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 0)
view[0:5] = b"dirty"`,
      join(mountPath, 'file'),
    );
    await engine.unmount({ lazy: true });
    t.equal(await findMount(mountPath), undefined);
    t.equal(model.openHandles, 0, 'handles are released');
    const { requests } = engine.status();
    t.equal(contentOf(model, 'file').subarray(0, 5).toString(), 'dirty');
    await user.end();
    t.ok(engine.status().requests >= requests, 'late requests are answered');
  });

  await t.test('lazily ends reads that wait', async (t) => {
    const { model, engine, mountPath } = await mountModel(t);
    addNumberedFile(model, 'file', 1);
    let arrive: () => void = () => undefined;
    const arrived = new Promise<void>((resolve) => (arrive = resolve));
    model.hooks.beforeRead = ({ signal }) =>
      new Promise((_resolve, reject) => {
        arrive();
        signal?.addEventListener('abort', () => reject(new FileSystemError('EINTR', 'stopped')));
      });
    const reader = runProgram('cat', [join(mountPath, 'file')]);
    await arrived;
    await engine.unmount({ lazy: true });
    t.equal(engine.status().requestsWaiting, 0);
    t.equal((await reader).exitCode, 1);
  });

  await t.test('by somebody else is noticed', async (t) => {
    const { engine, mountPath } = await mountModel(t);
    t.equal((await runProgram('umount', [mountPath])).exitCode, 0);
    t.match(await engine.unmounted, /unmounted by somebody else/);
    await engine.unmount();
  });

  await t.test('a mount on top of ours is not taken for ours', async (t) => {
    const { engine, mountPath } = await mountModel(t);
    const user = await startUser(t, `import os, sys; os.open(sys.argv[1], os.O_RDONLY)`, mountPath);
    t.equal((await runProgram('umount', ['-l', mountPath])).exitCode, 0);
    const other = await mountFuseNative(new ModelFileSystem(), {
      mountPath,
      sourceName: 'isr:other',
      allowOther: false,
    });
    t.teardown(() => other[Symbol.asyncDispose]());
    await engine.unmounted;
    await engine.unmount();
    t.match(await findMount(mountPath), { source: 'isr:other' });
    await user.end();
  });

  await t.test('disposing detaches even when busy', async (t) => {
    const { engine, mountPath } = await mountModel(t);
    await startUser(t, `import os, sys; os.chdir(sys.argv[1])`, mountPath);
    await engine[Symbol.asyncDispose]();
    t.equal(await findMount(mountPath), undefined);
  });
});

await t.test('a mount whose daemon was killed is recognised and cleared', async (t) => {
  const mountPath = await mkdtemp(join(tmpdir(), 'isr-mount-'));
  t.teardown(() => rmdir(mountPath));
  const daemonPath = fileURLToPath(new URL('./support/serve-model.js', import.meta.url));
  const daemon = spawn(process.execPath, [daemonPath, mountPath], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => daemon.kill('SIGKILL'));
  t.teardown(() => clearStaleMount(mountPath));
  await once(daemon.stdout, 'data');
  t.equal(await isStaleMount(mountPath), false);

  const exited = once(daemon, 'exit');
  daemon.kill('SIGKILL');
  await exited;
  t.match((await runProgram('ls', [mountPath])).stderr, /not connected/);
  t.equal(await isStaleMount(mountPath), true);
  await t.rejects(checkMountPoint(mountPath, []), { code: 'MOUNT_BUSY' });
  t.equal(await clearStaleMount(mountPath), true);
  t.equal(await clearStaleMount(mountPath), false);
  t.equal(await checkMountPoint(mountPath, []), mountPath);
});

await t.test('a daemon that has unmounted ends by itself', async (t) => {
  const mountPath = await mkdtemp(join(tmpdir(), 'isr-mount-'));
  t.teardown(() => rmdir(mountPath));
  const source = `
    const { mountFuseNative } = await import(${JSON.stringify(new URL('../src/fuse/fuse-native/index.js', import.meta.url))});
    const { ModelFileSystem } = await import(${JSON.stringify(new URL('../test/support/model-file-system.js', import.meta.url))});
    const engine = await mountFuseNative(new ModelFileSystem(), {
      mountPath: ${JSON.stringify(mountPath)}, sourceName: 'isr:brief', allowOther: false });
    await engine.unmount();`;
  const result = await runProgram(process.execPath, ['--input-type=module', '-e', source]);
  t.equal(result.exitCode, 0, result.stderr);
});

await t.test('mounting that cannot work is refused', async (t) => {
  const mountPath = t.testdir({});
  const options = { mountPath, sourceName: 'isr:test', allowOther: false };
  const model = new ModelFileSystem();
  for (const sourceName of ['a,allow_other', '', 'a b', 'x'.repeat(256), 'a\\,b', 'a\n']) {
    await t.rejects(mountFuseNative(model, { ...options, sourceName }), { code: 'INVALID_INPUT' });
  }
  await t.rejects(mountFuseNative(model, { ...options, mountPath: join(mountPath, 'missing') }), {
    code: 'MOUNT_FAILED',
  });
  // Other tests mount elsewhere meanwhile.
  const left = (await readMountTable()).filter((mount) => mount.mountPath.startsWith(mountPath));
  t.same(left, []);
});

await t.test('names that look like those of libfuse for unlinked files are ordinary names', async (t) => {
  const { model, mountPath } = await mountModel(t);
  const name = '.fuse_hidden0123456789abcdef';
  const result = await runProgram('sh', [
    '-c',
    `cd ${mountPath} && echo kept > file && mv file ${name} && cat ${name}`,
  ]);
  t.equal(result.stdout, 'kept\n');
  t.equal(contentOf(model, name).toString(), 'kept\n');
  t.equal((await runProgram('rm', [join(mountPath, name)])).exitCode, 0);
  t.same(model.readDirectory(rootInode), []);
});

function contentOf(model: ModelFileSystem, name: string): Buffer {
  const { inode, sizeBytes } = model.lookup(rootInode, name);
  const content = Buffer.alloc(sizeBytes);
  const handle: HandleId = model.open(inode, 0);
  model.hooks = {};
  void model.read(handle, 0, content, 'demand');
  model.release(handle);
  return content;
}
