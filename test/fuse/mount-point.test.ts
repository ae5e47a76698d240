import { symlink, mkdir, writeFile, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { checkMountPoint } from '../../src/fuse/index.js';

t.test('accepts an empty directory', async (t) => {
  const directory = await realpath(t.testdir({ mount: {} }));
  t.equal(await checkMountPoint(join(directory, 'mount'), []), join(directory, 'mount'));
});

t.test('resolves symbolic links in its parents', async (t) => {
  const directory = await realpath(t.testdir({ real: { mount: {} } }));
  await symlink('real', join(directory, 'link'));
  t.equal(await checkMountPoint(join(directory, 'link/mount'), []), join(directory, 'real/mount'));
});

t.test('refuses with one clear sentence', async (t) => {
  const directory = await realpath(t.testdir({ file: '', full: { content: '' }, mount: {} }));
  await symlink('mount', join(directory, 'link'));
  const cases: readonly [path: string, message: RegExp][] = [
    ['relative/path', /not absolute/],
    ['', /not absolute/],
    ['/', /root directory/],
    [`${directory}/missing`, /does not exist/],
    [`${directory}/file`, /not a directory/],
    [`${directory}/file/below`, /does not exist/],
    [`${directory}/full`, /not empty/],
    [`${directory}/link`, /symbolic link/],
    [`${directory}/mount/`, /plain form/],
    [`${directory}/x/../mount`, /plain form/],
    [`${directory}//mount`, /plain form/],
    [`${directory}/a\nb`, /control/],
    [`/${'x'.repeat(255)}/`.repeat(5), /too long/],
  ];
  for (const [path, message] of cases) {
    await t.rejects(checkMountPoint(path, []), { code: 'INVALID_MOUNT_POINT', message }, path);
  }
});

t.test('refuses what is a mount already, or has one inside', async (t) => {
  await t.rejects(checkMountPoint('/proc', []), { code: 'MOUNT_BUSY', message: /a proc mount/ });
});

t.test('refuses to overlap what isr itself uses', async (t) => {
  const directory = await realpath(t.testdir({ mount: {}, mounting: {}, other: {} }));
  const mount = join(directory, 'mount');
  for (const forbidden of [mount, directory, join(mount, 'home'), join(mount, 'not/there/yet')]) {
    await t.rejects(checkMountPoint(mount, [forbidden]), {
      code: 'INVALID_MOUNT_POINT',
      message: /overlaps/,
    });
  }
  await mkdir(join(directory, 'other/home'));
  await symlink('../mount', join(directory, 'other/link'));
  await t.rejects(checkMountPoint(mount, [join(directory, 'other/link/home')]), { message: /overlaps/ });
  await writeFile(join(directory, 'other/file'), '');
  t.equal(await checkMountPoint(mount, [join(directory, 'other'), join(directory, 'mounting')]), mount);
});
