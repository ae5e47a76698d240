import t from 'tap';
import { isObjectKey, objectKey } from '../../src/store/index.js';

t.test('keys', async (t) => {
  for (const good of ['a', '0', 'a/b', 'packs/ab/0123.x', '-', '_', 'a..b/c-_.', 'x'.repeat(200)]) {
    t.equal(objectKey(good), good);
    t.ok(isObjectKey(good));
  }
});

t.test('what is no key is a programming error', async (t) => {
  const bad = [
    '',
    '/',
    '/a',
    'a/',
    'a//b',
    '.',
    '..',
    '.a',
    'a/.b',
    'a/../b',
    'A',
    'é',
    'a b',
    'a\n',
    'a\0',
    'a\\b',
  ];
  for (const text of [...bad, 'x'.repeat(201)]) {
    t.notOk(isObjectKey(text), JSON.stringify(text));
    t.throws(() => objectKey(text), /not an object key/);
  }
});
