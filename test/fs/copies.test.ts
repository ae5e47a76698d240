import { randomBytes } from 'node:crypto';
import t from 'tap';
import { Cancelled, limits } from '../../src/base/index.js';
import { rootInode, type HandleId, type VmFileSystem } from '../../src/fs/index.js';
import { chunkBytes } from './support/fake-version.js';
import { caller, errnoOf, openPath, openTree, readAll, readWrite } from './support/open-file-system.js';

const pageBytes = 4096;
const mebibyte = 2 ** 20;

async function newFile(fileSystem: VmFileSystem, name: string, content?: Uint8Array): Promise<HandleId> {
  const { handle } = await fileSystem.create(rootInode, name, 0o600, readWrite, caller);
  if (content !== undefined) await fileSystem.write(handle, 0, content);
  return handle;
}

/** Copies as a program does: again and again, until nothing comes. */
async function copyAll(
  fileSystem: VmFileSystem,
  source: { readonly handle: HandleId; readonly offsetBytes: number },
  target: { readonly handle: HandleId; readonly offsetBytes: number },
  lengthBytes: number,
): Promise<readonly number[]> {
  const counts: number[] = [];
  for (let done = 0; done < lengthBytes;) {
    const count = await fileSystem.copyRange(
      { handle: source.handle, offsetBytes: source.offsetBytes + done },
      { handle: target.handle, offsetBytes: target.offsetBytes + done },
      lengthBytes - done,
    );
    if (count === 0) break;
    counts.push(count);
    done += count;
  }
  return counts;
}

t.test('copies within the overlay and from the base, in calls of a bounded length', async (t) => {
  const content = randomBytes(9 * mebibyte + 12_345);
  const { fileSystem, version } = await openTree(t, (version) => ({
    base: { file: version.addFile(content) },
  }));
  const base = await openPath(fileSystem, 'base');
  await fileSystem.write(base, 3 * mebibyte + 5, Buffer.from('changed'));
  content.write('changed', 3 * mebibyte + 5);

  const first = await newFile(fileSystem, 'first');
  version.inMemory = (offset) => offset < mebibyte;
  const counts = await copyAll(
    fileSystem,
    { handle: base, offsetBytes: 0 },
    { handle: first, offsetBytes: 0 },
    2 ** 40,
  );
  t.ok(counts.every((count) => count <= limits.copyBytes));
  t.ok((await readAll(fileSystem, first)).equals(content));

  const second = await newFile(fileSystem, 'second', Buffer.alloc(20_000, 7));
  await copyAll(
    fileSystem,
    { handle: first, offsetBytes: 1001 },
    { handle: second, offsetBytes: 5003 },
    3 * mebibyte,
  );
  const expected = Buffer.concat([Buffer.alloc(5003, 7), content.subarray(1001, 1001 + 3 * mebibyte)]);
  t.ok((await readAll(fileSystem, second)).equals(expected));
});

t.test('holes stay holes, and become holes where there was something', async (t) => {
  const sizeBytes = 2 ** 40;
  const { fileSystem } = await openTree(t, (version) => ({
    sparse: { file: version.addFile(Buffer.alloc(100, 1), sizeBytes) },
    full: { file: version.addFile(randomBytes(6 * chunkBytes)) },
  }));
  const sparse = await openPath(fileSystem, 'sparse');
  await fileSystem.write(sparse, sizeBytes - 10, Buffer.from('the end'));
  const copy = await newFile(fileSystem, 'copy', Buffer.alloc(3 * chunkBytes, 9));
  const position = (handle: HandleId, offsetBytes = 0) => ({ handle, offsetBytes });
  const calls = await copyAll(fileSystem, position(sparse), position(copy), 2 ** 41);
  t.equal(
    calls.reduce((sum, count) => sum + count, 0),
    sizeBytes,
  );
  t.ok(calls.length < 4, 'holes cost nothing');
  t.equal(fileSystem.seek(copy, chunkBytes, 'data'), sizeBytes - pageBytes);
  const { blocks, sizeBytes: copiedBytes } = fileSystem.getAttributes(fileSystem.inodeOf(copy));
  t.equal(copiedBytes, sizeBytes);
  t.ok(blocks * 512 <= 5 * chunkBytes);
  const into = Buffer.alloc(chunkBytes);
  t.equal(await fileSystem.read(copy, 2 * chunkBytes, into, 'demand'), chunkBytes);
  t.ok(
    into.every((byte) => byte === 0),
    'not what was there',
  );

  // Over the base of another file, and a hole at the end of the copied range makes the file longer.
  const full = await openPath(fileSystem, 'full');
  await copyAll(fileSystem, position(sparse, 50), position(full, 5 * chunkBytes + 1), 2 * chunkBytes);
  const content = await readAll(fileSystem, full);
  t.equal(content.length, 7 * chunkBytes + 1);
  t.ok(content.subarray(5 * chunkBytes + 1, 5 * chunkBytes + 51).every((byte) => byte === 1));
  t.ok(content.subarray(5 * chunkBytes + 51).every((byte) => byte === 0));
});

t.test('within one file, and what is refused', async (t) => {
  const content = randomBytes(100_000);
  const { fileSystem } = await openTree(t, (version) => ({ file: { file: version.addFile(content) } }));
  const file = await openPath(fileSystem, 'file');
  const reader = await openPath(fileSystem, 'file', 0);
  const position = (offsetBytes: number, handle = file) => ({ handle, offsetBytes });
  t.equal(await fileSystem.copyRange(position(10), position(50_010), 50_000), 50_000);
  t.ok((await readAll(fileSystem, file)).subarray(50_010).equals(content.subarray(10, 50_010)));
  t.equal((await readAll(fileSystem, file)).length, 100_010);

  const errno = (...args: Parameters<VmFileSystem['copyRange']>) =>
    errnoOf(() => fileSystem.copyRange(...args));
  t.equal(await errno(position(0), position(100), 101), 'EINVAL');
  t.equal(await errno(position(100), position(0), 101), 'EINVAL');
  t.equal(await errno(position(0, reader), position(100), 101), 'EINVAL', 'through another handle too');
  t.equal(await errno(position(0), position(500_000, reader), 10), 'EBADF');
  t.equal(await errno(position(0), position(limits.fileBytesMax), 10), 'EFBIG');
  t.equal(await errno(position(-1), position(0), 10), 'EINVAL');
  t.equal(await fileSystem.copyRange(position(0), position(100), 100), 100, 'side by side is no overlap');
  t.equal(await fileSystem.copyRange(position(100_010), position(0), 100), 0, 'at the end');
  t.equal(await fileSystem.copyRange(position(0), position(0), 0), 0);
  t.equal(await fileSystem.copyRange(position(100_000), position(0), 100), 10, 'up to the end');
});

t.test('what is not here is waited for; a failure after some bytes gives those bytes', async (t) => {
  const content = randomBytes(3 * mebibyte);
  const { fileSystem, version } = await openTree(t, (version) => ({
    far: { file: version.addFile(content) },
  }));
  const far = await openPath(fileSystem, 'far');
  const copy = await newFile(fileSystem, 'copy');
  const whole = (signal?: AbortSignal) =>
    fileSystem.copyRange({ handle: far, offsetBytes: 0 }, { handle: copy, offsetBytes: 0 }, 2 ** 30, signal);
  version.inMemory = () => false;
  version.beforeRead = ({ offsetBytes }) =>
    offsetBytes >= 2 * mebibyte ? Promise.reject(new Error('damaged')) : Promise.resolve();
  t.equal(await whole(), 2 * mebibyte);
  t.ok((await readAll(fileSystem, copy)).equals(content.subarray(0, 2 * mebibyte)));

  version.beforeRead = () => Promise.reject(new Error('damaged'));
  t.equal(await errnoOf(whole), 'EIO');
  const { signal } = new AbortController();
  version.beforeRead = ({ options }) => {
    t.equal(options.signal, signal);
    return Promise.reject(new Cancelled('The copy'));
  };
  t.equal(await errnoOf(() => whole(signal)), 'EINTR');
  version.beforeRead = () => Promise.resolve();
  t.equal(await whole(), 3 * mebibyte);
  t.ok((await readAll(fileSystem, copy)).equals(content));
});

t.test(
  'many copies at once, of which some wait: all are made, and a bounded number holds memory',
  async (t) => {
    const { fileSystem, version } = await openTree(t, (version) => ({
      far: { file: version.addFile(randomBytes(100_000)) },
    }));
    const far = await openPath(fileSystem, 'far');
    version.inMemory = () => false;
    let waiting = 0;
    let most = 0;
    version.beforeRead = async () => {
      waiting += 1;
      most = Math.max(most, waiting);
      await new Promise((resolve) => setTimeout(resolve, 5));
      waiting -= 1;
    };
    const copies = Array.from({ length: 3 * limits.copiesInFlight }, async (_, index) => {
      const copy = await newFile(fileSystem, String(index));
      return copyAll(fileSystem, { handle: far, offsetBytes: 0 }, { handle: copy, offsetBytes: 0 }, 2 ** 20);
    });
    for (const counts of await Promise.all(copies)) t.same(counts, [100_000]);
    t.ok(most <= limits.copiesInFlight);
  },
);

t.test('a copy waits while changes are frozen, and fails when the source is closed', async (t) => {
  const { fileSystem } = await openTree(t, () => ({}));
  const source = await newFile(fileSystem, 'source', Buffer.from('content'));
  const target = await newFile(fileSystem, 'target');
  fileSystem.freeze({ force: true });
  let isDone = false;
  const copying = fileSystem
    .copyRange({ handle: source, offsetBytes: 0 }, { handle: target, offsetBytes: 0 }, 100)
    .finally(() => (isDone = true));
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.equal(isDone, false);
  fileSystem.thaw();
  t.equal(await copying, 7);
  fileSystem.release(source);
  t.equal(
    await errnoOf(() =>
      fileSystem.copyRange({ handle: source, offsetBytes: 0 }, { handle: target, offsetBytes: 0 }, 100),
    ),
    'EBADF',
  );
});
