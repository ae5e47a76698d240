/** Repositories on a real web server. */
import { execFile } from 'node:child_process';
import { utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import {
  everyCapability,
  openStore,
  type ByteRange,
  type ObjectInfo,
  type ObjectKey,
  type ObjectStore,
  type RequestOptions,
} from '../src/store/index.js';
import { Nginx } from '../fixtures/nginx.js';
import { bytes, key, storeConformance, text } from '../test/store/conformance.js';

/** Writes to a directory, and reads over HTTP as somebody who comes after the write. */
class Published implements ObjectStore {
  readonly capabilities = everyCapability;
  readonly #directory: ObjectStore;
  readonly #url: string;
  readonly #readers: ObjectStore[] = [];

  private constructor(directory: ObjectStore, url: string, reader: ObjectStore) {
    this.#directory = directory;
    this.#url = url;
    this.#readers.push(reader);
  }

  static async open(root: string, url: string): Promise<Published> {
    return new Published(await openStore(root, { create: true }), url, await openStore(url));
  }

  get description(): string {
    return this.#reader.description;
  }

  get(key: ObjectKey, range?: ByteRange, options?: RequestOptions): Promise<Uint8Array> {
    return this.#reader.get(key, range, options);
  }

  read(key: ObjectKey, range: ByteRange, options?: RequestOptions): AsyncIterable<Uint8Array> {
    return this.#reader.read(key, range, options);
  }

  stat(key: ObjectKey, options?: RequestOptions): Promise<ObjectInfo | undefined> {
    return this.#reader.stat(key, options);
  }

  put(key: ObjectKey, parts: readonly Uint8Array[], options?: RequestOptions): Promise<void> {
    return this.#change(() => this.#directory.put(key, parts, options));
  }

  putIfAbsent(
    key: ObjectKey,
    parts: readonly Uint8Array[],
    options?: RequestOptions,
  ): Promise<'created' | 'exists'> {
    return this.#change(() => this.#directory.putIfAbsent(key, parts, options));
  }

  delete(key: ObjectKey, options?: RequestOptions): Promise<void> {
    return this.#change(() => this.#directory.delete(key, options));
  }

  list(prefix: string, options?: RequestOptions & { readonly after?: ObjectKey }): AsyncIterable<ObjectInfo> {
    return this.#directory.list(prefix, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#directory[Symbol.asyncDispose]();
    for (const reader of this.#readers) await reader[Symbol.asyncDispose]();
  }

  get #reader(): ObjectStore {
    return this.#readers.at(-1)!;
  }

  async #change<T>(change: () => Promise<T>): Promise<T> {
    const changed = await change();
    this.#readers.push(await openStore(this.#url));
    return changed;
  }
}

async function serve(t: Test, extra?: string): Promise<{ readonly root: string; readonly nginx: Nginx }> {
  const root = t.testdir();
  const nginx = await Nginx.start(root, extra);
  t.teardown(() => nginx[Symbol.asyncDispose]());
  return { root, nginx };
}

t.test('what is read over HTTP keeps the contract of a store', async (t) => {
  const { root, nginx } = await serve(t);
  let stores = 0;
  await storeConformance(t, async () => {
    stores += 1;
    const store = await Published.open(join(root, `store${stores}`), `${nginx.url}/store${stores}`);
    return { store, url: undefined, replaces: false };
  });
});

t.test('an object that changes under its readers is an error, and no mixture', async (t) => {
  const { root, nginx } = await serve(t);
  const path = join(root, 'object');
  const store = await openStore(nginx.url);
  t.teardown(() => store[Symbol.asyncDispose]());
  await writeFile(path, 'one one one');
  await utimes(path, 1000, 1000);
  t.equal(text(await store.get(key('object'), { offsetBytes: 0, lengthBytes: 3 })), 'one');
  await writeFile(path, 'two two two');
  await utimes(path, 2000, 2000);
  const changed = { code: 'OBJECT_CHANGED', message: /is not the one that was there before/ };
  await t.rejects(store.get(key('object'), { offsetBytes: 4, lengthBytes: 3 }), changed);
  t.equal(text(await store.get(key('object'))), 'two two two', 'whoever asks again gets it as it is now');
  await writeFile(path, 'longer than before');
  await utimes(path, 2000, 2000);
  await t.rejects(store.stat(key('object')), changed);
  await utimes(path, 3000, 3000);
  await t.rejects(async () => {
    for await (const _ of store.read(key('object'), { offsetBytes: 0, lengthBytes: 3 }));
  }, changed);
});

t.test('a certificate is trusted if NODE_EXTRA_CA_CERTS names its authority', async (t) => {
  const { root, nginx } = await serve(t);
  await writeFile(join(root, 'object'), 'over TLS');
  const store = await openStore(nginx.tlsUrl);
  t.teardown(() => store[Symbol.asyncDispose]());
  await t.rejects(store.get(key('object')), {
    code: 'STORE_REFUSED',
    message: /its certificate is not trusted \(DEPTH_ZERO_SELF_SIGNED_CERT\)/,
    remedy: /NODE_EXTRA_CA_CERTS/,
  });
  const program = `
    const { openStore } = await import(${JSON.stringify(fileURLToPath(new URL('../src/store/index.js', import.meta.url)))});
    const store = await openStore(process.argv[1]);
    const object = await store.get('object', { offsetBytes: 5, lengthBytes: 3 });
    console.log(Buffer.from(object).toString());
    await store[Symbol.asyncDispose]();`;
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--input-type=module', '-e', program, nginx.tlsUrl],
    { env: { ...process.env, NODE_EXTRA_CA_CERTS: nginx.certificatePath } },
  );
  t.equal(stdout.trim(), 'TLS');
});

t.test('a server that is away is unreachable, and found again when it is back', async (t) => {
  const { root, nginx } = await serve(t);
  await writeFile(join(root, 'object'), 'content');
  const store = await openStore(nginx.url);
  t.teardown(() => store[Symbol.asyncDispose]());
  t.equal(text(await store.get(key('object'))), 'content');
  await nginx.down();
  await t.rejects(store.get(key('object')), { code: 'STORE_UNREACHABLE', message: /connection was refused/ });
  await nginx.up();
  t.equal(text(await store.get(key('object'))), 'content');
});

t.test('a server that knows no ranges is used as far as that is cheap', async (t) => {
  const { root, nginx } = await serve(t, 'location /no-ranges/ { max_ranges 0; }');
  const large = new Uint8Array(2 * 2 ** 20).fill(65);
  const directory = await openStore(join(root, 'no-ranges'), { create: true });
  t.teardown(() => directory[Symbol.asyncDispose]());
  await directory.put(key('object'), [bytes('begin'), large]);
  const store = await openStore(`${nginx.url}/no-ranges`);
  t.teardown(() => store[Symbol.asyncDispose]());
  t.equal(text(await store.get(key('object'), { offsetBytes: 1, lengthBytes: 4 })), 'egin');
  t.equal((await store.get(key('object'))).length, large.length + 5);
  await t.rejects(store.get(key('object'), { offsetBytes: 2 ** 20, lengthBytes: 1 }), {
    code: 'STORE_REFUSED',
    message: /sends whole objects when it is asked for a range of bytes/,
  });
});
