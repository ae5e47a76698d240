import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, mkdtemp, readdir, readFile, rm, rmdir, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { FileSystemError, notLocal, rootInode } from '../src/fs/index.js';
import {
  clearStaleMount,
  findMount,
  isStaleMount,
  mountKernel,
  readMountTable,
  type MountEngine,
} from '../src/fuse/index.js';
import { mountKernelThrough } from '../src/fuse/kernel/mount.js';
import { mountThroughFusermount } from '../src/fuse/kernel/mounting.js';
import { ModelFileSystem } from '../test/support/model-file-system.js';
import { mountForTest, runProgram, runPython } from './support/mount-contract.js';

const chunkBytes = 128 * 1024;
const nobody = 65_534;
const server = fileURLToPath(new URL('./support/serve-kernel.js', import.meta.url));

async function mountModel(t: Test, mountEngine: MountEngine = mountKernel) {
  const model = new ModelFileSystem();
  return { model, ...(await mountForTest(t, mountEngine, model)) };
}

function addFile(model: ModelFileSystem, name: string, lengthBytes = chunkBytes) {
  const { attributes, handle } = model.create(rootInode, name, 0o644, 2, { uid: 0, gid: 0 });
  void model.write(handle, 0, Buffer.alloc(lengthBytes, 7));
  model.release(handle);
  return attributes.inode;
}

/** Demand reads of the model wait until `finish`, or until they are aborted. */
function holdReads(model: ModelFileSystem) {
  let arrive: () => void = () => undefined;
  const arrived = new Promise<void>((resolve) => (arrive = resolve));
  let finish: () => void = () => undefined;
  const gate = new Promise<undefined>((resolve) => (finish = () => resolve(undefined)));
  model.hooks.beforeRead = ({ signal, intent }) => {
    // A process that waits for read-ahead waits for a page, and its signals do not reach us.
    if (intent === 'ahead') return notLocal;
    arrive();
    const aborted = new Promise<never>((_resolve, reject) => {
      signal?.addEventListener('abort', () => reject(new FileSystemError('EINTR', 'stopped')));
    });
    return Promise.race([gate, aborted]);
  };
  return { arrived, finish };
}

/** A program that uses the mount until its standard input ends. */
async function startUser(t: Test, source: string, ...args: readonly string[]) {
  const program = `${source}\nprint("ready", flush=True)\nimport sys\nsys.stdin.read()`;
  const child = spawn('python3', ['-c', program, ...args]);
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

function ownDescriptors(): Promise<number> {
  return readdir('/proc/self/fd').then((names) => names.length);
}

t.test('processes that wait can be killed, and other signals do them no harm', async (t) => {
  const { model, engine, mountPath } = await mountModel(t);
  addFile(model, 'file');

  await t.test('SIGKILL ends a page fault at once', async (t) => {
    const { arrived } = holdReads(model);
    const child = spawn('python3', [
      '-c',
      'import mmap, os, sys; print(mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 0)[5])',
      join(mountPath, 'file'),
    ]);
    const exited = once(child, 'exit');
    await arrived;
    child.kill('SIGKILL');
    t.same(await exited, [null, 'SIGKILL']);
    t.equal(engine.status().errors, 0);
  });

  await t.test('a signal with a handler neither ends a page fault nor a read', async (t) => {
    const { arrived, finish } = holdReads(model);
    const child = spawn('python3', [
      '-c',
      `import mmap, os, signal, sys
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
file = os.open(sys.argv[1], os.O_RDWR)
byte = mmap.mmap(file, 0)[5]
signal.setitimer(signal.ITIMER_REAL, 0)
print(byte)`,
      join(mountPath, 'file'),
    ]);
    const output = text(child.stdout);
    const exited = once(child, 'exit');
    await arrived;
    // The interrupt for the signal is asked about again, at the kernel's request; then the data comes.
    const { requests } = engine.status();
    while (engine.status().requests < requests + 2) await new Promise((resolve) => setTimeout(resolve, 10));
    finish();
    t.same(await exited, [0, null]);
    t.equal(await output, '7\n');
  });
});

t.test('read-ahead that was refused is made up for once its chunk is there', async (t) => {
  const { model, engine, mountPath } = await mountModel(t);
  const chunks = 16;
  addFile(model, 'ram', chunks * chunkBytes);
  const isThere = new Set<number>();
  let reads = 0;
  model.hooks.beforeRead = ({ offsetBytes, lengthBytes, intent }) => {
    const first = Math.floor(offsetBytes / chunkBytes);
    const last = Math.floor((offsetBytes + lengthBytes - 1) / chunkBytes);
    if (intent === 'demand') isThere.add(first);
    reads += 1;
    for (let chunk = first; chunk <= last; chunk += 1) if (!isThere.has(chunk)) return notLocal;
    return undefined;
  };
  // Each chunk: one page, dirty; a while later all others, half of them dirtied; then everything is looked at.
  const result = await runPython(
    `import mmap, os, sys, time
file = os.open(sys.argv[1], os.O_RDWR)
ram = mmap.mmap(file, 0)
page, chunk = 4096, 131072
starts = range(0, len(ram), chunk)
for start in starts:
    assert ram[start + 5 * page] == 7
    ram[start + 5 * page] = 9
time.sleep(1.5)
for start in starts:
    for number in range(32):
        at = start + number * page
        assert ram[at] == (9 if number == 5 else 7), (start, number, ram[at])
        if number % 2 == 1:
            ram[at + 1] = number
ram.flush()
os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
for start in starts:
    for number in range(32):
        at = start + number * page
        assert ram[at] == (9 if number == 5 else 7), (start, number, ram[at])
        assert ram[at + 1] == (number if number % 2 == 1 else 7), (start, number, ram[at + 1])`,
    join(mountPath, 'ram'),
  );
  t.equal(result.exitCode, 0, result.stderr);
  t.ok(engine.status().refusedAhead > 0, 'read-ahead was refused');
  t.ok(reads < chunks * 16, `${reads} reads for ${chunks * 32} pages, twice`);
});

t.test('one that waits holds up nobody else', async (t) => {
  const { model, engine, mountPath } = await mountModel(t);
  addFile(model, 'slow');
  const { arrived, finish } = holdReads(model);
  const waiting = runProgram('head', ['-c', '10', join(mountPath, 'slow')]);
  await arrived;
  model.hooks = {};
  addFile(model, 'fast');
  t.equal((await runProgram('head', ['-c', '10', join(mountPath, 'fast')])).exitCode, 0);
  t.equal((await runProgram('ls', ['-l', mountPath])).exitCode, 0);
  t.ok(engine.status().requestsWaiting >= 1);
  finish();
  t.equal((await waiting).exitCode, 0);
});

t.test('writes take set-user-ID away, as on a local disk', async (t) => {
  const { model, mountPath } = await mountModel(t);
  addFile(model, 'program');
  const path = join(mountPath, 'program');
  const result = await runPython(
    `import os, sys
os.chmod(sys.argv[1], 0o6777)
assert os.stat(sys.argv[1]).st_mode & 0o7777 == 0o6777
pid = os.fork()
if pid == 0:
    os.setgroups([]); os.setgid(${nobody}); os.setuid(${nobody})
    os.write(os.open(sys.argv[1], os.O_WRONLY), b"x")
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert os.stat(sys.argv[1]).st_mode & 0o7777 == 0o777`,
    path,
  );
  t.equal(result.exitCode, 0, result.stderr);
});

t.test('what has lost its name can be looked at by whoever has it open or stands in it', async (t) => {
  const { engine, mountPath } = await mountModel(t);
  const result = await runPython(
    `import os, stat, sys
os.chdir(sys.argv[1])
def look(file, is_kind):
    found = os.fstat(file)
    assert is_kind(found.st_mode) and found.st_nlink == 0, found
os.mkdir("directory"); directory = os.open("directory", os.O_RDONLY)
os.rmdir("directory"); look(directory, stat.S_ISDIR)
os.mkdir("empty"); empty = os.open("empty", os.O_RDONLY)
os.mkdir("other"); os.rename("other", "empty"); look(empty, stat.S_ISDIR)
os.mkfifo("fifo"); fifo = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
os.mkfifo("new"); os.rename("new", "fifo"); look(fifo, stat.S_ISFIFO)
os.symlink("target", "link"); link = os.open("link", os.O_PATH | os.O_NOFOLLOW)
os.unlink("link"); look(link, stat.S_ISLNK)
open("file", "w").close(); file = os.open("file", os.O_PATH)
os.unlink("file"); look(file, stat.S_ISREG)
os.mkdir("here"); os.chdir("here"); os.rmdir("../here")
assert os.stat(".").st_nlink == 0`,
    mountPath,
  );
  t.equal(result.exitCode, 0, result.stderr);
  t.equal(engine.status().errors, 0);
});

t.test('what is not supported is refused as by a file system without it', async (t) => {
  const { model, engine, mountPath } = await mountModel(t);
  addFile(model, 'file');
  const result = await runPython(
    `import errno, fcntl, os, sys
os.chdir(sys.argv[1])
def fails(number, action):
    try: action()
    except OSError as error: assert error.errno == number, error
    else: assert False
fails(errno.EOPNOTSUPP, lambda: os.open(".", os.O_TMPFILE | os.O_RDWR))
file = os.open("file", os.O_RDWR)
fails(errno.ENOTTY, lambda: fcntl.ioctl(file, 0x5401))
fails(errno.EOPNOTSUPP, lambda: os.setxattr("file", "security.capability", bytes([0, 0, 0, 2]) + bytes(16)))
copy = os.open("copy", os.O_RDWR | os.O_CREAT)
assert os.copy_file_range(file, copy, ${chunkBytes}) == ${chunkBytes}
assert os.pread(copy, ${chunkBytes}, 0) == bytes([7]) * ${chunkBytes}`,
    mountPath,
  );
  t.equal(result.exitCode, 0, result.stderr);
  t.equal(engine.status().errors, 0);
});

t.test('large reads and writes are large requests', async (t) => {
  const { model, engine, mountPath } = await mountModel(t);
  const before = engine.status().requests;
  const path = join(mountPath, 'file');
  const dd = await runProgram('dd', ['if=/dev/zero', `of=${path}`, 'bs=1M', 'count=16', 'oflag=direct']);
  t.equal(dd.exitCode, 0, dd.stderr);
  t.ok(engine.status().requests - before < 30, '16 MiB in pieces of 1 MiB');
  t.equal(model.lookup(rootInode, 'file').sizeBytes, 16 * 2 ** 20);
});

t.test('the kernel forgets what it no longer needs', async (t) => {
  const { engine, mountPath } = await mountModel(t);
  await runProgram('sh', ['-c', `cd ${mountPath} && for i in $(seq 50); do echo $i > f$i; done; rm f*`]);
  t.equal((await runProgram('ls', ['-la', mountPath])).exitCode, 0);
  t.ok((engine.status().inodesReferenced ?? 99) < 10);
});

t.test('unmounting', async (t) => {
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

  await t.test('lazily: what was written arrives, then the connection ends', async (t) => {
    const { model, engine, mountPath } = await mountModel(t);
    const inode = addFile(model, 'file');
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
    const content = Buffer.alloc(5);
    void model.read(model.open(inode, 0), 0, content, 'demand');
    t.equal(content.toString(), 'dirty');
    await user.end();
  });

  await t.test('lazily ends reads that wait', async (t) => {
    const { model, engine, mountPath } = await mountModel(t);
    addFile(model, 'file');
    const { arrived } = holdReads(model);
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

  await t.test(
    'by somebody else while files are open is noticed, and a mount on top is not ours',
    async (t) => {
      const { engine, mountPath } = await mountModel(t);
      const user = await startUser(t, `import os, sys; os.open(sys.argv[1], os.O_RDONLY)`, mountPath);
      t.equal((await runProgram('umount', ['-l', mountPath])).exitCode, 0);
      const options = { mountPath, sourceName: 'isr:other', allowOther: false };
      const other = await mountKernel(new ModelFileSystem(), options);
      t.teardown(() => other[Symbol.asyncDispose]());
      await engine.unmounted;
      await engine.unmount();
      t.match(await findMount(mountPath), { source: 'isr:other' });
      await user.end();
    },
  );

  await t.test('an aborted connection is noticed', async (t) => {
    const { engine, mountPath } = await mountModel(t);
    const minor = (await findMount(mountPath))?.device.split(':')[1];
    const aborted = await runProgram('sh', ['-c', `echo 1 > /sys/fs/fuse/connections/${minor}/abort`]);
    if (aborted.exitCode !== 0) {
      t.pass('', { skip: 'needs /sys/fs/fuse/connections' });
      return;
    }
    t.match(await engine.unmounted, /disconnected/);
  });

  await t.test('disposing detaches even when busy', async (t) => {
    const { engine, mountPath } = await mountModel(t);
    await startUser(t, `import os, sys; os.chdir(sys.argv[1])`, mountPath);
    await engine[Symbol.asyncDispose]();
    t.equal(await findMount(mountPath), undefined);
  });
});

t.test('mounting that cannot work is refused, and leaves nothing', async (t) => {
  const mountPath = t.testdir({});
  const options = { mountPath, sourceName: 'isr:test', allowOther: false };
  const model = new ModelFileSystem();
  const descriptorsBefore = await ownDescriptors();
  const throughFusermount: MountEngine = (...args) => mountKernelThrough(mountThroughFusermount, ...args);
  for (const mount of [mountKernel, throughFusermount]) {
    for (const sourceName of ['a,allow_other', '', 'a b', 'x'.repeat(256), 'a\\,b', 'a\n']) {
      await t.rejects(mount(model, { ...options, sourceName }), { code: 'INVALID_INPUT' });
    }
    const missing = { ...options, mountPath: join(mountPath, 'missing') };
    await t.rejects(mount(model, missing), { code: 'MOUNT_FAILED' });
  }
  // Other tests mount elsewhere meanwhile.
  const left = (await readMountTable()).filter((mount) => mount.mountPath.startsWith(mountPath));
  t.same(left, []);
  // What earlier mounts had open may close only now.
  t.ok((await ownDescriptors()) <= descriptorsBefore);
});

/** A process that serves mounts until its standard input ends. */
async function startServer(t: Test, root: string, count: number, ids: { uid?: number; gid?: number } = {}) {
  const child = spawn(process.execPath, [server, root, String(count)], {
    ...ids,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  const exited = once(child, 'exit');
  const complaints = text(child.stderr);
  const output: string[] = [];
  child.stdout.on('data', (data: Buffer) => output.push(data.toString()));
  const ready = await Promise.race([once(child.stdout, 'data').then(() => true), exited.then(() => false)]);
  return { child, exited, complaints, output, ready };
}

async function clearBelow(root: string): Promise<void> {
  for (const { mountPath } of await readMountTable()) {
    if (mountPath.startsWith(`${root}/`)) await runProgram('fusermount3', ['-uz', mountPath]);
  }
  await rm(root, { recursive: true });
}

t.test('a hundred mounts, ended in order or killed, leave nothing behind', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'isr-cycles-'));
  t.teardown(() => clearBelow(root));
  const mountsBelow = async () =>
    (await readMountTable()).filter(({ mountPath }) => mountPath.startsWith(`${root}/`)).length;

  await t.test('in order', async (t) => {
    for (let cycle = 0; cycle < 4; cycle++) {
      const { child, exited, output } = await startServer(t, root, 10);
      t.equal(await mountsBelow(), 10);
      child.stdin.end();
      t.same(await exited, [0, null]);
      const left = JSON.parse(output.join('').replace('mounted\n', '')) as Record<string, number>;
      t.equal(left['descriptors'], 0);
      t.ok((left['threads'] ?? 99) <= 12, `${left['threads']} threads are those of Node itself`);
      t.equal(await mountsBelow(), 0);
    }
  });

  await t.test('killed', async (t) => {
    for (let cycle = 0; cycle < 6; cycle++) {
      const { child, exited } = await startServer(t, root, 10);
      child.kill('SIGKILL');
      await exited;
      t.equal(await mountsBelow(), 10);
      t.equal(await isStaleMount(join(root, '0')), true);
      await Promise.all(
        Array.from({ length: 10 }, async (_, index) =>
          t.ok(await clearStaleMount(join(root, String(index)))),
        ),
      );
      t.equal(await mountsBelow(), 0);
    }
  });
});

t.test('an ordinary user mounts through fusermount3', async (t) => {
  if (process.getuid?.() !== 0) {
    t.pass('', { skip: 'the other tests do that already' });
    return;
  }
  if (((await stat('/dev/fuse')).mode & 0o006) !== 0o006) {
    t.pass('', { skip: 'on this host only root may open /dev/fuse, and fusermount3 opens it as its caller' });
    return;
  }
  const root = await mkdtemp(join(tmpdir(), 'isr-user-'));
  t.teardown(() => clearBelow(root));
  await chown(root, nobody, nobody);
  await chmod(root, 0o755);
  const { child, exited, complaints, ready } = await startServer(t, root, 1, { uid: nobody, gid: nobody });
  if (!ready) {
    const why = await complaints;
    // Where the project lies below a directory that only root may enter, another user cannot run it.
    if (/EACCES|Cannot find module/.test(why)) t.pass('', { skip: 'other users may not read this project' });
    else t.fail(why);
    return;
  }
  const mountPath = join(root, '0');
  t.match(await findMount(mountPath), { type: 'fuse.isr', source: 'isr:served-0' });
  const result = await runAs(nobody, `cd ${mountPath} && echo data > file && cat file && stat -c %u file`);
  t.equal(result, `data\n${nobody}\n`);
  child.stdin.end();
  t.same(await exited, [0, null]);
  t.equal(await findMount(mountPath), undefined);
});

async function runAs(user: number, script: string): Promise<string> {
  const child: ChildProcess = spawn('sh', ['-c', script], { uid: user, gid: user });
  if (child.stdout === null) throw new Error('no output');
  return text(child.stdout);
}

t.test('the process that serves the mount ends by itself once it is unmounted', async (t) => {
  const mountPath = await mkdtemp(join(tmpdir(), 'isr-mount-'));
  t.teardown(() => rmdir(mountPath));
  const moduleOf = (path: string) => JSON.stringify(new URL(path, import.meta.url));
  const serve = (end: string) => `
    const { mountKernel } = await import(${moduleOf('../src/fuse/index.js')});
    const { ModelFileSystem } = await import(${moduleOf('../test/support/model-file-system.js')});
    const engine = await mountKernel(new ModelFileSystem(), {
      mountPath: ${JSON.stringify(mountPath)}, sourceName: 'isr:brief', allowOther: false });
    ${end}`;
  const run = (end: string) => runProgram(process.execPath, ['--input-type=module', '-e', serve(end)]);
  const unmounted = await run('await engine.unmount();');
  t.equal(unmounted.exitCode, 0, unmounted.stderr);
  t.equal((await run('process.exit(3);')).exitCode, 3, 'process.exit does not hang');
  t.equal(await clearStaleMount(mountPath), true);
  t.equal((await run('throw new Error("crash");')).exitCode, 1);
  t.equal(await clearStaleMount(mountPath), true);
});

t.test('the limit of dirty pages is lifted where permitted', async (t) => {
  const { engine, mountPath } = await mountModel(t);
  const device = (await findMount(mountPath))?.device ?? '';
  const ratio = await readFile(`/sys/class/bdi/${device}/max_ratio`, 'utf8').catch(() => undefined);
  t.equal(engine.status().dirtyLimitLifted, ratio === '100\n');
});
