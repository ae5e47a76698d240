import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { buffer } from 'node:stream/consumers';
import { createGunzip, createGzip } from 'node:zlib';
import { Readable } from 'node:stream';
import { objectKey, openStore, type ObjectStore } from '../../src/store/index.js';

/** Bytes of one range request of a copy: long enough that the round trip does not matter. */
const rangeBytes = 4 * 1024 * 1024;

/** Requests of a copy that are under way at once. */
const requestsInFlight = 4;

export type CopyMethod = 'raw' | 'gzip';

/** Puts the files of a directory into a store as they are, or compressed as the prototype of 2002 did. */
export async function stageCopies(directory: string, storeUrl: string, method: CopyMethod): Promise<void> {
  await using store = await openStore(storeUrl, { create: true });
  for (const name of await readdir(directory)) {
    const path = join(directory, name);
    if (!(await stat(path)).isFile()) continue;
    const file = createReadStream(path);
    const bytes = await buffer(method === 'gzip' ? file.pipe(createGzip({ level: 1 })) : file);
    await store.put(objectKey(`${method}/${name.toLowerCase()}`), [bytes]);
  }
}

/** Copies staged files to `target` through the store's link, before anything can run. Returns the bytes fetched. */
export async function copyIn(storeUrl: string, method: CopyMethod, target: string): Promise<number> {
  await using store = await openStore(storeUrl);
  await mkdir(target, { recursive: true });
  let fetchedBytes = 0;
  for await (const { key, lengthBytes } of store.list(`${method}/`)) {
    const path = join(target, key.slice(method.length + 1));
    const content = Readable.from(ranges(store, key, lengthBytes));
    const file = await open(path, 'w');
    const output = file.createWriteStream();
    if (method === 'gzip') await pipeline(content, createGunzip(), output);
    else await pipeline(content, output);
    fetchedBytes += lengthBytes;
  }
  return fetchedBytes;
}

/** An object from its start to its end, with a few range requests ahead. */
async function* ranges(
  store: ObjectStore,
  key: Parameters<ObjectStore['get']>[0],
  lengthBytes: number,
): AsyncGenerator<Uint8Array> {
  const ahead: Promise<Uint8Array>[] = [];
  let nextBytes = 0;
  while (nextBytes < lengthBytes || ahead.length > 0) {
    while (ahead.length < requestsInFlight && nextBytes < lengthBytes) {
      const range = { offsetBytes: nextBytes, lengthBytes: Math.min(rangeBytes, lengthBytes - nextBytes) };
      ahead.push(store.get(key, range));
      nextBytes += range.lengthBytes;
    }
    const first = ahead.shift();
    if (first !== undefined) yield await first;
  }
}
