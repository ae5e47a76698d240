import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statfsSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import t, { type Test } from 'tap';
import {
  allocate,
  nextData,
  nextHole,
  punchHole,
  SystemCallError,
  zeroRange,
} from '../../src/system/index.js';

const block = 64 * 1024;

/** An open file that is closed and removed after the test. */
function openFile(t: Test, path = join(t.testdir(), 'file')): number {
  const fd = openSync(path, 'w+');
  t.teardown(() => {
    closeSync(fd);
    rmSync(path, { force: true });
  });
  return fd;
}

function allocatedBytes(fd: number): number {
  return fstatSync(fd).blocks * 512;
}

function thrownBy(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  return undefined;
}

t.test('data and holes', async (t) => {
  const fd = openFile(t);
  ftruncateSync(fd, 8 * block);
  writeSync(fd, Buffer.alloc(block, 1), 0, block, 2 * block);
  t.equal(nextData(fd, 0), 2 * block);
  t.equal(nextData(fd, 2 * block + 5), 2 * block + 5);
  t.equal(nextHole(fd, 0), 0);
  t.equal(nextHole(fd, 2 * block), 3 * block);
  t.equal(nextData(fd, 3 * block), undefined, 'only a hole follows');
  t.equal(nextData(fd, 8 * block), undefined, 'at the end');
  t.equal(nextHole(fd, 8 * block), undefined, 'at the end');
  t.equal(nextHole(fd, 7 * block), 7 * block);
});

t.test('the end of a file without holes counts as a hole', async (t) => {
  const fd = openFile(t);
  writeSync(fd, Buffer.alloc(1000, 1));
  t.equal(nextData(fd, 999), 999);
  t.equal(nextHole(fd, 0), 1000);
});

t.test('offsets beyond 32 bits are exact', async (t) => {
  const fd = openFile(t, join('/dev/shm', `isr-sparse-${process.pid}`));
  const far = 2 ** 52 + 4096 * 7;
  ftruncateSync(fd, 2 ** 53 - 1);
  writeSync(fd, Buffer.from('x'), 0, 1, far);
  t.equal(nextData(fd, 2 ** 40 + 1), far);
  t.equal(nextData(fd, far), far);
  t.equal(nextHole(fd, far + 1), far + 4096);
  t.equal(nextHole(fd, 2 ** 53 - 2), 2 ** 53 - 2);
  t.equal(nextData(fd, 2 ** 53 - 1), undefined);
});

t.test('a file system that cannot seek to holes has only data', async (t) => {
  const fd = openSync('/proc/self/mountinfo', 'r');
  t.teardown(() => closeSync(fd));
  // Files of /proc say that they are empty.
  t.equal(nextData(fd, 0), undefined);
  t.equal(nextHole(fd, 0), undefined);
});

t.test('allocate', async (t) => {
  const fd = openFile(t);
  allocate(fd, 0, 4 * block, true);
  t.equal(fstatSync(fd).size, 0);
  t.ok(allocatedBytes(fd) >= 4 * block);
  allocate(fd, 4 * block, block, false);
  t.equal(fstatSync(fd).size, 5 * block);
});

t.test('punchHole gives space back, reads as zeros and keeps the size', async (t) => {
  const fd = openFile(t);
  writeSync(fd, Buffer.alloc(4 * block, 7));
  const before = allocatedBytes(fd);
  punchHole(fd, block, 2 * block);
  t.equal(before - allocatedBytes(fd), 2 * block);
  punchHole(fd, 3 * block, 9 * block);
  t.equal(fstatSync(fd).size, 4 * block);
  t.equal(nextHole(fd, 0), block);
  const content = Buffer.alloc(4 * block);
  readSync(fd, content, 0, content.length, 0);
  t.ok(content.subarray(0, block).every((byte) => byte === 7));
  t.ok(content.subarray(block).every((byte) => byte === 0));
});

t.test('zeroRange reads as zeros and keeps the space', async (t) => {
  const fd = openFile(t);
  writeSync(fd, Buffer.alloc(4 * block, 7));
  const error = thrownBy(() => zeroRange(fd, block, block, true));
  if (error instanceof SystemCallError && error.code === 'EOPNOTSUPP') {
    t.comment('this file system cannot');
    return;
  }
  t.equal(error, undefined);
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, block);
  t.equal(byte[0], 0);
  t.ok(allocatedBytes(fd) >= 4 * block);
  zeroRange(fd, 4 * block, block, true);
  t.equal(fstatSync(fd).size, 4 * block);
  zeroRange(fd, 4 * block, block, false);
  t.equal(fstatSync(fd).size, 5 * block);
});

t.test('errors look like those of node:fs', async (t) => {
  t.match(
    thrownBy(() => allocate(1_000_000, 0, 1, true)),
    {
      code: 'EBADF',
      errno: -9,
      syscall: 'fallocate',
      message: 'EBADF: fallocate',
    },
  );
  t.match(
    thrownBy(() => nextData(1_000_000, 0)),
    { code: 'EBADF', syscall: 'lseek' },
  );

  const comm = openSync('/proc/self/comm', 'r+');
  t.teardown(() => closeSync(comm));
  t.match(
    thrownBy(() => punchHole(comm, 0, 1)),
    { code: 'EOPNOTSUPP' },
    'the name of the manual page',
  );
});

t.test('a full file system is ENOSPC', async (t) => {
  const tmpfs = 0x01021994;
  if (statfsSync('/dev/shm').type !== tmpfs) {
    t.comment('/dev/shm is no tmpfs');
    return;
  }
  const fd = openFile(t, join('/dev/shm', `isr-full-${process.pid}`));
  t.match(
    thrownBy(() => allocate(fd, 0, 2 ** 50, true)),
    { code: 'ENOSPC', syscall: 'fallocate' },
  );
});

t.test('numbers that are no offsets are refused before the kernel sees them', async (t) => {
  const fd = openFile(t);
  for (const bad of [-1, 0.5, 2 ** 53, NaN]) {
    t.throws(() => nextData(fd, bad), RangeError);
    t.throws(() => allocate(fd, 0, bad, true), RangeError);
  }
});

t.test('works in a worker thread', async (t) => {
  const fd = openFile(t);
  writeSync(fd, Buffer.alloc(block, 1), 0, block, 4 * block);
  const worker = new Worker(new URL('./sparse-worker.js', import.meta.url), { workerData: { fd } });
  t.teardown(() => worker.terminate());
  const [found] = (await once(worker, 'message')) as [number];
  t.equal(found, nextData(fd, 0));
});

t.test('the foreign-function interface is loaded at its first use', async (t) => {
  const door = new URL('../../src/system/index.js', import.meta.url).href;
  const script = `
    import { readFileSync } from 'node:fs';
    import { nextData } from ${JSON.stringify(door)};
    const isLoaded = () => readFileSync('/proc/self/maps', 'latin1').includes('koffi');
    const before = isLoaded();
    nextData(0, 0);
    console.log(JSON.stringify([before, isLoaded()]));`;
  const path = join(t.testdir({ 'input.txt': 'x' }), 'input.txt');
  const stdin = openSync(path, 'r');
  t.teardown(() => closeSync(stdin));
  const output = execFileSync(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: [stdin, 'pipe', 'inherit'],
    encoding: 'utf8',
  });
  t.same(JSON.parse(output), [false, true]);
  t.equal(readFileSync(path, 'utf8'), 'x');
});
