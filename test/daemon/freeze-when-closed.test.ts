import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { rootInode } from '../../src/fs/index.js';
import { SessionLab } from './session-support.js';

const readWrite = 2;

t.test('a publish waits for a file that the kernel has not released yet', async (t) => {
  const lab = await SessionLab.create(t);
  const session = await lab.open(lab.home);
  const { fileSystem } = session;
  const handle = await fileSystem.open(fileSystem.lookup(rootInode, 'disk').inode, readWrite);
  await fileSystem.write(handle, 0, Buffer.from('second'));
  const publishing = session.publish({ releaseLease: false });
  await sleep(1);
  fileSystem.release(handle);
  t.match(await publishing, { outcome: 'published', version: 2 });
});

t.test('a publish does not wait for a program that goes on writing, and fails', async (t) => {
  const lab = await SessionLab.create(t);
  const session = await lab.open(lab.home);
  const { fileSystem } = session;
  const handle = await fileSystem.open(fileSystem.lookup(rootInode, 'disk').inode, readWrite);
  await t.rejects(session.publish({ releaseLease: false }), { code: 'FILE_SYSTEM_BUSY' });
  await fileSystem.write(handle, 0, Buffer.from('second'));
  fileSystem.release(handle);
  t.match(await session.publish({ releaseLease: false }), { outcome: 'published', version: 2 });
});
