import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { openStore, type ObjectStore } from '../../src/store/index.js';
import { HttpStore } from '../../src/store/http-store.js';
import { FaultProxy } from '../support/fault-proxy.js';
import { bytes, key, keysOf, text } from './conformance.js';
import { storeMeetsWireFaults } from './wire-faults.js';

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

async function serve(t: Test, handler: Handler): Promise<string> {
  const server = createServer(handler);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function storeOver(t: Test, handler: Handler): Promise<ObjectStore> {
  const store = new HttpStore(await serve(t, handler));
  t.teardown(() => store[Symbol.asyncDispose]());
  return store;
}

/** A web server as it should be, over one object. */
function serveObject(content: Uint8Array, headers: Record<string, string> = {}): Handler {
  return ({ method, headers: { range } }, response) => {
    const match = /^bytes=(\d+)-(\d+)$/.exec(range ?? '');
    const [first, last] = match === null ? [0, content.length - 1] : [Number(match[1]), Number(match[2])];
    const body = content.subarray(first, last + 1);
    response.writeHead(match === null ? 200 : 206, {
      'content-length': body.length,
      ...(match === null ? {} : { 'content-range': `bytes ${first}-${last}/${content.length}` }),
      ...headers,
    });
    response.end(method === 'HEAD' ? undefined : body);
  };
}

const object = key('object');

t.test('each failure of the wire is told, and harmless', async (t) => {
  const content = Uint8Array.from({ length: 10_000 }, (_, index) => (index * 31) & 0xff);
  const upstream = await serve(t, serveObject(content));
  await storeMeetsWireFaults(t, {
    open: async (url) => new HttpStore(url, { idleMs: 1000 }),
    makeProxy: () => FaultProxy.start(upstream),
    key: object,
    content,
  });
});

t.test('nothing can be written, listed or made there', async (t) => {
  const url = await serve(t, serveObject(bytes('content')));
  const store = await openStore(url);
  t.teardown(() => store[Symbol.asyncDispose]());
  t.same(store.capabilities, { lists: false, writes: false });
  const readOnly = { code: 'STORE_REFUSED', message: /it can only be read/, remedy: /file:\/\/ or s3:\/\// };
  await t.rejects(store.put(object, [bytes('x')]), readOnly);
  await t.rejects(store.putIfAbsent(object, [bytes('x')]), readOnly);
  await t.rejects(store.delete(object), readOnly);
  await t.rejects(keysOf(store.list('')), { code: 'STORE_REFUSED', message: /no list of its objects/ });
  await t.rejects(openStore(url, { create: true }), {
    code: 'STORE_REFUSED',
    message: /no repository can be made/,
  });
});

t.test('user and password are sent, and shown nowhere', async (t) => {
  const seen: (string | undefined)[] = [];
  const url = await serve(t, ({ headers }, response) => {
    seen.push(headers.authorization);
    response.writeHead(401).end();
  });
  const store = await openStore(`${url.replace('//', '//us%40er:s%3Aecret@')}/path/`);
  t.teardown(() => store[Symbol.asyncDispose]());
  t.equal(store.description, `${url}/path`);
  const error: unknown = await store.get(object).catch((error: unknown) => error);
  t.same(seen, [`Basic ${Buffer.from('us@er:s:ecret').toString('base64')}`]);
  t.match(error, { code: 'STORE_REFUSED', message: /401 \(Unauthorized\)/, remedy: /user and password/ });
  const { message, stack } = error as Error;
  t.notMatch(JSON.stringify([message, stack, error, store.description]), /ecret|us.{1,3}er:|Basic/);
  for (const bad of [
    'https://user:secret@',
    'http://user:secret@host/?x=1',
    'http://user:%zz@host/',
    'http:user:secret',
  ]) {
    const refused: unknown = await openStore(bad).catch((error: unknown) => error);
    t.match(refused, { code: 'INVALID_INPUT' }, bad);
    t.notMatch(JSON.stringify([(refused as Error).message, (refused as Error).stack, refused]), /secret/);
  }
});

t.test('redirects are followed, without credentials to other servers', async (t) => {
  const seen: (string | undefined)[] = [];
  const there = await serve(t, (request, response) => {
    seen.push(request.headers.authorization);
    serveObject(bytes('content'))(request, response);
  });
  const here = await serve(t, ({ url }, response) => {
    const to = { '/object': '/second', '/second': `${there}/x`, '/directory': '/directory/' }[
      url?.split('?')[0] ?? ''
    ];
    response.writeHead(302, { location: to ?? '/loop' }).end('elsewhere');
  });
  const store = await openStore(here.replace('//', '//user:secret@'));
  t.teardown(() => store[Symbol.asyncDispose]());
  t.equal(text(await store.get(object, { offsetBytes: 0, lengthBytes: 4 })), 'cont');
  t.same(await store.stat(object), { key: 'object', lengthBytes: 7 });
  t.same(seen, [undefined, undefined]);
  t.equal(
    await store.stat(key('directory')),
    undefined,
    'the name of a directory is only the beginning of keys',
  );
  await t.rejects(store.get(key('loop')), { code: 'STORE_REFUSED', message: /again and again/ });
});

t.test('statuses mean what they say', async (t) => {
  const store = await storeOver(t, ({ url }, response) => {
    response.writeHead(Number(/\d+/.exec(url ?? '')?.[0]), { 'content-length': 0 }).end();
  });
  for (const status of [400, 401, 403, 405, 451])
    await t.rejects(store.get(key(`${status}`)), { code: 'STORE_REFUSED', message: new RegExp(`${status}`) });
  for (const status of [408, 429, 500, 502, 503, 504, 204, 304])
    await t.rejects(store.get(key(`${status}`)), {
      code: 'STORE_UNREACHABLE',
      message: new RegExp(`${status}`),
    });
  for (const status of [404, 410]) {
    await t.rejects(store.get(key(`${status}`)), { code: 'OBJECT_MISSING' });
    t.equal(await store.stat(key(`${status}`)), undefined);
  }
});

t.test('a cache is never believed that something is not there', async (t) => {
  const remembered = new Set<string>();
  let isThere = false;
  const asked: string[] = [];
  const store = await storeOver(t, (request, response) => {
    const { url = '', method = '' } = request;
    asked.push(
      `${method} ${url.includes('?') ? 'fresh' : 'cached'} ${request.headers['cache-control'] ?? ''}`.trim(),
    );
    if (!isThere) remembered.add(url);
    if (remembered.has(url)) response.writeHead(404, { 'content-length': 0 }).end();
    else serveObject(bytes('content'))(request, response);
  });
  await t.rejects(store.get(object), { code: 'OBJECT_MISSING' });
  t.equal(await store.stat(object), undefined);
  isThere = true;
  t.same(await store.stat(object), { key: 'object', lengthBytes: 7 });
  t.equal(text(await store.get(object)), 'content');
  t.same(asked, [
    ...['GET cached', 'GET fresh no-cache', 'HEAD fresh no-cache', 'HEAD fresh no-cache'],
    ...['GET cached', 'GET fresh no-cache'],
  ]);
});

t.test('what a server does to objects that are not its own', async (t) => {
  const compressing = await storeOver(t, serveObject(bytes('x'), { 'content-encoding': 'gzip' }));
  const refused = { code: 'STORE_REFUSED', message: /compressed \(gzip\)/ };
  await t.rejects(compressing.get(object), refused);
  await t.rejects(compressing.get(object, { offsetBytes: 0, lengthBytes: 1 }), refused);

  const lying = await storeOver(t, serveObject(bytes('content'), { 'content-range': 'bytes 1-3/7' }));
  await t.rejects(lying.get(object, { offsetBytes: 0, lengthBytes: 3 }), { message: /another range/ });

  const endless = await storeOver(t, (_, response) => {
    response.writeHead(200, { 'content-length': 2 ** 40 }).write('x');
  });
  await t.rejects(endless.get(object), { code: 'LIMIT_EXCEEDED', facts: { lengthBytes: 2 ** 40 } });

  const unmeasured = await storeOver(t, ({ method }, response) => {
    response.writeHead(200, { 'transfer-encoding': 'chunked' });
    response.end(method === 'HEAD' ? undefined : 'content');
  });
  t.equal(text(await unmeasured.get(object)), 'content');
  await t.rejects(unmeasured.stat(object), { code: 'STORE_REFUSED', message: /does not say how long/ });
});

t.test('validators: entity tags before times, and lengths always', async (t) => {
  let headers: Record<string, string> = {};
  let content = 'content';
  const store = await storeOver(t, (request, response) =>
    serveObject(bytes(content), headers)(request, response),
  );
  const get = () => store.get(object, { offsetBytes: 0, lengthBytes: 1 });
  const changed = { code: 'OBJECT_CHANGED', facts: { key: 'object' } };
  await get();
  headers = { etag: '"a"', 'last-modified': 'Mon' };
  await get();
  headers = { etag: 'W/"a"', 'last-modified': 'Tue' };
  await get();
  headers = { etag: '"b"', 'last-modified': 'Mon' };
  await t.rejects(get(), changed);
  await get();
  headers = { 'last-modified': 'Tue' };
  await t.rejects(get(), changed);
  headers = {};
  await get();
  content = 'contents';
  await t.rejects(get(), changed);
});
