import fc from 'fast-check';
import t from 'tap';
import { limits } from '../../src/base/index.js';
import { DamagedObject, Repository, RolledBack, type VmHistory } from '../../src/repo/index.js';
import { logPositionMax } from '../../src/repo/format/object-keys.js';
import { probeLog } from '../../src/repo/history/probe-log.js';
import { everyCapability, StoreRefused } from '../../src/store/index.js';
import { MemoryStore } from '../support/memory-store.js';

t.test('the newest entry of a log is found with few requests', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc
        .oneof(fc.nat(300), fc.nat(logPositionMax))
        .chain((newest) => fc.tuple(fc.constant(newest), fc.nat(newest))),
      async ([newest, known]) => {
        const asked = new Set<number>();
        const found = await probeLog(async (position) => {
          asked.add(position);
          return position <= newest;
        }, known);
        const rounds = 2 + 2 * Math.ceil(Math.log2(newest - known + 2) / 3);
        return (
          found.newest === newest &&
          found.gap === undefined &&
          asked.size <= rounds * limits.logProbesInFlight &&
          [...asked].every((position) => position > known && position <= logPositionMax)
        );
      },
    ),
    { examples: [[[0, 0]], [[logPositionMax, 0]], [[logPositionMax, logPositionMax - 1]], [[9, 8]]] },
  );
});

t.test('a log without news costs one request', async (t) => {
  const asked: number[] = [];
  const hasEntry = async (position: number) => {
    asked.push(position);
    return position <= 7;
  };
  t.same(await probeLog(hasEntry, 7), { newest: 7, gap: undefined });
  t.same(asked, [8]);
});

t.test('an entry that is missing before a later one is noticed where both are asked for', async (t) => {
  const hasEntry = async (position: number) => position !== 2 && position <= 20;
  t.same(await probeLog(hasEntry, 0), { newest: 16, gap: 2 });
});

/** A store that does not tell what it holds. */
class UnlistedStore extends MemoryStore {
  override readonly capabilities = { ...everyCapability, lists: false };

  override list(): never {
    throw new StoreRefused({ store: this.description, key: undefined, reason: 'it cannot list', remedy: '' });
  }
}

const here = { hostId: '11'.repeat(16), hostName: 'desk' };

async function takeAndGiveBack(history: VmHistory): Promise<void> {
  await history.releaseLease(await history.acquireLease(here));
}

t.test('a VM has the same history in a store that cannot list', async (t) => {
  const store = new UnlistedStore();
  const { repository } = await Repository.create(store);
  t.teardown(() => repository[Symbol.asyncDispose]());
  const writer = repository.history('laptop');
  const follower = repository.history('laptop');
  t.equal((await follower.head()).position, 0);
  for (const position of [2, 4, 6, 8, 10, 12]) {
    await takeAndGiveBack(writer);
    t.equal((await follower.head()).position, position);
    t.equal((await repository.history('laptop').head()).position, position, 'also for whoever never looked');
  }

  const newest = store.keys('log/').at(-1)!;
  const entry = store.object(newest);
  await store.delete(newest);
  await t.rejects(follower.head(), RolledBack);
  await store.put(newest, [entry]);
  await store.delete(store.keys('log/')[1]!);
  await t.rejects(repository.history('laptop').head(), DamagedObject);
  t.equal(
    (await follower.head()).position,
    12,
    'what is behind it is of no interest to whoever was here before',
  );
});
