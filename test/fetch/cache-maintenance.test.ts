import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { cacheContent, createFetcher, evictCache, verifyCache } from '../../src/fetch/index.js';
import { entryPath } from '../../src/fetch/local-cache/layout.js';
import { InlineCodec, putChunks, repositoryId, ScriptedStore, secrets } from './support.js';

t.test('what a cache holds is counted, verified and evicted while it is in use', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'isr-cache-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  const cachePath = join(directory, 'cache');
  t.match(await cacheContent(cachePath), { entries: 0, bytes: 0 }, 'before there is one');
  const store = new ScriptedStore();
  const fetcher = await createFetcher({
    repository: { store, codec: new InlineCodec() },
    ...{ cachePath, localCacheBytes: 1e9, repositoryId, memoryCacheBytes: 0, chunkBytes: 4096 },
  });
  t.teardown(() => fetcher[Symbol.asyncDispose]());
  const chunks = await putChunks(store, 1, 10);
  const references = chunks.map(({ reference }) => reference);
  await fetcher.warmChunks(references, { fetchClass: 'background' });
  t.match(await cacheContent(cachePath), {
    entries: 10,
    bytes: 10 * 8192,
    kinds: { chunk: { entries: 10 } },
  });
  t.match(await verifyCache(cachePath, [secrets]), { entries: 10, deleted: 0 });

  const [flipped, moved, cut, gone] = references.map(({ id }) => entryPath(cachePath, id, 'chunk'));
  const good = await readFile(flipped!);
  const bad = Buffer.from(good);
  bad[900] = (bad[900] ?? 0) ^ 1;
  await writeFile(flipped!, bad);
  await writeFile(moved!, good);
  await writeFile(cut!, good.subarray(0, 20));
  await rm(gone!);
  t.match(await verifyCache(cachePath, [secrets]), { entries: 9, deleted: 3 });
  t.match(await verifyCache(cachePath, [secrets]), { entries: 6, deleted: 0 });
  t.match(await fetcher.warmChunks(references, { fetchClass: 'background' }), { fetchedChunks: 4 });

  t.match(evictCache(cachePath, 5 * 8192), { outcome: 'swept' });
  const { bytes } = await cacheContent(cachePath);
  t.ok(bytes > 0 && bytes <= 5 * 8192);
  t.match(evictCache(cachePath, 0), { outcome: 'swept', totalBytes: 0 });
  t.match(await cacheContent(cachePath), { entries: 0 });
  t.match(await verifyCache(cachePath, []), { entries: 0 });
});

t.test('what only another key could open stays; what is torn goes whoever has the key', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'isr-cache-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  const cachePath = join(directory, 'cache');
  const store = new ScriptedStore();
  const fetcher = await createFetcher({
    repository: { store, codec: new InlineCodec() },
    ...{ cachePath, localCacheBytes: 1e9, repositoryId, memoryCacheBytes: 0, chunkBytes: 4096 },
  });
  t.teardown(() => fetcher[Symbol.asyncDispose]());
  const references = (await putChunks(store, 1, 4)).map(({ reference }) => reference);
  await fetcher.warmChunks(references, { fetchClass: 'background' });
  const [flipped, cut, old] = references.map(({ id }) => entryPath(cachePath, id, 'chunk'));
  const entry = await readFile(flipped!);
  entry[900] = (entry[900] ?? 0) ^ 1;
  await writeFile(flipped!, entry);
  await writeFile(cut!, (await readFile(cut!)).subarray(0, -20));
  // As the first versions of isr wrote them.
  await writeFile(old!, (await readFile(old!)).subarray(0, -16));

  const other = { repositoryId: '6'.repeat(32), encryptionKey: new Uint8Array(32).fill(8) };
  for (const keys of [[], [other]]) {
    await writeFile(cut!, entry.subarray(0, -20));
    t.match(await verifyCache(cachePath, keys), { entries: 4, deleted: 1, unknown: 3 });
  }
  t.match(await verifyCache(cachePath, [other, secrets]), { entries: 3, deleted: 1, unknown: 0 });
  t.match(await verifyCache(cachePath, [secrets]), { entries: 2, deleted: 0, unknown: 0 });
});
