/** A mount ends although the kernel waits in several places for answers that nobody has. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { FileSystemError, notLocal, rootInode } from '../src/fs/index.js';
import { findMount, mountKernel } from '../src/fuse/index.js';
import { ModelFileSystem } from '../test/support/model-file-system.js';
import { mountForTest, runProgram } from './support/mount-contract.js';
import { eventually } from './support/supervised-mount.js';

const pageBytes = 4096;
/** What the kernel is told to forget around a page that has come. */
const windowPages = 32;

/** Threads that read a page each, again and again, whatever comes of it. */
const readers = `import os, sys, threading
path, pages = sys.argv[1], int(sys.argv[2])
ahead = os.open(path, os.O_RDONLY)
os.posix_fadvise(ahead, 0, pages * 4096, os.POSIX_FADV_WILLNEED)
def read(page):
    file = os.open(path, os.O_RDONLY)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
    while True:
        try: os.pread(file, 4096, page * 4096)
        except OSError: pass
for page in range(pages): threading.Thread(target=read, args=(page,)).start()`;

/** Whatever waits for the mount goes on, should a test fail. */
async function abortAtEnd(t: Test, mountPath: string): Promise<void> {
  const minor = (await findMount(mountPath))?.device.split(':')[1] ?? '';
  const abort = `test ! -e "$0" || echo 1 > "$0"`;
  t.teardown(() => runProgram('sh', ['-c', abort, `/sys/fs/fuse/connections/${minor}/abort`]));
}

/** Whether a thread of this process waits for a page that is locked. */
async function waitsForPage(): Promise<boolean> {
  for (const thread of await readdir('/proc/self/task')) {
    const where = await readFile(`/proc/self/task/${thread}/wchan`, 'latin1').catch(() => '');
    if (/folio|page/.test(where)) return true;
  }
  return false;
}

t.test('a mount ends while a notification waits for pages that are being read', async (t) => {
  const model = new ModelFileSystem();
  const { handle } = model.create(rootInode, 'file', 0o644, 2, { uid: 0, gid: 0 });
  void model.write(handle, 0, Buffer.alloc(windowPages * pageBytes, 7));
  model.release(handle);

  const waiting = new Set<number>();
  let onAllWaiting: () => void = () => undefined;
  const allWait = new Promise<undefined>((resolve) => (onAllWaiting = () => resolve(undefined)));
  model.hooks.beforeRead = ({ signal, intent, offsetBytes }) => {
    if (intent === 'ahead') return notLocal;
    // The first page comes when all others are waited for, and has the kernel forget them.
    if (offsetBytes === 0) return allWait;
    waiting.add(offsetBytes);
    if (waiting.size === windowPages - 1) onAllWaiting();
    return new Promise((_resolve, reject) => {
      signal?.addEventListener('abort', () => reject(new FileSystemError('EINTR', 'stopped')));
    });
  };

  const { engine, mountPath } = await mountForTest(t, mountKernel, model);
  await abortAtEnd(t, mountPath);
  const program = spawn('python3', ['-c', readers, join(mountPath, 'file'), String(windowPages)]);
  const exited = once(program, 'exit');
  t.teardown(async () => {
    program.kill('SIGKILL');
    await exited;
  });
  await allWait;
  await eventually('the notification waits', waitsForPage);

  await engine.unmount({ lazy: true });
  t.equal(await findMount(mountPath), undefined);
  t.equal(engine.status().requestsWaiting, 0);
  t.ok(engine.status().refusedAhead > 0, 'read-ahead was refused before');
});
