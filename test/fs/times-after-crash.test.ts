/** The disk remembers when a file was last overwritten in place; what the overlay itself tidies up does not count. */
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { openOverlay, rootInode } from '../../src/fs/index.js';
import { chunkBytes } from './support/fake-version.js';
import { openPath, openTree, temporaryDirectory } from './support/open-file-system.js';

/** Crashes twice, and answers the modification time that is found then. */
async function timeAfterCrashes(
  t: Test,
  { options }: Pick<Awaited<ReturnType<typeof openTree>>, 'options'>,
): Promise<bigint> {
  let { directory } = options;
  let timeNs = 0n;
  for (let crash = 0; crash < 2; crash++) {
    const copy = join(temporaryDirectory(t), 'overlay');
    cpSync(directory, copy, { recursive: true, preserveTimestamps: true });
    directory = copy;
    const fileSystem = await openOverlay({ ...options, directory });
    t.teardown(() => fileSystem.close());
    timeNs = fileSystem.lookup(rootInode, 'file').modifyTimeNs;
  }
  return timeNs;
}

for (const truncates of [false, true]) {
  t.test(`a time that was set survives a crash (${truncates ? 'cut off' : 'written'} before)`, async (t) => {
    const opened = await openTree(t, (version) => ({
      file: { file: version.addFile(Buffer.alloc(chunkBytes, 1)) },
    }));
    const { fileSystem } = opened;
    const handle = await openPath(fileSystem, 'file');
    const inode = fileSystem.inodeOf(handle);
    await fileSystem.write(handle, 0, Buffer.alloc(2 * chunkBytes + 100, 2));
    if (truncates) await fileSystem.setAttributes(inode, { sizeBytes: 5000 });
    await fileSystem.setAttributes(inode, { modifyTimeNs: 5n });
    // What was cut off is given back when that is durable.
    await fileSystem.syncAll();
    t.equal(await timeAfterCrashes(t, opened), 5n);
  });
}
