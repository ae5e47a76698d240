import { readdirSync } from 'node:fs';
import { mkdir, readdir, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { limits } from '../../src/base/index.js';
import { explainSystemError } from '../../src/store/directory-store/failures.js';
import { TemporaryFile } from '../../src/store/directory-store/temporary-file.js';
import { openStore, type ObjectStore } from '../../src/store/index.js';
import { bytes, key, keysOf, storeConformance, text } from './conformance.js';

async function makeStore(t: Test): Promise<{ store: ObjectStore; root: string }> {
  const root = join(t.testdir(), 'store');
  const store = await openStore(root, { create: true });
  t.teardown(() => store[Symbol.asyncDispose]());
  return { store, root };
}

/** Every operation, as they fail together. */
function everyRequest(store: ObjectStore): Record<string, () => Promise<unknown>> {
  return {
    get: () => store.get(key('a/object')),
    range: () => store.get(key('a/object'), { offsetBytes: 1, lengthBytes: 1 }),
    put: () => store.put(key('a/object'), [bytes('new')]),
    putInNewDirectory: () => store.put(key('b/c/object'), [bytes('new')]),
    putIfAbsent: () => store.putIfAbsent(key('a/object2'), [bytes('new')]),
    stat: () => store.stat(key('a/object')),
    delete: () => store.delete(key('a/object')),
    list: () => keysOf(store.list('')),
    listBelow: () => keysOf(store.list('a/')),
  };
}

t.test('contract', async (t) => {
  await storeConformance(t, async (t) => {
    const url = `file://${join(t.testdir(), 'parent/store')}`;
    return { store: await openStore(url, { create: true }), url };
  });
});

t.test('a store that vanishes is unreachable, is never made anew, and works when it is back', async (t) => {
  const { store, root } = await makeStore(t);
  await store.put(key('a/object'), [bytes('content')]);
  await rename(root, `${root}.away`);
  for (const [name, request] of Object.entries(everyRequest(store)))
    await t.rejects(request(), { code: 'STORE_UNREACHABLE', remedy: String }, name);
  t.same(await readdir(join(root, '..')), ['store.away']);
  await rename(`${root}.away`, root);
  t.equal(text(await store.get(key('a/object'))), 'content');
  await store.put(key('b/c/object'), [bytes('new')]);
  t.same(await keysOf(store.list('')), ['a/object', 'b/c/object']);
});

t.test('the empty mount point of a disk that is not there is no store', async (t) => {
  const { store, root } = await makeStore(t);
  await store.put(key('a/object'), [bytes('content')]);
  await rename(root, `${root}.away`);
  await mkdir(root);
  for (const [name, request] of Object.entries(everyRequest(store)))
    await t.rejects(request(), { code: 'STORE_UNREACHABLE', message: /tmp is not there/ }, name);
  await t.rejects(openStore(root), { code: 'STORE_UNREACHABLE' });
  t.same(await readdir(root), [], 'nothing was written to it');
});

t.test('a store that vanishes during a listing does not look shorter than it is', async (t) => {
  const { store, root } = await makeStore(t);
  for (const name of ['a/1', 'b/1', 'c/1']) await store.put(key(name), []);
  const list = store.list('')[Symbol.asyncIterator]();
  t.match(await list.next(), { value: { key: 'a/1' } });
  await rename(root, `${root}.away`);
  await t.rejects(list.next(), { code: 'STORE_UNREACHABLE' });
});

t.test('open does not create', async (t) => {
  const path = join(t.testdir(), 'missing');
  await t.rejects(openStore(path), {
    code: 'STORE_UNREACHABLE',
    facts: { store: `file://${path}`, key: null },
  });
  t.same(await readdir(join(path, '..')), []);
});

t.test('create takes what is there as it is', async (t) => {
  const { store, root } = await makeStore(t);
  await store.put(key('object'), [bytes('content')]);
  const again = await openStore(root, { create: true });
  t.teardown(() => again[Symbol.asyncDispose]());
  t.equal(text(await again.get(key('object'))), 'content');
  t.same((await readdir(root)).sort(), ['object', 'tmp'], 'and leaves no trace of trying');
});

t.test('where nothing can be written, create says so', async (t) => {
  await t.rejects(openStore('/sys/isr-store', { create: true }), { code: 'STORE_REFUSED', remedy: String });
  const file = join(t.testdir({ file: '' }), 'file');
  await t.rejects(openStore(file, { create: true }), { code: 'STORE_REFUSED' });
  await t.rejects(openStore(join(file, 'below'), { create: true }), { code: 'STORE_REFUSED' });
});

t.test('writes leave no temporary file behind, whether they succeed, fail or are cancelled', async (t) => {
  const { store, root } = await makeStore(t);
  await store.put(key('object'), [bytes('1')]);
  await store.put(key('object'), [bytes('2')]);
  await store.putIfAbsent(key('object'), [bytes('3')]);
  await t.rejects(store.put(key('object/below'), [bytes('4')]), {
    code: 'STORE_REFUSED',
    facts: { key: 'object/below' },
  });
  const parts = Array.from({ length: 2000 }, () => new Uint8Array(1000));
  const seen: number[] = [];
  const firesInTheMiddle = {
    get aborted() {
      return seen.push(readdirSync(join(root, 'tmp')).length) === 3;
    },
  } as AbortSignal;
  await t.rejects(store.put(key('other'), parts, { signal: firesInTheMiddle }), { code: 'CANCELLED' });
  t.same(seen, [0, 1, 1], 'before, and twice while it was written');
  t.same(await readdir(join(root, 'tmp')), []);
  t.same(await keysOf(store.list('')), ['object']);
});

t.test('files that are no objects are passed over', async (t) => {
  const { store, root } = await makeStore(t);
  await store.put(key('tmp/object'), [bytes('a key like any other')]);
  await writeFile(join(root, 'tmp', '.0b6c1b1e-dead-writer'), 'half of an obj');
  await writeFile(join(root, 'README'), '');
  await writeFile(join(root, '.hidden'), '');
  await mkdir(join(root, 'lost+found'));
  await writeFile(join(root, 'lost+found', 'x'), '');
  await symlink('tmp', join(root, 'link'));
  await mkdir(join(root, 'empty/directory'), { recursive: true });
  t.same(await keysOf(store.list('')), ['tmp/object']);
});

t.test('a write into a directory that somebody removed succeeds when it is tried again', async (t) => {
  const { store, root } = await makeStore(t);
  for (const write of ['put', 'putIfAbsent'] as const) {
    await store.put(key('a/b/one'), []);
    await rm(join(root, 'a'), { recursive: true });
    const attempt: Promise<unknown> = store[write](key('a/b/two'), []);
    await t.rejects(attempt, { code: 'STORE_UNREACHABLE' });
    await store[write](key('a/b/two'), []);
    t.same(await keysOf(store.list('a/')), ['a/b/two']);
  }
});

t.test('a link whose answer was lost has been made', async (t) => {
  const directory = t.testdir({ other: '' });
  const file = await TemporaryFile.create(directory);
  t.teardown(() => file[Symbol.asyncDispose]());
  const path = join(directory, 'object');
  t.equal(await file.placeIfAbsent(join(directory, 'other')), 'exists');
  t.equal(await file.placeIfAbsent(path), 'created');
  t.equal(await file.placeIfAbsent(path), 'created', 'what an NFS client sees when it repeats the request');
});

t.test('an object too long to be read in one piece is read by ranges', async (t) => {
  const { store, root } = await makeStore(t);
  await store.put(key('object'), []);
  await truncate(join(root, 'object'), limits.wholeObjectBytesMax + 1);
  await t.rejects(store.get(key('object')), { code: 'LIMIT_EXCEEDED', facts: { key: 'object' } });
  const range = { offsetBytes: limits.wholeObjectBytesMax, lengthBytes: 1 };
  t.equal((await store.get(key('object'), range)).length, 1);
});

t.test('a truncated file is a truncated object', async (t) => {
  const { store, root } = await makeStore(t);
  await store.put(key('object'), [new Uint8Array(1000)]);
  await truncate(join(root, 'object'), 500);
  t.equal((await store.get(key('object'), { offsetBytes: 0, lengthBytes: 500 })).length, 500);
  await t.rejects(store.get(key('object'), { offsetBytes: 400, lengthBytes: 200 }), {
    code: 'OBJECT_TRUNCATED',
    facts: { expectedBytes: 600, foundBytes: 500 },
  });
});

t.test('what the numbers of system errors mean', async (t) => {
  const failure = { store: 'file:///store', key: key('object') };
  const codeOf = (code: string) => {
    const error = Object.assign(new Error(`${code}: told so, write`), { code, syscall: 'write' });
    const explained = explainSystemError(error, failure);
    t.match(explained, { cause: error, facts: failure, remedy: String, message: /^file:\/\/\/store .*\.$/ });
    return (explained as { code: string }).code;
  };
  for (const code of ['ENOSPC', 'EDQUOT', 'EACCES', 'EPERM', 'EROFS', 'EFBIG', 'ENOTSUP', 'EXDEV'])
    t.equal(codeOf(code), 'STORE_REFUSED', code);
  for (const code of ['EIO', 'ESTALE', 'ENOTCONN', 'ETIMEDOUT', 'EMFILE', 'EHOSTDOWN', 'EWHATEVER'])
    t.equal(codeOf(code), 'STORE_UNREACHABLE', code);
  const mistake = new TypeError('a programming error');
  t.equal(explainSystemError(mistake, failure), mistake);
});
