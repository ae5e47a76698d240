/** An overlay knows which commits were to be made from it, and whether it is still what they say. */
import { randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import { limits } from '../../src/base/index.js';
import { openOverlay, readOverlaySummary, rootInode, type AnnouncedCommits } from '../../src/fs/index.js';
import { bootId } from '../../src/system/index.js';
import { chunkBytes, type FakeVersion } from './support/fake-version.js';
import {
  caller,
  copyAtCrash,
  openPath,
  openTree,
  readAll,
  readWrite,
  type Opened,
} from './support/open-file-system.js';
import { publishInto } from './support/publish.js';

const disk = (version: FakeVersion) => ({ disk: { file: version.addFile(randomBytes(3 * chunkBytes)) } });

/** An overlay with a changed page, whose state was announced as `commit 1`. */
async function announcedTree(t: Test, options: Parameters<typeof openTree>[2] = {}): Promise<Opened> {
  const opened = await openTree(t, disk, { bootId: bootId(), ...options });
  const { fileSystem } = opened;
  const handle = await openPath(fileSystem, 'disk');
  await fileSystem.write(handle, 0, Buffer.alloc(4096, 1));
  fileSystem.release(handle);
  fileSystem.freeze();
  await fileSystem.flush();
  await fileSystem.announceCommit('commit 1');
  return opened;
}

async function announcedAt(t: Test, directory: string): Promise<AnnouncedCommits | undefined> {
  return (await readOverlaySummary(copyAtCrash(t, directory)))?.announced;
}

const unchanged = { commits: ['commit 1'], changedSince: false };
const changed = { commits: ['commit 1'], changedSince: true };

t.test('an announcement needs a frozen file system, and lasts until the base is replaced', async (t) => {
  const { fileSystem, version, options } = await openTree(t, disk, { bootId: bootId() });
  t.throws(() => fileSystem.announceCommit('early'), /not frozen/);
  t.same(fileSystem.announced, { commits: [], changedSince: true });
  fileSystem.freeze();
  await fileSystem.announceCommit('commit 1');
  t.same(fileSystem.announced, unchanged);
  await fileSystem.announceCommit('commit 2');
  t.same(fileSystem.announced, { commits: ['commit 1', 'commit 2'], changedSince: false });
  await fileSystem.rebase('2', await publishInto(version, fileSystem.publishSource(chunkBytes)));
  t.same(fileSystem.announced, { commits: [], changedSince: true });
  t.same((await readOverlaySummary(options.directory))?.announced, { commits: [], changedSince: true });
  fileSystem.thaw();
});

t.test('whoever opens it after a crash knows, whether the process or the host died', async (t) => {
  const { fileSystem, options } = await announcedTree(t);
  const directory = copyAtCrash(t, options.directory);
  fileSystem.thaw();
  for (const boot of [bootId(), 'boot 2', 'boot 2', undefined]) {
    const again = await openOverlay({ ...options, directory, bootId: boot });
    t.same(again.announced, unchanged, String(boot));
    await again.flush();
    t.same(again.announced, unchanged, 'flushing is no change');
    await again.close();
  }
});

const changes: Readonly<Record<string, (opened: Opened) => Promise<void>>> = {
  'in place': async ({ fileSystem }) => {
    const handle = await openPath(fileSystem, 'disk');
    await fileSystem.write(handle, 100, Buffer.from('in place'));
    fileSystem.release(handle);
  },
  'of another page': async ({ fileSystem }) => {
    const handle = await openPath(fileSystem, 'disk');
    await fileSystem.write(handle, 8192, Buffer.alloc(4096, 2));
    fileSystem.release(handle);
  },
  'by zeros in place': async ({ fileSystem }) => {
    const handle = await openPath(fileSystem, 'disk');
    await fileSystem.allocate(handle, 'punchHole', 100, 10);
    fileSystem.release(handle);
  },
  'of the size': async ({ fileSystem }) => {
    await fileSystem.setAttributes(fileSystem.lookup(rootInode, 'disk').inode, { sizeBytes: 100 });
  },
  'of names': async ({ fileSystem }) => {
    const { handle } = await fileSystem.create(rootInode, 'new', 0o600, readWrite, caller);
    fileSystem.release(handle);
  },
  'of attributes': async ({ fileSystem }) => {
    await fileSystem.setAttributes(rootInode, { permissions: 0o700 });
  },
};

for (const [what, change] of Object.entries(changes)) {
  t.test(`a change ${what} after an announcement is never missed`, async (t) => {
    const opened = await announcedTree(t);
    const { fileSystem, options } = opened;
    opened.fileSystem.thaw();
    t.same(await announcedAt(t, options.directory), unchanged);
    await change(opened);
    t.same(fileSystem.announced, changed);
    t.same(await announcedAt(t, options.directory), changed, 'after SIGKILL');
    await fileSystem.flush();
    const rebooted = await openOverlay({
      ...options,
      directory: copyAtCrash(t, options.directory),
      bootId: 'boot 2',
    });
    t.same(rebooted.announced, changed, 'after power loss');
    await rebooted.close();
  });
}

t.test('what power loss takes away was no change', async (t) => {
  const opened = await announcedTree(t);
  const { fileSystem, options, version } = opened;
  const wanted = await readAll(fileSystem, await openPath(fileSystem, 'disk', 0));
  fileSystem.thaw();
  await changes['of another page']?.(opened);
  const directory = copyAtCrash(t, options.directory);
  const rebooted = await openOverlay({ ...options, directory, bootId: 'boot 2' });
  t.teardown(() => rebooted.close());
  t.same(rebooted.announced, unchanged);
  t.ok((await readAll(rebooted, await openPath(rebooted, 'disk', 0))).equals(wanted));
  rebooted.freeze();
  await rebooted.rebase('2', await publishInto(version, rebooted.publishSource(chunkBytes)));
  rebooted.thaw();
  t.same(rebooted.dirty(), { bytes: 0, changedFiles: 0 });
});

t.test('a journal that is written anew still says so', async (t) => {
  const { fileSystem, options } = await announcedTree(t, { journalGrowthBytes: 4096 });
  fileSystem.thaw();
  for (let round = 0; round < 200; round += 1) {
    await fileSystem.setAttributes(rootInode, { permissions: 0o700 + (round % 8) });
  }
  await fileSystem.flush();
  t.same(fileSystem.announced, changed);
  await fileSystem.close();
  t.same((await readOverlaySummary(options.directory))?.announced, changed);
});

t.test('not without a bound', async (t) => {
  const { fileSystem } = await openTree(t, disk);
  fileSystem.freeze();
  for (let commit = 0; commit < limits.overlayAnnouncedCommits + 3; commit += 1) {
    await fileSystem.announceCommit(String(commit));
  }
  t.equal(fileSystem.announced.commits.length, limits.overlayAnnouncedCommits);
  t.equal(fileSystem.announced.commits.at(-1), String(limits.overlayAnnouncedCommits + 2));
  fileSystem.thaw();
});
