import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import { localDirectoryOf, openStore } from '../../src/store/index.js';
import { bytes, key, text } from './conformance.js';

t.test('ways to name the same directory', async (t) => {
  const root = join(t.testdir(), 'sto re%20ü#?');
  const created = await openStore(root, { create: true });
  t.teardown(() => created[Symbol.asyncDispose]());
  await created.put(key('object'), [bytes('content')]);
  const url = pathToFileURL(root).href;
  t.equal(created.description, url);
  for (const name of [root, `${root}/`, `${root}//x/../`, url, `${url}/`, url.replace('file', 'FILE')]) {
    const store = await openStore(name);
    t.equal(store.description, url, name);
    t.equal(text(await store.get(key('object'))), 'content');
    await store[Symbol.asyncDispose]();
  }
});

t.test('the store in front of which a lab stands', async (t) => {
  const root = join(t.testdir(), 'store');
  const url = `lab+file://${root}`;
  const store = await openStore(`${url}?mbps=1000&rttMs=1&jitterMs=0.5&errorRate=0&seed=3`, { create: true });
  t.teardown(() => store[Symbol.asyncDispose]());
  t.equal(store.description, url);
  await store.put(key('object'), [bytes('content')]);

  const failing = await openStore(`${url}?errorRate=1`);
  t.teardown(() => failing[Symbol.asyncDispose]());
  await t.rejects(failing.get(key('object')), { code: 'STORE_UNREACHABLE' });
  const corrupting = await openStore(`${url}?corruptRate=1`);
  t.teardown(() => corrupting[Symbol.asyncDispose]());
  t.not(text(await corrupting.get(key('object'))), 'content');
  const truncating = await openStore(`lab+${root}?truncateRate=1.0`);
  t.teardown(() => truncating[Symbol.asyncDispose]());
  await t.rejects(truncating.get(key('object')), { code: 'OBJECT_TRUNCATED' });
});

t.test('names that are refused, with what would do', async (t) => {
  const refused = [
    '',
    'relative/path',
    './path',
    'file:relative',
    'file:/one-slash',
    'file://host/path',
    'file:///path?query=1',
    'file:///path#fragment',
    'file:///%',
    'file:///a%2fb',
    'file:///a%00b',
    '/zero\0character',
    'ftp://example.org/repository',
    'lab+relative',
    'lab+lab+file:///path',
  ];
  for (const url of refused)
    for (const create of [false, true])
      await t.rejects(
        openStore(url, { create }),
        { code: 'INVALID_INPUT', remedy: /s3:\/\/bucket.*file:\/\/\/absolute\/path/ },
        JSON.stringify(url),
      );
});

t.test('credentials in a URL are not repeated', async (t) => {
  const error: unknown = await openStore('ftp://user:secret@example.org/').catch((error: unknown) => error);
  t.match(error, { code: 'INVALID_INPUT', message: /ftp:/ });
  t.notMatch(JSON.stringify([(error as Error).message, error]), /secret/);
});

t.test('parameters of a lab are checked, by name', async (t) => {
  const root = join(t.testdir(), 'store');
  await mkdir(root);
  const refused = {
    'mbps=0': /mbps must be a number above 0, not "0"/,
    'mbps=fast': /mbps/,
    'mbps=': /mbps/,
    'mbps=1e3': /mbps/,
    'mbps=-1': /mbps/,
    'mbps=Infinity': /mbps/,
    'rttMs=-20': /rttMs must be milliseconds/,
    'errorRate=1.5': /errorRate must be a rate between 0 and 1/,
    'stallMs=-1': /stallMs must be milliseconds/,
    'outages=5': /outages must be seconds since the start, like 10-15,60-90/,
    'outages=9-5': /outages/,
    'outages=1-2&outages=3-4': /outages is given twice/,
    'seed=0.5': /seed must be a whole number/,
    'mbps=1&mbps=2': /mbps is given twice/,
    'rtt=20': /no parameter "rtt"/,
    'toString=1': /no parameter "toString"/,
  };
  for (const [query, message] of Object.entries(refused))
    await t.rejects(openStore(`lab+file://${root}?${query}`), { code: 'INVALID_INPUT', message }, query);
});

t.test('the directory of this host that a store is in', async (t) => {
  for (const url of ['/a b', '/a b/', 'file:///a%20b', 'lab+file:///a%20b?mbps=1', 'lab+/a b?mbps=1'])
    t.equal(localDirectoryOf(url), '/a b', url);
  for (const url of ['s3://bucket/path', 'https://example.org/file:///path', 'relative'])
    t.equal(localDirectoryOf(url), undefined, url);
  t.throws(() => localDirectoryOf('file:relative'), { code: 'INVALID_INPUT' });
});
