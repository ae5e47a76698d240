/** Processes that serve a mount die, and programs that use it notice nothing. */
import { createHash, randomBytes } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { findDaemon } from '../src/daemon/index.js';
import { findMount } from '../src/fuse/index.js';
import { runProgram } from './support/mount-contract.js';
import { eventually, isRunning, Program, SupervisedMount } from './support/supervised-mount.js';

const hashOf = (content: Uint8Array): string => createHash('sha256').update(content).digest('hex');

t.test('a program that faults pages in from afar does not notice that workers die', async (t) => {
  const content = randomBytes(8 * 2 ** 20);
  const mount = await SupervisedMount.make(t, { mem: content }, 'mbps=40&rttMs=20');
  t.match(await mount.processes(), { restarts: 0, lastRestart: undefined });
  const program = new Program(
    t,
    `import hashlib, mmap, os, random, sys
file = os.open(sys.argv[1], os.O_RDWR)
size = os.fstat(file).st_size
view = mmap.mmap(file, size)
pages = list(range(0, size, 4096))
random.Random(1).shuffle(pages)
found = bytearray(size)
for at in pages: found[at:at + 4096] = view[at:at + 4096]
print(hashlib.sha256(found).hexdigest())`,
    join(mount.trial.mountPath, 'mem'),
  );
  let kills = 0;
  while (program.child.exitCode === null && kills < 8) {
    await mount.killWorker();
    kills += 1;
    await sleep(100);
  }
  t.match(await program.ended, { exitCode: 0, complaints: '' });
  t.equal(program.output.trim(), hashOf(content));
  t.match(await mount.processes(), { restarts: kills, lastRestart: { reason: /was killed/ } });
  const { stdout } = await runProgram('cat', [join(mount.trial.mountPath, 'mem')]);
  t.equal(stdout.length > 0, true);
  await mount.endInOrder(t);
});

t.test('what programs hold goes on: files, locks, mappings, listings, directories', async (t) => {
  const mount = await SupervisedMount.make(t, { disk: randomBytes(300_000), 'sub/file': 'in sub' });
  const program = new Program(
    t,
    `import errno, fcntl, mmap, os, sys
root = sys.argv[1]
os.chdir(root)
disk = os.open("disk", os.O_RDWR)
before = os.pread(disk, 300000, 0)
inode = os.fstat(disk).st_ino
append = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(append, b"one ")
gone = os.open("gone", os.O_RDWR | os.O_CREAT)
os.write(gone, b"unlinked " * 1000)
os.unlink("gone")
base = os.open("sub/file", os.O_RDONLY)
os.unlink("sub/file")
fcntl.flock(disk, fcntl.LOCK_EX)
fcntl.lockf(gone, fcntl.LOCK_EX, 10, 0)
view = mmap.mmap(disk, 300000)
view[0:5] = b"dirty"
os.mkdir("many")
for number in range(1500): os.close(os.open(f"many/{number}", os.O_WRONLY | os.O_CREAT))
listing = os.scandir("many")
names = [next(listing).name for _ in range(10)]
cwd = os.open("sub", os.O_RDONLY | os.O_DIRECTORY)
print("ready")
for round in range(3):
    input()
    removed = names[-1]
    os.unlink(f"many/{removed}")
    os.close(os.open(f"many/new-{round}", os.O_WRONLY | os.O_CREAT))
    names += [next(listing).name for _ in range(200)]
    assert os.fstat(disk).st_ino == inode == os.stat("disk").st_ino
    assert os.pread(disk, 4096, 100000) == before[100000:104096]
    assert view[0:5] == b"dirty" and view[5:300000] == before[5:]
    os.write(append, b"more ")
    assert os.pread(gone, 9, 9 * round) == b"unlinked "
    assert os.fstat(gone).st_nlink == 0 and os.fstat(gone).st_size == 9000
    os.pwrite(gone, b"UNLINKED ", 9 * (round + 10))
    assert os.pread(gone, 9, 9 * (round + 10)) == b"UNLINKED "
    assert os.pread(base, 6, 0) == b"in sub"
    pid = os.fork()
    if pid == 0:
        other = os.open("disk", os.O_RDWR)
        try: fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error: os._exit(0 if error.errno == errno.EWOULDBLOCK else 2)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0, "the lock was lost"
    pid = os.fork()
    if pid == 0:
        try: fcntl.lockf(gone, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 0)
        except OSError as error: os._exit(0 if error.errno in (errno.EAGAIN, errno.EACCES) else 2)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0, "the lock of a range was lost"
    os.mkdir(f"in-{round}", dir_fd=cwd)
    view[0:5] = b"dirty"
    print("round", round)
names += [entry.name for entry in listing]
assert len(names) == len(set(names)), "a name came twice"
assert set(str(number) for number in range(1500)) <= set(names), "a name was left out"
os.fsync(disk)
os.close(gone)
print("done")`,
    mount.trial.mountPath,
  );
  await program.says('ready');
  for (let round = 0; round < 3; round++) {
    await mount.killWorker();
    program.next();
    await program.says(`round ${round}`);
  }
  t.match(await program.ended, { exitCode: 0, complaints: '' });
  t.equal(await mount.content('log'), 'one more more more ');
  await mount.endInOrder(t);
});

t.test('changes under way when workers die are made once, and none fails', async (t) => {
  const mount = await SupervisedMount.make(t, { file: 'content' });
  const program = (seed: number) =>
    new Program(
      t,
      `import os, random, select, sys
os.chdir(sys.argv[1])
pick = random.Random(int(sys.argv[2]))
top = f"tree-{sys.argv[2]}"
os.mkdir(top)
os.chdir(top)
model = {}
count = 0
def write(name):
    data = pick.randbytes(pick.randrange(1, 20000))
    with open(name, "wb") as file: file.write(data)
    model[name] = data
print("ready")
while not select.select([sys.stdin], [], [], 0)[0]:
    count += 1
    names = list(model)
    what = pick.randrange(8)
    if what < 2 or len(names) < 5:
        name = f"file-{count}"
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        data = pick.randbytes(pick.randrange(1, 20000))
        os.write(descriptor, data)
        os.close(descriptor)
        model[name] = data
    elif what == 2:
        name = pick.choice(names)
        os.unlink(name)
        del model[name]
    elif what == 3:
        name = pick.choice(names)
        os.rename(name, f"moved-{count}")
        model[f"moved-{count}"] = model.pop(name)
    elif what == 4:
        name = pick.choice(names)
        os.link(name, f"link-{count}")
        os.unlink(name)
        model[f"link-{count}"] = model.pop(name)
    elif what == 5:
        os.mkdir(f"directory-{count}")
        os.rmdir(f"directory-{count}")
        os.symlink("target", f"symlink-{count}")
        os.unlink(f"symlink-{count}")
    elif what == 6:
        name = pick.choice(names)
        os.setxattr(name, "user.count", str(count).encode(), os.XATTR_CREATE)
        os.removexattr(name, "user.count")
    else:
        name = pick.choice(names)
        at = pick.randrange(0, len(model[name]) + 1)
        data = pick.randbytes(5000)
        descriptor = os.open(name, os.O_WRONLY)
        os.pwrite(descriptor, data, at)
        os.close(descriptor)
        model[name] = model[name][:at] + data + model[name][at + len(data):]
assert set(os.listdir(".")) == set(model), "other names"
for name, data in model.items():
    with open(name, "rb") as file: assert file.read() == data, name
print("changes", count)`,
      mount.trial.mountPath,
      String(seed),
    );
  const programs = [program(1), program(2)];
  for (const one of programs) await one.says('ready');
  for (let kill = 0; kill < 8; kill++) {
    await mount.killWorker();
    await sleep(kill * 20);
  }
  for (const one of programs) one.next();
  for (const one of programs) t.match(await one.ended, { exitCode: 0, complaints: '' });
  await mount.endInOrder(t);
});

t.test('what has lost its name and is still used goes on, whenever it was removed', async (t) => {
  const mount = await SupervisedMount.make(t, { file: 'content', 'later/in': '', 'sub/in': '' });
  const program = new Program(
    t,
    `import os, sys
root = sys.argv[1]
os.chdir(root)
os.mkdir("gone")
os.mkfifo("fifo")
def paths(*names): return [os.open(name, os.O_PATH) for name in names]
def again(descriptor, flags=os.O_RDONLY): return os.open(f"/proc/self/fd/{descriptor}", flags)
def check(cwd, file, fifo, directory):
    os.fchdir(cwd)
    assert os.listdir(".") == [], os.listdir(".")
    try: os.mkdir("new")
    except FileNotFoundError: pass
    else: raise AssertionError("a name in a removed directory")
    one = again(file, os.O_RDWR)
    assert os.read(one, 100) == b"content" and os.fstat(one).st_nlink == 0
    os.close(one)
    os.close(again(fifo, os.O_RDWR))
    assert os.listdir(f"/proc/self/fd/{directory}") == []
removed = paths("gone", "file", "fifo", "sub")
os.chdir("gone")
os.rmdir(f"{root}/gone")
os.unlink(f"{root}/file")
os.unlink(f"{root}/fifo")
os.unlink(f"{root}/sub/in")
os.rmdir(f"{root}/sub")
os.chdir(root)
with open("file2", "w") as file: file.write("content")
os.mkfifo("fifo2")
os.mkdir("empty")
os.unlink("later/in")
known = paths("later", "file2", "fifo2", "empty")
print("ready")
input()
check(*removed)
os.chdir(root)
os.rmdir("later")
os.unlink("file2")
os.mkdir("other")
os.rename("other", "empty")
os.unlink("fifo2")
check(*known)
print("again")
input()
check(*removed)
check(*known)
print("done")`,
    mount.trial.mountPath,
  );
  await program.says('ready');
  await mount.killWorker();
  program.next();
  await program.says('again');
  await mount.killWorker();
  program.next();
  t.match(await program.ended, { exitCode: 0, complaints: '' });
  await mount.endInOrder(t);
});

t.test('a publish that is under way is lost, says so, and works when it is asked for again', async (t) => {
  const mount = await SupervisedMount.make(t, { file: 'content' }, 'mbps=2&rttMs=10');
  const path = join(mount.trial.mountPath, 'new');
  t.equal((await runProgram('dd', ['if=/dev/urandom', `of=${path}`, 'bs=1M', 'count=2'])).exitCode, 0);
  const before = (await runProgram('sha256sum', [path])).stdout;
  const client = await mount.client();
  let begun: () => void = () => undefined;
  const progress = new Promise<void>((resolve) => (begun = resolve));
  const publishing = client.publish({ releaseLease: false, onProgress: () => begun() });
  const lost = t.rejects(publishing, { code: 'DAEMON_RESTARTED' });
  await Promise.race([progress, sleep(2000)]);
  await mount.killWorker();
  await lost;
  t.match(await client.publish({ releaseLease: false }), { outcome: 'published', version: 2 });
  t.equal((await runProgram('sha256sum', [path])).stdout, before);
  await mount.endInOrder(t);
});

t.test('a crash loop ends: the mount goes, the overlay stays, and the status says why', async (t) => {
  const mount = await SupervisedMount.make(t, { file: 'content' });
  const { vmName, mountPath } = mount.trial;
  t.equal((await runProgram('touch', [join(mountPath, 'new')])).exitCode, 0);
  // No worker can read that.
  const journal = join(mount.paths.overlay, 'journal');
  const intact = await readFile(journal);
  await writeFile(journal, 'damaged\n');
  const { workerPid, supervisorPid = 0 } = await mount.processes();
  process.kill(workerPid, 'SIGKILL');
  await eventually('the supervisor gives up', async () => !(await isRunning(supervisorPid)));
  t.equal(await findMount(mountPath), undefined);
  t.match(await mount.log(), /giving up: 6 workers in a row died/);
  await writeFile(journal, intact);
  const status = await mount.host.isr(['status', vmName], mount.url);
  t.match(status, { daemonState: 'dead', gaveUp: /6 workers in a row.*damaged/, changedFiles: 1 });
  await mount.mount();
  t.equal((await runProgram('stat', [join(mountPath, 'new')])).exitCode, 0);
  await mount.endInOrder(t);
});

t.test('another program takes over under load; one that cannot gives way again', async (t) => {
  const mount = await SupervisedMount.make(t, { file: randomBytes(2 ** 20) });
  const { vmName, mountPath } = mount.trial;
  const program = new Program(
    t,
    `import os, select, sys
os.chdir(sys.argv[1])
count = 0
held = os.open("held", os.O_RDWR | os.O_CREAT)
print("ready")
while not select.select([sys.stdin], [], [], 0)[0]:
    count += 1
    os.mkdir("directory")
    os.rename("directory", "renamed")
    os.pwrite(held, count.to_bytes(8, "little"), 8 * count)
    os.rmdir("renamed")
data = os.pread(held, 8 * count, 8)
assert [int.from_bytes(data[at:at + 8], "little") for at in range(0, len(data), 8)] == list(range(1, count + 1))
print("rounds", count)`,
    mountPath,
  );
  await program.says('ready');
  const before = await mount.processes();
  const upgraded = await mount.host.isr<{ workerPid: number }>(['upgrade', vmName], mount.url);
  t.not(upgraded.workerPid, before.workerPid);
  const { workerPid } = upgraded;
  const after = await mount.processes();
  t.match(after, { workerPid, supervisorPid: before.supervisorPid, restarts: 0 });

  const broken = { execPath: process.execPath, parameters: [join(mount.trial.root, 'missing.js')] };
  await postTo(mount.paths.controlSocket, 'upgrade', { program: broken });
  await eventually('the program before serves again', async () => {
    const now = await mount.processes().catch(() => undefined);
    return now !== undefined && now.workerPid !== upgraded.workerPid;
  });
  t.match(await mount.processes(), { program: after.program, restarts: 1 });
  program.next();
  t.match(await program.ended, { exitCode: 0, complaints: '' });
  await mount.endInOrder(t);
});

/** Asks a daemon for something that no command would. */
function postTo(socketPath: string, method: string, parameters: unknown): Promise<string> {
  return new Promise((resolve, reject) => {
    const body = JSON.stringify(parameters);
    const headers = { 'content-length': Buffer.byteLength(body) };
    request({ socketPath, path: `/${method}`, method: 'POST', headers, agent: false }, (response) => {
      text(response).then(resolve, reject);
    })
      .once('error', reject)
      .end(body);
  });
}

t.test('signals to either process unmount', async (t) => {
  const mount = await SupervisedMount.make(t, { file: 'content' });
  for (const [which, signal] of [
    ['supervisorPid', 'SIGTERM'],
    ['workerPid', 'SIGINT'],
    ['supervisorPid', 'SIGHUP'],
  ] as const) {
    const processes = await mount.processes();
    process.kill(processes[which] ?? 0, signal);
    for (const pid of [processes.workerPid, processes.supervisorPid ?? 0]) {
      await eventually('it ends', async () => !(await isRunning(pid)));
    }
    t.equal(await findMount(mount.trial.mountPath), undefined, `${signal} to ${which}`);
    t.match(await findDaemon(mount.paths), { state: 'none' });
    await mount.mount();
  }
  await mount.killWorker();
  await mount.endInOrder(t);
});

t.test(
  'where it is permitted, all threads of a worker are I/O flushers, those of the first and of later ones',
  async (t) => {
    const mount = await SupervisedMount.make(t, { file: 'content' });
    for (const worker of ['first', 'next']) {
      if (worker === 'next') await mount.killWorker();
      const { workerPid, protection } = await mount.processes();
      for (const thread of await readdir(`/proc/${workerPid}/task`)) {
        const stat = await readFile(`/proc/${workerPid}/task/${thread}/stat`, 'latin1');
        const flags = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[6]);
        t.equal((flags & memoryWithoutIo) !== 0, protection.ioFlusher, `thread ${thread} of the ${worker}`);
      }
    }
    await mount.endInOrder(t);
  },
);

/** `PF_MEMALLOC_NOIO` of the flags in proc_pid_stat(5). */
const memoryWithoutIo = 0x80000;
