import t from 'tap';
import { findMount, parseMountTable, readMountTable } from '../../src/fuse/index.js';

/** As the kernel escapes in /proc/self/mountinfo. */
const table = [
  '21 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw',
  '22 21 0:20 / /proc rw,nosuid shared:5 master:2 - proc proc rw',
  '42 21 0:39 / /vm/with\\040space rw,nosuid,nodev - fuse.isr isr:desk rw,user_id=0',
  '43 21 0:40 / /vm/a\\011b\\012c\\134d rw - fuse.isr isr:odd rw',
  '44 21 0:41 /sub\\040root /vm/ünïcode rw unbindable - fuse isr:x\\040y rw',
  'not a line of this table',
  '',
].join('\n');

t.test('parses what the kernel writes', async (t) => {
  t.same(parseMountTable(table), [
    { mountId: 21, device: '254:1', mountPath: '/', type: 'ext4', source: '/dev/vda1' },
    { mountId: 22, device: '0:20', mountPath: '/proc', type: 'proc', source: 'proc' },
    { mountId: 42, device: '0:39', mountPath: '/vm/with space', type: 'fuse.isr', source: 'isr:desk' },
    { mountId: 43, device: '0:40', mountPath: '/vm/a\tb\nc\\d', type: 'fuse.isr', source: 'isr:odd' },
    { mountId: 44, device: '0:41', mountPath: '/vm/ünïcode', type: 'fuse', source: 'isr:x y' },
  ]);
  t.same(parseMountTable(''), []);
});

t.test('reads the table of this host', async (t) => {
  t.match(await findMount('/proc'), { mountPath: '/proc', type: 'proc' });
  t.equal(await findMount('/proc/self'), undefined);
  t.ok((await readMountTable()).some(({ mountPath }) => mountPath === '/'));
});
