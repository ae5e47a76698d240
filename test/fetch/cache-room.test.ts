import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { CacheRoom, pinBlobs, type PinnedBlob } from '../../src/fetch/index.js';
import { contentOf, packIdOf, repositoryId, sealBlob } from './support.js';

/** What an entry of these tests takes on disk. */
const entryBytes = 8192;
const limitBytes = 100 * entryBytes;

const blobs: readonly PinnedBlob[] = Array.from({ length: 40 }, (_, number) =>
  sealBlob(contentOf(number, 4096), { packId: packIdOf(1), counter: number + 1, offsetBytes: 0 }),
);

t.test('a blob counts once, and what is pinned has room of its own', async (t) => {
  const cachePath = await mkdtemp(join(tmpdir(), 'isr-room-'));
  t.teardown(() => rm(cachePath, { recursive: true, force: true }));
  const room = new CacheRoom(cachePath);
  for (const blob of [...blobs, ...blobs]) room.add(blob);
  t.equal(room.wantedBytes, 40 * entryBytes);
  t.equal(room.keptBytes(limitBytes), 90 * entryBytes, 'eviction goes on to below the limit');

  const pin = (ofVersion: string, some: readonly PinnedBlob[]) =>
    pinBlobs({
      ...{ cachePath, limitBytes, ofVersion, blobs: some },
      name: { repositoryId, vmName: 'vm', version: ofVersion },
    });
  await pin('1', blobs.slice(0, 30));
  const beside = new CacheRoom(cachePath);
  for (const blob of blobs) beside.add(blob);
  t.equal(beside.wantedBytes, 10 * entryBytes);
  t.equal(beside.keptBytes(limitBytes), 63 * entryBytes);
  t.equal(beside.keptBytes(30 * entryBytes), 6.75 * entryBytes, 'pins may leave next to nothing');
});
