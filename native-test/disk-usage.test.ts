/** What a mount says of its space is what the disk under its overlay says. */
import { join } from 'node:path';
import t from 'tap';
import { openOverlay } from '../src/fs/index.js';
import { mountKernel } from '../src/fuse/index.js';
import { mountFuseNative } from '../src/fuse/fuse-native/index.js';
import { FakeVersion, manifestOf } from '../test/fs/support/fake-version.js';
import { mountForTest, runPython } from './support/mount-contract.js';
import { SmallDisk } from './support/small-disk.js';

const program = `
import errno, os, sys
mount, disk, can_allocate = sys.argv[1], sys.argv[2], sys.argv[3] == "true"

def space(path):
    found = os.statvfs(path)
    return [count * found.f_frsize for count in (found.f_blocks, found.f_bfree, found.f_bavail)]

def fails(action):
    try: action()
    except OSError as error: assert error.errno == errno.ENOSPC, error
    else: assert False

assert space(mount) == space(disk) and space(mount)[0] == 8 << 20, (space(mount), space(disk))
file = os.open(mount + "/file", os.O_RDWR | os.O_CREAT)
os.pwrite(file, b"x" * (3 << 20), 0)
os.fsync(file)
assert space(mount) == space(disk) and space(mount)[2] <= 5 << 20
if can_allocate:
    fails(lambda: os.posix_fallocate(file, 0, 1 << 40))
    os.posix_fallocate(file, 3 << 20, 1 << 20)
    assert space(mount) == space(disk) and space(mount)[2] <= 4 << 20
filler = os.open(disk + "/filler", os.O_WRONLY | os.O_CREAT)
try:
    while True: os.write(filler, bytes(4096))
except OSError as error: assert error.errno == errno.ENOSPC
assert space(mount)[2] == 0
fails(lambda: os.pwrite(file, b"y" * (1 << 20), 10 << 20))
if can_allocate:
    # What was reserved can be written, on a full disk too.
    assert os.pwrite(file, b"z" * (1 << 19), 3 << 20) == 1 << 19
os.pwrite(file, b"in place", 100)
os.ftruncate(filler, 0)
os.pwrite(file, b"y" * (1 << 20), 10 << 20)
os.fsync(file)
assert os.pread(file, 10, 100) == b"in placexx" and os.pread(file, 3, 10 << 20) == b"yyy"
`;

for (const [name, mountEngine] of Object.entries({ kernel: mountKernel, 'fuse-native': mountFuseNative })) {
  t.test(name, async (t) => {
    const disk = await SmallDisk.mount(t, 8 * 1024 * 1024);
    const fileSystem = await openOverlay({
      directory: join(disk.path, 'overlay'),
      base: { manifest: manifestOf({}), identity: 'empty' },
      openFile: new FakeVersion().openFile,
    });
    t.teardown(() => fileSystem.close());
    const { mountPath } = await mountForTest(t, mountEngine, fileSystem);
    const result = await runPython(program, mountPath, disk.path, String(name === 'kernel'));
    t.equal(result.exitCode, 0, result.stderr);
  });
}
