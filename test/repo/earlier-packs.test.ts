import t from 'tap';
import { limits } from '../../src/base/index.js';
import { Repository, type BlobReference } from '../../src/repo/index.js';
import { EarlierPacks } from '../../src/repo/publish/earlier-packs.js';
import { ObservedStore } from '../../src/store/index.js';
import { MemoryStore } from '../support/memory-store.js';
import { writeBlob } from './publish-support.js';

t.test(
  'chunks are found in their order, in any number of packs, and only a few packs are known',
  async (t) => {
    const store = new ObservedStore(new MemoryStore());
    const { repository } = await Repository.create(store);
    t.teardown(() => repository[Symbol.asyncDispose]());
    const written: BlobReference[] = [];
    const packs = 3 * limits.earlierPacksKnown;
    for (let pack = 0; pack < packs; pack += 1) {
      written.push(await writeBlob(repository, Buffer.from(`chunk ${pack}`), 'chunk'));
    }
    const packIds = written.map(({ packId }) => packId);
    const earlier = new EarlierPacks(repository, packIds, {});
    const requestsBefore = store.counts().get.requests;
    t.equal(await earlier.find(repository.sealer.identify(Buffer.from('another'))), undefined);
    t.ok((store.counts().get.requests - requestsBefore) / 3 <= limits.earlierPacksKnown, 'not all are read');
    for (const reference of written) t.same(await earlier.find(reference.id), reference);
    t.equal(
      earlier.usedBytes,
      written.reduce((sum, { sealedBytes }) => sum + sealedBytes, 0),
    );
    t.equal(await earlier.find(written[0]!.id), undefined, 'what is long past is forgotten');
    t.ok(await earlier.areThere());

    const none = new EarlierPacks(repository, [], {});
    t.equal(await none.find(written[0]!.id), undefined);
    t.ok(await none.areThere());
  },
);
