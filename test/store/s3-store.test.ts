import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { openStore, type ObjectStore } from '../../src/store/index.js';
import { parseS3Url } from '../../src/store/s3-store/location.js';
import { S3Store } from '../../src/store/s3-store.js';
import { bytes, key, text } from './conformance.js';
import { FakeS3, refuse, useAwsEnvironment, type Fault } from './fake-s3.js';

async function fakeStore(t: Test): Promise<{ fake: FakeS3; store: ObjectStore }> {
  const fake = await FakeS3.start(t);
  const store = await S3Store.open('s3://bucket/prefix');
  t.teardown(() => store[Symbol.asyncDispose]());
  await store.put(key('object'), [bytes('0123456789')]);
  return { fake, store };
}

interface ExpectedError {
  readonly name?: string;
  readonly code: string;
  readonly message?: RegExp;
  readonly facts?: object;
}

const always =
  (status: number, code: string): Fault =>
  (_request, response) => {
    refuse(response, status, code);
    return true;
  };

t.test('names of stores', async (t) => {
  t.same(parseS3Url('s3://my-bucket'), { bucket: 'my-bucket', prefix: '' });
  t.same(parseS3Url('S3://my.bucket/'), { bucket: 'my.bucket', prefix: '' });
  t.same(parseS3Url('s3://bucket/Some/pre_fix~1/'), { bucket: 'bucket', prefix: 'Some/pre_fix~1/' });
  for (const url of [
    's3://',
    's3:///prefix',
    's3://b',
    's3://bucket//prefix',
    's3://bucket/a b',
    's3://bucket/../x',
    's3://bucket/ü',
    's3://bucket/x?region=eu',
    `s3://bucket/${'x/'.repeat(300)}`,
  ])
    t.throws(() => parseS3Url(url), { code: 'INVALID_INPUT' }, url);
  t.throws(() => parseS3Url('s3://KEY:topsecret@bucket'), {
    message: /^(?!.*topsecret)/,
    remedy: /AWS_ACCESS_KEY_ID/,
  });
});

t.test('what each answer of S3 means to a user', async (t) => {
  const { fake, store } = await fakeStore(t);
  const meanings: readonly [number, string, string, RegExp][] = [
    [500, 'InternalError', 'STORE_UNREACHABLE', /cannot be reached: it answers 500 InternalError\.$/],
    [503, 'SlowDown', 'STORE_UNREACHABLE', /503 SlowDown/],
    [429, 'TooManyRequests', 'STORE_UNREACHABLE', /429/],
    [409, 'ConditionalRequestConflict', 'STORE_UNREACHABLE', /409/],
    [400, 'RequestTimeout', 'STORE_UNREACHABLE', /RequestTimeout/],
    [403, 'AccessDenied', 'STORE_REFUSED', /refuses: permission denied \(403 AccessDenied\)\.$/],
    [403, 'SignatureDoesNotMatch', 'STORE_REFUSED', /the credentials are not valid there/],
    [403, 'InvalidAccessKeyId', 'STORE_REFUSED', /the credentials are not valid there/],
    [401, 'Unauthorized', 'STORE_REFUSED', /the credentials are not valid there/],
    [400, 'ExpiredToken', 'STORE_REFUSED', /the credentials have expired/],
    [403, 'RequestTimeTooSkewed', 'STORE_REFUSED', /this host's clock is wrong/],
    [403, 'QuotaExceeded', 'STORE_REFUSED', /no space left/],
    [507, 'XMinioStorageFull', 'STORE_REFUSED', /no space left/],
    [404, 'NoSuchBucket', 'STORE_REFUSED', /there is no bucket bucket/],
    [501, 'NotImplemented', 'STORE_REFUSED', /does not know a request/],
    [400, '<html>', 'STORE_REFUSED', /does not accept the request \(status 400\)/],
  ];
  const object = key('object');
  const requests = {
    get: () => store.get(object),
    range: () => store.get(object, { offsetBytes: 1, lengthBytes: 2 }),
    put: () => store.put(object, [bytes('x')]),
    putIfAbsent: () => store.putIfAbsent(object, [bytes('x')]),
    delete: () => store.delete(object),
    deleteMany: () => store.delete([object]),
    list: () => store.list('')[Symbol.asyncIterator]().next(),
    stat: () => store.stat(object),
    empty: () => store.get(object, { offsetBytes: 0, lengthBytes: 0 }),
  };
  for (const [status, code, expected, message] of meanings) {
    fake.fault = always(status, code);
    for (const [name, request] of Object.entries(requests)) {
      const error: unknown = await request().then(
        () => undefined,
        (error: unknown) => error,
      );
      t.match(error, { code: expected, message }, `${name}: ${status} ${code}`);
      t.notMatch((error as Error).message, /test-key/, 'what the body repeats is not repeated');
    }
  }
});

t.test('a bucket elsewhere is named with its region', async (t) => {
  const { fake, store } = await fakeStore(t);
  fake.fault = (_request, response) => {
    response.setHeader('x-amz-bucket-region', 'eu-central-1');
    refuse(response, 301, 'PermanentRedirect');
    return true;
  };
  await t.rejects(store.get(key('object')), {
    code: 'STORE_REFUSED',
    message: /the bucket is in the region eu-central-1/,
    remedy: /AWS_REGION=eu-central-1/,
  });
});

t.test('answers that break off, are of the wrong range, or no ranges at all', async (t) => {
  const { fake, store } = await fakeStore(t);
  const range = { offsetBytes: 2, lengthBytes: 4 };
  const answers: Readonly<Record<string, [Fault, ExpectedError]>> = {
    'a body that breaks off': [
      (_request, response) => {
        response.writeHead(206, { 'content-length': 4, 'content-range': 'bytes 2-5/10' });
        response.write('23', () => response.destroy());
        return true;
      },
      { code: 'STORE_UNREACHABLE', message: /its answer broke off after 2 of 4 bytes/ },
    ],
    'another range': [
      (_request, response) => {
        response.writeHead(206, { 'content-length': 4, 'content-range': 'bytes 3-6/10' }).end('3456');
        return true;
      },
      { code: 'STORE_UNREACHABLE', message: /another range/ },
    ],
    'a shorter body than its range': [
      (_request, response) => {
        response.writeHead(206, { 'content-length': 3, 'content-range': 'bytes 2-5/10' }).end('234');
        return true;
      },
      { code: 'STORE_UNREACHABLE', message: /another range/ },
    ],
    'a shorter object': [
      (_request, response) => {
        response.writeHead(206, { 'content-length': 3, 'content-range': 'bytes 2-4/5' }).end('234');
        return true;
      },
      { code: 'OBJECT_TRUNCATED', facts: { expectedBytes: 6, foundBytes: 5 } },
    ],
    'the whole object': [
      (_request, response) => {
        response.writeHead(200, { 'content-length': 10 }).end('0123456789');
        return true;
      },
      { code: 'STORE_REFUSED', message: /does not answer with ranges/ },
    ],
    'a closed connection': [
      (request) => {
        request.socket.destroy();
        return true;
      },
      { code: 'STORE_UNREACHABLE', message: /the connection broke off/ },
    ],
  };
  for (const [name, [fault, error]] of Object.entries(answers)) {
    fake.fault = fault;
    await t.rejects(store.get(key('object'), range), error, name);
    await t.rejects(drain(store.read(key('object'), range)), error, `${name}, read in pieces`);
    fake.fault = () => false;
    t.equal(text(await store.get(key('object'), range)), '2345', 'and works again');
  }
});

t.test('a kept connection that the server has closed is no failure, except for a creation', async (t) => {
  const { fake, store } = await fakeStore(t);
  const closeOnce = (): void => {
    let isFirst = true;
    fake.fault = (request) => {
      if (isFirst) request.socket.destroy();
      const wasFirst = isFirst;
      isFirst = false;
      return wasFirst;
    };
  };
  closeOnce();
  t.equal(text(await store.get(key('object'))), '0123456789');
  closeOnce();
  await store.put(key('object'), [bytes('new')]);
  closeOnce();
  await t.rejects(store.putIfAbsent(key('other'), [bytes('x')]), { code: 'STORE_UNREACHABLE' });
});

t.test('a long upload in many parts gathers nothing while it waits for the network', async (t) => {
  const { fake, store } = await fakeStore(t);
  const warnings: Error[] = [];
  const listen = (warning: Error): unknown => warnings.push(warning);
  process.on('warning', listen);
  t.teardown(() => process.off('warning', listen));
  const parts = Array.from({ length: 400 }, (_, index) => new Uint8Array(100_000).fill(index));
  await store.put(key('long'), parts);
  await new Promise(setImmediate);
  t.same(warnings, []);
  t.ok(fake.objects.get('/bucket/prefix/long')?.equals(Buffer.concat(parts)));
});

t.test('cancelling ends a request that hangs, before its answer and within it', async (t) => {
  const { fake, store } = await fakeStore(t);
  const faults: readonly Fault[] = [
    () => true,
    (_request, response) => {
      response.writeHead(206, { 'content-length': 4, 'content-range': 'bytes 2-5/10' }).write('23');
      return true;
    },
  ];
  const range = { offsetBytes: 2, lengthBytes: 4 };
  for (const fault of faults) {
    for (const request of [
      (signal: AbortSignal): Promise<unknown> => store.get(key('object'), range, { signal }),
      (signal: AbortSignal) => drain(store.read(key('object'), range, { signal })),
    ]) {
      const controller = new AbortController();
      fake.fault = (...exchange) => {
        setImmediate(() => controller.abort());
        return fault(...exchange);
      };
      await t.rejects(request(controller.signal), { code: 'CANCELLED' });
    }
  }
});

t.test('nobody listens, or nobody speaks HTTP', async (t) => {
  const server = createServer((socket) => socket.resume().end('SSH-2.0-OpenSSH\r\n'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  useAwsEnvironment(t, { AWS_ENDPOINT_URL: endpoint, AWS_ACCESS_KEY_ID: 'k', AWS_SECRET_ACCESS_KEY: 's' });
  const store = await S3Store.open('s3://bucket');
  t.teardown(() => store[Symbol.asyncDispose]());
  t.equal(store.description, `s3://bucket (${new URL(endpoint).host})`);
  const error = { code: 'STORE_UNREACHABLE', message: /it does not speak HTTP/ };
  await t.rejects(store.get(key('object')), error);
  await new Promise((resolve) => server.close(resolve));
  await t.rejects(store.get(key('object')), {
    code: 'STORE_UNREACHABLE',
    message: /^s3:\/\/bucket \(127\.0\.0\.1:\d+\) cannot be reached: the connection was refused\.$/,
  });
});

t.test('without credentials a request is refused, and says where they are looked for', async (t) => {
  await FakeS3.start(t);
  delete process.env['AWS_SECRET_ACCESS_KEY'];
  const store = await S3Store.open('s3://bucket');
  t.teardown(() => store[Symbol.asyncDispose]());
  await t.rejects(store.get(key('object')), {
    code: 'STORE_REFUSED',
    message: /no credentials were found/,
    remedy: /AWS_ACCESS_KEY_ID.*~\/\.aws/,
  });
});

t.test(
  'profiles: endpoint, region and credentials, which are read again when they are refused',
  async (t) => {
    const fake = await FakeS3.start(t);
    const directory = t.testdir();
    const credentials = join(directory, 'credentials');
    const config = join(directory, 'config');
    const write = (secret: string) =>
      writeFile(credentials, `[work]\naws_access_key_id = ${secret}\naws_secret_access_key = x\n`);
    await write('OLD');
    const services = `[services mine]\ns3 =\n  endpoint_url = ${fake.endpoint}\n`;
    await writeFile(config, `[profile work]\nregion = eu-south-2\nservices = mine\n${services}`);
    useAwsEnvironment(t, {
      ...{ AWS_PROFILE: 'work', AWS_CONFIG_FILE: config, AWS_SHARED_CREDENTIALS_FILE: credentials },
    });
    const used: string[] = [];
    fake.fault = (request, response) => {
      const scope = /Credential=([^/]*)\/\d+\/([^/]*)\/s3/.exec(request.headers.authorization ?? '');
      used.push(`${scope?.[1] ?? ''} ${scope?.[2] ?? ''}`);
      if (scope?.[1] === 'NEW') return false;
      refuse(response, 403, 'InvalidAccessKeyId');
      return true;
    };
    const store = await S3Store.open('s3://bucket');
    t.teardown(() => store[Symbol.asyncDispose]());
    await t.rejects(store.put(key('object'), [bytes('x')]), { code: 'STORE_REFUSED' });
    await write('NEW');
    await store.put(key('object'), [bytes('x')]);
    t.same(used, ['OLD eu-south-2', 'OLD eu-south-2', 'OLD eu-south-2', 'NEW eu-south-2']);
  },
);

t.test('a configuration that cannot be used', async (t) => {
  for (const endpoint of ['ftp://host', 'nonsense', 'http://user:topsecret@host']) {
    useAwsEnvironment(t, { AWS_ENDPOINT_URL_S3: endpoint });
    await t.rejects(S3Store.open('s3://bucket'), { code: 'INVALID_INPUT', message: /^(?!.*topsecret)/ });
  }
});

t.test('a new repository is refused where put-if-absent is not kept', async (t) => {
  const fake = await FakeS3.start(t);
  const sound = await openStore('s3://bucket/prefix', { create: true });
  await sound[Symbol.asyncDispose]();
  t.equal(fake.objects.size, 0, 'nothing is left of the proof');

  fake.keepsConditions = false;
  await t.rejects(openStore('s3://bucket/prefix', { create: true }), {
    code: 'PUT_IF_ABSENT_MISSING',
    message: /does not keep put-if-absent: it let an object that was there be replaced/,
    remedy: /Two hosts could publish the same version/,
  });
  t.equal(fake.objects.size, 0, 'nothing is left of the proof');
});

t.test('a store that checks before it writes, instead of both at once, is found out', async (t) => {
  const fake = await FakeS3.start(t);
  const created = new Set<string>();
  fake.fault = (request, response) => {
    const url = request.url ?? '';
    if (request.method !== 'PUT' || !url.endsWith('/contested')) return false;
    // The second of them is told the same as the first.
    if (created.size < 2) {
      created.add(`${created.size}`);
      response.writeHead(200, { 'content-length': 0 }).end();
    } else refuse(response, 412, 'PreconditionFailed');
    return true;
  };
  await t.rejects(openStore('s3://bucket', { create: true }), {
    code: 'PUT_IF_ABSENT_MISSING',
    message: /of 8 writers that created an object at the same moment, 2 were told that they had/,
  });
});

async function drain(pieces: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const _ of pieces);
}
