/** An overlay whose disk is full: new changes fail, everything else goes on, and space heals it. */
import { join } from 'node:path';
import t from 'tap';
import { openOverlay, rootInode, type OpenOverlayOptions, type VmFileSystem } from '../src/fs/index.js';
import { chunkBytes, FakeVersion, manifestOf } from '../test/fs/support/fake-version.js';
import { caller, errnoOf, openPath, readAll } from '../test/fs/support/open-file-system.js';
import { publishInto } from '../test/fs/support/publish.js';
import { SmallDisk } from './support/small-disk.js';

/** Makes files until there is no room for one more, and answers how many. */
async function createUntilFull(fileSystem: VmFileSystem): Promise<number> {
  for (let count = 0; ; count += 1) {
    const errno = await errnoOf(() => fileSystem.makeNode(rootInode, `file ${count}`, 0o600, caller));
    if (errno === 'ENOSPC') return count;
    if (errno !== undefined) throw new Error(errno);
  }
}

t.test('the journal keeps room for what must go on', async (t) => {
  const disk = await SmallDisk.mount(t, 4 * 1024 * 1024);
  const version = new FakeVersion();
  const base = Buffer.alloc(3 * chunkBytes, 'what the version holds');
  const options: OpenOverlayOptions = {
    directory: join(disk.path, 'overlay'),
    base: { manifest: manifestOf({ disk: { file: version.addFile(base) } }), identity: '1' },
    openFile: version.openFile,
  };
  let fileSystem = await openOverlay(options);
  t.teardown(() => fileSystem.close());
  const handle = await openPath(fileSystem, 'disk');
  await fileSystem.write(handle, 0, Buffer.alloc(4096, 1));
  disk.fill();

  const files = await createUntilFull(fileSystem);
  t.ok(files > 0, 'what room there was is used');
  t.equal(await errnoOf(() => fileSystem.write(handle, chunkBytes, Buffer.alloc(8192, 2))), 'ENOSPC');
  base.fill(1, 0, 4096);
  t.ok((await readAll(fileSystem, handle)).equals(base), 'nothing of the write shows');
  await fileSystem.write(handle, 10, Buffer.from('in place'));
  base.write('in place', 10);
  await fileSystem.flush();
  await fileSystem.unlink(rootInode, 'file 0');
  fileSystem.release(handle);

  fileSystem.freeze();
  await fileSystem.flush();
  await fileSystem.announceCommit('commit 1');
  const published = await publishInto(version, fileSystem.publishSource(chunkBytes));
  t.equal(await errnoOf(() => fileSystem.rebase('2', published)), 'ENOSPC');
  fileSystem.thaw();
  t.same(fileSystem.announced, { commits: ['commit 1'], changedSince: false });

  await fileSystem.close();
  fileSystem = await openOverlay(options);
  t.same(fileSystem.announced, { commits: ['commit 1'], changedSince: false }, 'opened on a full disk');
  t.equal(fileSystem.readDirectory(rootInode).length, files, 'every file but the removed one, and the disk');
  const again = await openPath(fileSystem, 'disk');
  t.ok((await readAll(fileSystem, again)).equals(base));
  fileSystem.release(again);

  disk.free();
  fileSystem.freeze();
  await fileSystem.rebase('2', await publishInto(version, fileSystem.publishSource(chunkBytes)));
  fileSystem.thaw();
  t.same(fileSystem.dirty(), { bytes: 0, changedFiles: 0 });
  const healed = await openPath(fileSystem, 'disk');
  await fileSystem.write(healed, chunkBytes, Buffer.alloc(8192, 2));
  base.fill(2, chunkBytes, chunkBytes + 8192);
  t.ok((await readAll(fileSystem, healed)).equals(base));
});

t.test('however often it is full and freed again', async (t) => {
  const disk = await SmallDisk.mount(t, 4 * 1024 * 1024);
  const version = new FakeVersion();
  const options: OpenOverlayOptions = {
    directory: join(disk.path, 'overlay'),
    base: { manifest: manifestOf({}), identity: '1' },
    openFile: version.openFile,
  };
  let fileSystem = await openOverlay(options);
  t.teardown(() => fileSystem.close());
  for (let round = 0; round < 5; round += 1) {
    disk.fill();
    const files = await createUntilFull(fileSystem);
    for (let file = 0; file < files; file += 1) {
      if ((await errnoOf(() => fileSystem.unlink(rootInode, `file ${file}`))) !== undefined) break;
    }
    await fileSystem.flush();
    await fileSystem.close();
    fileSystem = await openOverlay(options);
    disk.free();
    for (const { name } of fileSystem.readDirectory(rootInode)) fileSystem.unlink(rootInode, name);
    await fileSystem.flush();
  }
  t.same(fileSystem.readDirectory(rootInode), []);
});
