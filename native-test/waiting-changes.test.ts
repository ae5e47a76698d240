/** Programs whose calls wait for the store can be killed, whatever call it is. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import t from 'tap';
import { Cancelled } from '../src/base/index.js';
import { openOverlay } from '../src/fs/index.js';
import { mountKernel } from '../src/fuse/index.js';
import { FakeVersion, manifestOf } from '../test/fs/support/fake-version.js';
import { mountForTest, runPython } from './support/mount-contract.js';

const sizeBytes = 1024 * 1024;

const calls = {
  'a write to part of a page': 'os.pwrite(far, b"x", 10)',
  'a hole in part of a page': 'ctypes.CDLL(None).fallocate64(far, 3, ctypes.c_long(10), ctypes.c_long(20))',
  'looking for data': 'os.lseek(far, 0, os.SEEK_DATA)',
  'copying a range': 'os.copy_file_range(far, os.open("copy", os.O_RDWR | os.O_CREAT), 100000)',
};

for (const [what, call] of Object.entries(calls)) {
  t.test(what, async (t) => {
    const version = new FakeVersion();
    const map = version.addFile(Buffer.alloc(sizeBytes, 7));
    const fileSystem = await openOverlay({
      directory: join(t.testdir({}), 'overlay'),
      base: { manifest: manifestOf({ far: { file: map } }), identity: '1' },
      openFile: version.openFile,
    });
    t.teardown(() => fileSystem.close());
    const { engine, mountPath } = await mountForTest(t, mountKernel, fileSystem);
    version.inMemory = version.isLocal = () => false;
    const waits = new Promise<void>((resolve) => {
      version.beforeRead = ({ options: { signal } }) =>
        new Promise((_go, reject) => {
          resolve();
          signal?.addEventListener('abort', () => reject(new Cancelled('The fetch')));
        });
    });
    const source = `import ctypes, os, sys; os.chdir(sys.argv[1]); far = os.open("far", os.O_RDWR); ${call}`;
    const child = spawn('python3', ['-c', source, mountPath]);
    const exited = once(child, 'exit');
    await waits;
    child.kill('SIGKILL');
    t.same(await exited, [null, 'SIGKILL']);
    version.inMemory = () => true;
    const check = 'import sys; assert open(sys.argv[1], "rb").read() == bytes([7]) * 1024 * 1024';
    t.match(await runPython(check, join(mountPath, 'far')), { exitCode: 0 });
    t.equal(engine.status().errors, 0);
  });
}
