/** A publish that did not come to its end is taken up again: what is in the store is not uploaded twice. */
import t, { type Test } from 'tap';
import { Cancelled, limits } from '../../src/base/index.js';
import {
  packKey,
  Repository,
  verifyVersion,
  type PackId,
  type Published,
  type SourceFile,
} from '../../src/repo/index.js';
import { ObservedStore } from '../../src/store/index.js';
import { MemoryStore } from '../support/memory-store.js';
import { patternChunk, publish, sourceOf } from './publish-support.js';

const chunkBytes = limits.chunkBytes;
const chunksPerPack = limits.packPlaintextBytes / chunkBytes;

/** The first packs of a publish are smaller; together they have a little less than a whole one. */
const smallPacks = Math.log2(limits.packPlaintextBytes / limits.packPlaintextBytesFirst);

/** A file of so many packs whose chunks follow from their place; `changed` ones from something else. */
function bigFile(packs: number, changed: ReadonlySet<number> = new Set()): SourceFile {
  const chunks = packs * chunksPerPack;
  return {
    sizeBytes: chunks * chunkBytes,
    base: undefined,
    async *changedChunks() {
      yield { first: 0, count: chunks };
    },
    readChunks(first, into) {
      for (let at = 0; at < into.length; at += chunkBytes) {
        const index = first + at / chunkBytes;
        into.set(patternChunk(chunkBytes, index + (changed.has(index) ? 1_000_000 : 1)), at);
      }
    },
  };
}

interface Attempts {
  readonly memory: MemoryStore;
  readonly store: ObservedStore;
  readonly repository: Repository;
  /** What a host would remember. */
  readonly record: PackId[];
}

async function begin(t: Test): Promise<Attempts> {
  const memory = new MemoryStore();
  const store = new ObservedStore(memory);
  const { repository } = await Repository.create(store, { chunkBytes });
  t.teardown(() => repository[Symbol.asyncDispose]());
  return { memory, store, repository, record: [] };
}

/** Publishes, or is cancelled when so many whole packs are begun; answers the bytes uploaded to packs. */
async function attempt(
  { repository, store, record }: Attempts,
  file: SourceFile,
  packs = Infinity,
): Promise<{ readonly published: Published | undefined; readonly uploadedBytes: number }> {
  const abort = new AbortController();
  const before = store.counts().put.bytes;
  const earlierPacks = [...record];
  const publishing = publish(repository, {
    source: sourceOf({ file }),
    signal: abort.signal,
    earlierPacks,
    onPackBegun: async (packId) => {
      if (record.length - earlierPacks.length >= smallPacks + packs) abort.abort();
      record.push(packId);
    },
  });
  const published = await publishing.catch((error: unknown) => {
    if (!(error instanceof Cancelled)) throw error;
    return undefined;
  });
  return { published, uploadedBytes: store.counts().put.bytes - before };
}

async function isIntact({ repository }: Attempts, published: Published | undefined): Promise<boolean> {
  if (published?.outcome !== 'published') throw new Error('not published');
  return (await verifyVersion({ repository, commit: published.commit })).intact;
}

t.test('only what is missing is uploaded, however often it is cancelled', async (t) => {
  const whole = (await attempt(await begin(t), bigFile(9))).uploadedBytes;
  const attempts = await begin(t);
  let uploadedBytes = 0;
  for (let round = 0; round < 2; round += 1) {
    const cancelled = await attempt(attempts, bigFile(9), 1);
    t.equal(cancelled.published, undefined);
    uploadedBytes += cancelled.uploadedBytes;
  }
  t.ok(uploadedBytes > 0.7 * whole, `${uploadedBytes} of ${whole} were uploaded before`);
  const last = await attempt(attempts, bigFile(9));
  uploadedBytes += last.uploadedBytes;
  t.ok(uploadedBytes < 1.05 * whole, `${uploadedBytes} bytes in all attempts, ${whole} in one`);
  t.ok(await isIntact(attempts, last.published));
  t.ok((last.published?.storedBytes ?? 0) > 0.95 * whole, 'all of them count as stored by the version');
});

t.test('what changed meanwhile is uploaded, what did not is not', async (t) => {
  const attempts = await begin(t);
  const first = await attempt(attempts, bigFile(6), 3);
  const changed = new Set([0, 1, 300, 301, 302]);
  const second = await attempt(attempts, bigFile(6, changed));
  t.ok(await isIntact(attempts, second.published));
  const perPack = first.uploadedBytes / 3;
  t.ok(second.uploadedBytes < 1.3 * perPack, `${second.uploadedBytes} bytes for one pack and five chunks`);
});

t.test('packs that are gone, damaged or were never there are not referred to', async (t) => {
  const attempts = await begin(t);
  await attempt(attempts, bigFile(5), 2);
  const { memory, record } = attempts;
  const [gone, damaged] = record;
  if (gone === undefined || damaged === undefined) throw new Error('no packs');
  memory.objects.delete(packKey(gone));
  memory.flipBit(packKey(damaged), 8 * memory.object(packKey(damaged)).length - 200);
  record.unshift('0'.repeat(32) as PackId);
  const again = await attempt(attempts, bigFile(5));
  t.ok(await isIntact(attempts, again.published));
});

t.test('a pack that vanishes between its use and the commit makes the publish begin anew', async (t) => {
  const attempts = await begin(t);
  await attempt(attempts, bigFile(5), 2);
  const { memory, record, repository, store } = attempts;
  const [victim] = record;
  if (victim === undefined) throw new Error('no packs');
  const earlierPacks = [...record];
  const published = await publish(repository, {
    source: sourceOf({ file: bigFile(5) }),
    earlierPacks,
    onPackBegun: async () => void memory.objects.delete(packKey(victim)),
  });
  t.ok(await isIntact(attempts, published));
  t.ok(store.counts().stat.requests > 0);
});

t.test('more packs than are known at a time', async (t) => {
  const attempts = await begin(t);
  const file = bigFile(2);
  await attempt(attempts, file, 0);
  const real = [...attempts.record];
  const absent = Array.from({ length: 200 }, (_, n) => n.toString(16).padStart(32, '0') as PackId);
  attempts.record.splice(0, Infinity, ...absent, ...real);
  const again = await attempt(attempts, file);
  t.ok(await isIntact(attempts, again.published));
  t.ok(again.uploadedBytes < 1_000_000, `${again.uploadedBytes} bytes`);
});

t.test(
  'the commit is announced when everything is stored, and prevented by a failure to do so',
  async (t) => {
    const { repository, memory } = await begin(t);
    const source = sourceOf({ file: bigFile(1) });
    const beforeCommit = async (): Promise<void> => Promise.reject(new Error('the disk is full'));
    await t.rejects(publish(repository, { source, beforeCommit }), { message: 'the disk is full' });
    t.equal((await repository.history('vm').head()).latest, undefined);
    let packs = 0;
    const published = await publish(repository, {
      source,
      beforeCommit: async ({ manifest }) => {
        packs = memory.keys('pack/').length;
        t.ok(memory.objects.has(packKey(manifest.packId)));
      },
    });
    t.equal(memory.keys('pack/').length, packs);
    t.equal(published.outcome, 'published');
  },
);
