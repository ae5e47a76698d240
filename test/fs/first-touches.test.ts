import { constants } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { openOverlay, type VmFileSystem } from '../../src/fs/index.js';
import { manifestOf } from './support/fake-version.js';
import { openPath, temporaryDirectory } from './support/open-file-system.js';
import { residentChunkBytes, ResidentVersion } from './support/resident-version.js';

const chunks = 6;

/** A file `mem` in a directory, of which chunk 2 is a hole; and what is heard of its touches. */
async function openLab(t: Test): Promise<{ fileSystem: VmFileSystem; touched: string[] }> {
  const version = new ResidentVersion(chunks);
  const content = Buffer.alloc(chunks * residentChunkBytes, 1);
  content.fill(0, 2 * residentChunkBytes, 3 * residentChunkBytes);
  const tree = { vm: { directory: { mem: { file: version.addFile(content) } } } };
  const fileSystem = await openOverlay({
    directory: join(temporaryDirectory(t), 'overlay'),
    base: { manifest: manifestOf(tree), identity: '1' },
    openFile: version.openFile,
    chunkMemory: version.memory.shared,
    bootId: 'boot 1',
  });
  t.teardown(() => fileSystem[Symbol.asyncDispose]());
  const touched: string[] = [];
  fileSystem.watchTouches((path, chunkIndex) => touched.push(`${path}:${chunkIndex}`));
  return { fileSystem, touched };
}

const page = Buffer.alloc(4096);

t.test('the first read of each chunk of the version is told, once and in order', async (t) => {
  const { fileSystem, touched } = await openLab(t);
  const handle = await openPath(fileSystem, 'vm/mem', constants.O_RDWR);
  await fileSystem.read(handle, 4 * residentChunkBytes, page, 'demand');
  await fileSystem.read(handle, 0, page, 'demand');
  await fileSystem.read(handle, 8192, page, 'demand');
  await fileSystem.read(handle, 2 * residentChunkBytes, page, 'demand');
  await fileSystem.read(handle, residentChunkBytes - 100, page, 'demand');
  t.strictSame(touched, ['vm/mem:4', 'vm/mem:0', 'vm/mem:1']);
});

t.test('neither a replay nor what the overlay has is a touch', async (t) => {
  const { fileSystem, touched } = await openLab(t);
  const handle = await openPath(fileSystem, 'vm/mem', constants.O_RDWR);
  await fileSystem.read(handle, 3 * residentChunkBytes, page, 'replay');
  await fileSystem.write(handle, 5 * residentChunkBytes, page);
  await fileSystem.read(handle, 5 * residentChunkBytes, page, 'demand');
  t.strictSame(touched, []);
  await fileSystem.read(handle, 3 * residentChunkBytes, page, 'demand');
  t.strictSame(touched, ['vm/mem:3'], 'the guest wants it later all the same');
});

t.test('nobody is told any more once nobody watches', async (t) => {
  const { fileSystem, touched } = await openLab(t);
  const handle = await openPath(fileSystem, 'vm/mem', constants.O_RDWR);
  fileSystem.watchTouches(undefined);
  await fileSystem.read(handle, 0, page, 'demand');
  t.strictSame(touched, []);
});
