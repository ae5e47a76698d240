import t from 'tap';
import { FileSystemError } from '../../src/fs/index.js';
import { errnoNumbers, failureOf } from '../../src/fuse/errno.js';

t.test('numbers are those of Linux', async (t) => {
  t.match(errnoNumbers, { EPERM: 1, ENOENT: 2, EIO: 5, EAGAIN: 11, ENOTEMPTY: 39, ENODATA: 61, EDQUOT: 122 });
});

t.test('an error of the file system is what it says', async (t) => {
  const missing = failureOf(new FileSystemError('ENOENT', 'missing'));
  t.same(missing, { errno: 2, serious: false, unexpected: false });
  t.same(failureOf(new FileSystemError('EIO', 'damaged')), { errno: 5, serious: true, unexpected: false });
});

t.test('anything else is EIO, and unexpected', async (t) => {
  for (const error of [new Error('bug'), undefined, 'text', { errno: 'ENOENT' }]) {
    t.same(failureOf(error), { errno: 5, serious: true, unexpected: true });
  }
});
