/** What programs read through a mount is what was imported, byte for byte, on every host and after every change. */
import { cp, mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { Trial } from '../fixtures/trial.js';
import { runProgram, runPython } from './support/mount-contract.js';

/** Prints a digest of every file below a directory, with its size and kind. */
const digestTree = `
import hashlib, os, sys
for directory, _, files in sorted(os.walk(sys.argv[1])):
    for name in sorted(files):
        path = os.path.join(directory, name)
        shown = os.path.relpath(path, sys.argv[1])
        if os.path.islink(path):
            print(shown, 'link', os.readlink(path)); continue
        digest = hashlib.sha256()
        with open(path, 'rb') as file:
            while block := file.read(1 << 20): digest.update(block)
        print(shown, os.path.getsize(path), digest.hexdigest())
`;

/** Random reads by read(2) and through a mapping, compared with the original. Seeded. */
const compareRandomReads = `
import mmap, os, random, sys
mounted, original, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
draw = random.Random(seed)
size = os.path.getsize(original)
assert os.path.getsize(mounted) == size
with open(mounted, 'rb', buffering=0) as one, open(original, 'rb', buffering=0) as other:
    with mmap.mmap(one.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        for _ in range(400):
            at, length = draw.randrange(size), draw.choice([1, 100, 4096, 70000, 300000])
            expected = os.pread(other.fileno(), length, at)
            assert os.pread(one.fileno(), length, at) == expected, ('read', seed, at, length)
            assert mapped[at:at + length] == expected, ('mmap', seed, at, length)
`;

/** The same random writes to the mounted file and to a copy of the original: write(2), mapping, truncate, growth. */
const writeBoth = `
import mmap, os, random, sys
paths, seed = sys.argv[1:3], int(sys.argv[3])
for path in paths:
    draw = random.Random(seed)
    with open(path, 'r+b', buffering=0) as file:
        size = os.path.getsize(path)
        for _ in range(200):
            data = draw.randbytes(draw.choice([1, 50, 4096, 10000, 200000]))
            os.pwrite(file.fileno(), data, draw.randrange(size))
        os.ftruncate(file.fileno(), size - draw.randrange(1, 50000))
        os.ftruncate(file.fileno(), size + 70000)
        with mmap.mmap(file.fileno(), 0) as mapped:
            for _ in range(200):
                data = draw.randbytes(draw.choice([1, 50, 4096, 10000]))
                at = draw.randrange(len(mapped) - len(data))
                mapped[at:at + len(data)] = data
        os.fsync(file.fileno())
`;

async function python(source: string, ...args: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runPython(source, ...args);
  if (exitCode !== 0) throw new Error(stderr);
  return stdout;
}

async function makeFiles(directory: string): Promise<void> {
  await mkdir(join(directory, 'deep', 'er'), { recursive: true });
  await python(
    `
import os, random, sys
draw, root = random.Random(1), sys.argv[1]
with open(os.path.join(root, 'image'), 'wb') as file:
    for block in range(96):
        file.seek(block * 131072 + draw.randrange(60000))
        file.write(draw.randbytes(draw.choice([1, 5000, 131072])))
    file.truncate(97 * 131072 + 1234)
open(os.path.join(root, 'empty'), 'wb').close()
open(os.path.join(root, 'deep/er/odd-size'), 'wb').write(draw.randbytes(131073))
`,
    directory,
  );
  await writeFile(join(directory, 'text'), 'words and words and words\n'.repeat(30_000));
  await symlink('../text', join(directory, 'deep', 'link'));
}

t.test('every byte is the imported one, before and after changes, here and on another host', async (t) => {
  const { trial, host } = await Trial.create('content');
  t.teardown(() => trial[Symbol.asyncDispose]());
  const { url, vmName, mountPath } = trial;
  const original = join(trial.root, 'original');
  await makeFiles(original);
  await host.isr(['import', vmName, original, '--at', mountPath], url);
  const other = await trial.addHost();
  const image = join(mountPath, 'image');

  await other.isr(['mount', vmName], url);
  await python(compareRandomReads, image, join(original, 'image'), '1');
  t.equal(await python(digestTree, mountPath), await python(digestTree, original), 'whole files');
  for (const program of [
    'tar -C "$0" -cSf - . | tar -C "$1" -xf -',
    'cp -a --sparse=auto "$0/." "$1"',
    'cp -a --sparse=always "$0/." "$1"',
  ]) {
    const copy = join(trial.root, 'copy');
    await mkdir(copy);
    const { exitCode, stderr } = await runProgram('sh', ['-c', program, mountPath, copy]);
    t.equal(exitCode, 0, stderr);
    t.equal(await python(digestTree, copy), await python(digestTree, original), program);
    await rm(copy, { recursive: true });
  }

  const expected = join(trial.root, 'expected');
  await cp(original, expected, { recursive: true, verbatimSymlinks: true });
  await python(writeBoth, image, join(expected, 'image'), '2');
  await python(compareRandomReads, image, join(expected, 'image'), '3');

  await other.isr(['umount', vmName], url);
  await other.isr(['mount', vmName], url);
  t.equal(await python(digestTree, mountPath), await python(digestTree, expected), 'after umount and mount');
  await python(compareRandomReads, image, join(expected, 'image'), '4');

  const published = await other.isr<{ outcome: string; version: number }>(['publish', vmName], url);
  t.match(published, { outcome: 'published', version: 2 });
  t.equal(
    await python(digestTree, mountPath),
    await python(digestTree, expected),
    'after publishing, still mounted',
  );
  await other.isr(['umount', vmName], url);

  await host.isr(['mount', vmName], url);
  t.equal(await python(digestTree, mountPath), await python(digestTree, expected), 'on the other host');
  await python(compareRandomReads, image, join(expected, 'image'), '5');
  await host.isr(['umount', vmName], url);

  const exported = join(trial.root, 'exported');
  await host.isr(['export', vmName, exported], url);
  t.equal(await python(digestTree, exported), await python(digestTree, expected), 'exported');
});

t.test('an image of 1 TiB mounts and reads like a small one', async (t) => {
  const { trial, host } = await Trial.create('huge');
  t.teardown(() => trial[Symbol.asyncDispose]());
  const { url, vmName, mountPath } = trial;
  const original = join(trial.root, 'original');
  await mkdir(original);
  await python(
    `
import os, sys
with open(sys.argv[1], 'wb') as file:
    file.truncate(1 << 40)
    for part in range(64):
        file.seek(part * ((1 << 40) // 64) + 5000)
        file.write(bytes([part + 1]) * 300000)
`,
    join(original, 'disk'),
  );
  await host.isr(['import', vmName, original, '--at', mountPath], url);
  const other = await trial.addHost();
  await other.isr(['mount', vmName, '--engine', 'kernel'], url);
  await python(
    `
import os, sys
disk, copy = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
chunk, part, at = 131072, (1 << 40) // 64, 0
for i in range(64):
    start = os.lseek(disk, at, os.SEEK_DATA)
    at = os.lseek(disk, start, os.SEEK_HOLE)
    assert (start, at) == (i * part, i * part + 3 * chunk), (i, start, at)
os.lseek(disk, 0, os.SEEK_SET)
while os.copy_file_range(disk, copy, 1 << 41) > 0:
    pass
assert os.fstat(copy).st_size == 1 << 40
assert os.pread(copy, 300000, 63 * part + 5000) == bytes([64]) * 300000
assert 64 * 3 * chunk <= os.fstat(copy).st_blocks * 512 < 1 << 26
os.unlink(sys.argv[2])
`,
    join(mountPath, 'disk'),
    join(mountPath, 'copy'),
  );
  await python(compareRandomReads, join(mountPath, 'disk'), join(original, 'disk'), '6');
  await python(
    `
import os, sys
with open(sys.argv[1], 'rb', buffering=0) as file:
    assert os.fstat(file.fileno()).st_size == 1 << 40
    for part in range(64):
        at = part * ((1 << 40) // 64) + 5000
        assert os.pread(file.fileno(), 300000, at) == bytes([part + 1]) * 300000, part
        assert os.pread(file.fileno(), 5000, at - 5000) == bytes(5000), part
`,
    join(mountPath, 'disk'),
  );
  const { chunks } = await other.isr<{ chunks: { total: number; local: number } }>(['status', vmName], url);
  t.ok(chunks.total <= 64 * 4, 'holes cost no chunk');
  t.equal(chunks.local, chunks.total);
  await other.isr(['umount', vmName], url);
});
