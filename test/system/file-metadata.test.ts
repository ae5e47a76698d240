import { lstat, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import {
  makeFifo,
  setTimes,
  setUserAttribute,
  SystemCallError,
  userAttributes,
} from '../../src/system/index.js';

t.test('times are exact, also before 1970 and of links themselves', async (t) => {
  const root = t.testdir({ file: '' });
  await symlink('nowhere', join(root, 'link'));
  for (const name of ['file', 'link']) {
    setTimes(join(root, name), -1n, 1_700_000_000_123_456_789n);
    const { atimeNs, mtimeNs } = await lstat(join(root, name), { bigint: true });
    t.same([atimeNs, mtimeNs], [-1n, 1_700_000_000_123_456_789n]);
  }
  t.throws(() => setTimes(join(root, 'missing'), 0n, 0n), { code: 'ENOENT', syscall: 'utimensat' });
});

t.test('user attributes come back as they were set', async (t) => {
  const file = join(t.testdir({ file: '' }), 'file');
  t.same(userAttributes(file), new Map());
  setUserAttribute(file, 'user.b', Buffer.alloc(3000, 7));
  setUserAttribute(file, 'user.a', new Uint8Array(0));
  t.same(
    [...userAttributes(file)],
    [
      ['user.a', new Uint8Array(0)],
      ['user.b', new Uint8Array(3000).fill(7)],
    ],
  );
  t.throws(() => userAttributes(`${file}-missing`), SystemCallError);
});

t.test('fifos are made', async (t) => {
  const path = join(t.testdir({}), 'fifo');
  makeFifo(path, 0o600);
  t.ok((await lstat(path)).isFIFO());
  t.throws(() => makeFifo(path, 0o600), { code: 'EEXIST' });
});
