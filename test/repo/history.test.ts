import t, { type Test } from 'tap';
import {
  DamagedObject,
  InvalidVmName,
  LeaseHeld,
  LeaseLost,
  ReadOnlyKey,
  readOnlySecrets,
  Repository,
  RolledBack,
  VersionMissing,
} from '../../src/repo/index.js';
import type {
  BlobId,
  Commit,
  CommitDraft,
  HostIdentity,
  PackId,
  RepositorySecrets,
  VersionNumber,
  VmHistory,
} from '../../src/repo/index.js';
import { systemClock } from '../../src/base/index.js';
import {
  LabStore,
  perfectConditions,
  seededRandom,
  StoreUnreachable,
  type ObjectKey,
  type ObjectStore,
} from '../../src/store/index.js';
import { MemoryStore } from '../support/memory-store.js';

const desk: HostIdentity = { hostId: '11'.repeat(16), hostName: 'desk' };
const train: HostIdentity = { hostId: '22'.repeat(16), hostName: 'train' };
const start = Date.UTC(2024, 0, 2, 3, 4, 5, 678);

/** A repository in memory and a clock that goes on by a second whenever it is read. */
async function makeRepository(
  t: Test,
  store: ObjectStore = new MemoryStore(),
): Promise<{ repository: Repository; secrets: RepositorySecrets; now: () => Date }> {
  let seconds = 0;
  const now = () => new Date(start + 1000 * seconds++);
  const { repository, secrets } = await Repository.create(store, { now });
  t.teardown(() => repository[Symbol.asyncDispose]());
  return { repository, secrets, now };
}

let packs = 0;

function draft(change: Partial<CommitDraft> = {}): CommitDraft {
  packs += 1;
  return {
    vmName: 'laptop',
    mountPath: '/vm/laptop',
    host: desk,
    createdAt: new Date(start),
    manifest: {
      packId: packs.toString(16).padStart(32, '0') as PackId,
      offsetBytes: 28,
      sealedBytes: 500,
      counter: 1,
      id: 'ab'.repeat(16) as BlobId,
    },
    logicalBytes: 1 << 30,
    storedBytes: 12345,
    parent: undefined,
    ...change,
  };
}

const version = (number: number) => number as VersionNumber;

async function all<T>(iterable: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of iterable) items.push(item);
  return items;
}

function logKeys(store: MemoryStore): ObjectKey[] {
  return store.keys('log/');
}

t.test('a VM that does not exist has an empty history', async (t) => {
  const { repository } = await makeRepository(t);
  const history = repository.history('laptop');
  t.same(await history.head(), { position: 0, latest: undefined, lease: { state: 'free' } });
  t.equal(history.seenPosition(), undefined);
  t.same(await all(history.commits()), []);
  t.same(await history.branches(), []);
  await t.rejects(history.commit(version(1)), VersionMissing);
  t.same(await repository.vmNames(), []);
});

t.test('names of VMs follow a grammar', async (t) => {
  const { repository } = await makeRepository(t);
  for (const name of ['a', 'A1', 'db.2024-01_x', 'x'.repeat(64)])
    t.equal(repository.history(name).vmName, name);
  for (const name of [
    '',
    '.',
    '..',
    '.hidden',
    '-x',
    'a/b',
    'a b',
    'é',
    'x'.repeat(65),
    'a\n',
    '../../etc',
  ]) {
    t.throws(() => repository.history(name), InvalidVmName, JSON.stringify(name));
  }
});

t.test('a lease, a commit, and what they leave behind', async (t) => {
  const { repository } = await makeRepository(t);
  const history = repository.history('laptop');
  const lease = await history.acquireLease(desk);
  t.match(lease, { vmName: 'laptop', holder: desk, leaseNumber: 1 });
  t.same(await history.acquireLease(desk), lease, 'asking again changes nothing');

  const first = draft();
  const commit = await history.appendCommit(first, lease);
  t.same(commit, { ...first, version: 1, position: 2 });
  const second = draft({ parent: version(1) });
  await history.appendCommit(second, lease, { releaseLease: true });

  const other = repository.history('laptop');
  t.same(await other.head(), {
    position: 3,
    latest: { ...second, version: 2, position: 3 },
    lease: { state: 'free' },
  });
  t.same(
    (await all(other.commits())).map((one) => one.version),
    [2, 1],
  );
  t.same(await other.commit(version(1)), commit);
  await t.rejects(other.commit(version(3)), VersionMissing);
  t.same(await repository.vmNames(), ['laptop']);
});

t.test('the head after a lease change still knows the newest commit', async (t) => {
  const { repository } = await makeRepository(t);
  const history = repository.history('laptop');
  await history.appendCommit(draft(), undefined);
  const lease = await history.acquireLease(desk);
  t.match(await history.head(), {
    position: 2,
    latest: { version: 1 },
    lease: { state: 'held', holder: desk },
  });
  await history.releaseLease(lease);
  t.match(await history.head(), { position: 3, latest: { version: 1 }, lease: { state: 'free' } });
  await history.releaseLease(lease);
  t.match(await history.head(), { position: 3 }, 'giving back twice changes nothing');
});

t.test('a lease that somebody holds', async (t) => {
  const { repository } = await makeRepository(t);
  const history = repository.history('laptop');
  const lease = await history.acquireLease(desk);
  await t.rejects(history.acquireLease(train), {
    code: 'LEASE_HELD',
    holder: desk,
    since: lease.since,
    message: 'The VM laptop is in use on desk since 2024-01-02T03:04:05.678Z.',
  });
  await t.rejects(history.appendCommit(draft(), undefined), LeaseHeld, 'nor can anybody import');
});

t.test('taking a lease over fences its former holder exactly', async (t) => {
  const { repository } = await makeRepository(t);
  const atDesk = repository.history('laptop');
  const onTrain = repository.history('laptop');
  const old = await atDesk.acquireLease(desk);
  const taken = await onTrain.acquireLease(train, { takeOver: true });
  const lost = draft();
  await t.rejects(atDesk.appendCommit(lost, old), {
    code: 'LEASE_LOST',
    message: /^This host may no longer publish the VM laptop: train took the lease over at 2024-/,
  });
  await atDesk.releaseLease(old);
  t.match(
    await onTrain.head(),
    { lease: { state: 'held', holder: train } },
    'giving the lost one back does nothing',
  );

  await onTrain.appendCommit(draft({ host: train }), taken, { releaseLease: true });
  await t.rejects(atDesk.appendCommit(lost, old), LeaseLost, 'also after it was given back');
  const again = await atDesk.acquireLease(desk);
  await t.rejects(atDesk.appendCommit(lost, old), LeaseLost, 'also when this host got a new one');
  await t.rejects(atDesk.appendCommit(lost, again), {
    code: 'LEASE_LOST',
    message:
      'This host may no longer publish the VM laptop: its newest version is 1, but the work began from none.',
  });
});

t.test('work without a lease is kept as a branch', async (t) => {
  const { repository } = await makeRepository(t);
  const history = repository.history('laptop');
  await history.appendCommit(draft(), undefined);
  const work = draft({ parent: version(1), host: { ...desk, hostName: 'désk 7!' } });
  const branch = await history.saveBranch(work);
  t.same(branch, { name: 'd-sk-7--v1-20240102T030405678Z', commit: work });
  t.same(await history.saveBranch(work), branch, 'saving it again changes nothing');
  const earlier = draft({ createdAt: new Date(start - 1000) });
  await history.saveBranch(earlier);
  t.same(
    (await history.branches()).map(({ commit }) => commit),
    [earlier, work],
  );
  t.match(await history.head(), { latest: { version: 1 } });
});

t.test('a branch alone makes its VM visible', async (t) => {
  const { repository } = await makeRepository(t);
  await repository.history('zeta').saveBranch(draft({ vmName: 'zeta' }));
  await repository.history('alpha').acquireLease(desk);
  t.same(await repository.vmNames(), ['alpha', 'zeta']);
});

t.test('of many hosts that race, one wins', async (t) => {
  const { repository } = await makeRepository(t);
  const hosts = Array.from({ length: 8 }, (_, index) => ({
    hostId: index.toString(16).padStart(32, '0'),
    hostName: `host${index}`,
  }));
  const leases = await Promise.allSettled(
    hosts.map((host) => repository.history('laptop').acquireLease(host)),
  );
  t.equal(leases.filter(({ status }) => status === 'fulfilled').length, 1);
  const winner = leases.find((result) => result.status === 'fulfilled')!.value;
  await repository.history('laptop').releaseLease(winner);
  const commits = await Promise.allSettled(
    hosts.map((host) => repository.history('laptop').appendCommit(draft({ host }), undefined)),
  );
  t.equal(commits.filter(({ status }) => status === 'fulfilled').length, 1);
  for (const result of commits) {
    if (result.status === 'rejected') t.type(result.reason, LeaseLost);
  }
  t.same(
    (await all(repository.history('laptop').commits())).map((one) => one.version),
    [1],
  );
});

t.test('a key that can only read', async (t) => {
  const store = new MemoryStore();
  const { repository, secrets } = await makeRepository(t, store);
  await repository.history('laptop').appendCommit(draft(), undefined);
  const reader = await Repository.open(store, readOnlySecrets(secrets));
  t.teardown(() => reader[Symbol.asyncDispose]());
  const history = reader.history('laptop');
  t.match(await history.head(), { latest: { version: 1 } });
  await t.rejects(history.acquireLease(desk), ReadOnlyKey);
  await t.rejects(history.appendCommit(draft({ parent: version(1) }), undefined), ReadOnlyKey);
  await t.rejects(history.saveBranch(draft()), ReadOnlyKey);
});

/** Three versions, the lease taken and given back between them: positions 1 to 5. */
async function makeHistory(history: VmHistory): Promise<Commit[]> {
  const first = await history.appendCommit(draft(), undefined);
  const lease = await history.acquireLease(desk);
  const second = await history.appendCommit(draft({ parent: version(1) }), lease);
  await history.releaseLease(lease);
  const third = await history.appendCommit(draft({ parent: version(2) }), undefined);
  return [third, second, first];
}

t.test('damage to the log is found, whatever it is', async (t) => {
  const store = new MemoryStore();
  const { repository } = await makeRepository(t, store);
  const commits = await makeHistory(repository.history('laptop'));
  const intact = new Map(store.objects);
  const read = async () => {
    const history = repository.history('laptop');
    await history.head();
    return all(history.commits());
  };
  t.same(await read(), commits);
  const [first, lease, second, release, third] = logKeys(store) as [
    ObjectKey,
    ObjectKey,
    ObjectKey,
    ObjectKey,
    ObjectKey,
  ];
  const damages: Record<string, () => void> = {
    'the newest entry flipped': () => store.flipBit(third, 1000),
    'an old commit flipped': () => store.flipBit(first, 1000),
    'two commits swapped': () => store.swap(first, second),
    'commit and lease swapped': () => store.swap(release, third),
    'an entry missing': () => store.objects.delete(lease),
    'the first entry missing': () => store.objects.delete(first),
    'an entry truncated': () => store.objects.set(third, store.object(third).subarray(0, 100)),
    'an entry empty': () => store.objects.set(third, Buffer.alloc(0)),
    'an entry extended': () =>
      store.objects.set(third, Buffer.concat([store.object(third), Buffer.alloc(1)])),
    'an entry copied to the next number': () =>
      store.objects.set(third.replace(/5$/, '6') as ObjectKey, store.object(third)),
    'something else in the log': () => store.objects.set(`${third}.bak` as ObjectKey, Buffer.alloc(1)),
  };
  for (const [what, damage] of Object.entries(damages)) {
    damage();
    await t.rejects(read(), DamagedObject, what);
    store.objects.clear();
    for (const [key, object] of intact) store.objects.set(key, object);
  }
  t.same(await read(), commits);
});

t.test('an entry that another writer signed for the same place is found by its digest', async (t) => {
  const store = new MemoryStore();
  const { repository } = await makeRepository(t, store);
  await makeHistory(repository.history('laptop'));
  const [first] = logKeys(store) as [ObjectKey];
  const others = new MemoryStore();
  others.objects.set('isr' as ObjectKey, store.object('isr' as ObjectKey));
  const forked = await Repository.open(others, repository.secrets);
  t.teardown(() => forked[Symbol.asyncDispose]());
  await forked.history('laptop').appendCommit(draft(), undefined);
  store.objects.set(first, others.object(first));
  await t.rejects(all(repository.history('laptop').commits()), {
    code: 'DAMAGED_OBJECT',
    what: 'it is not the commit that later entries refer to',
  });
});

t.test('a damaged name is found', async (t) => {
  const store = new MemoryStore();
  const { repository } = await makeRepository(t, store);
  await repository.history('alpha').acquireLease(desk);
  await repository.history('beta').acquireLease(desk);
  const [one, other] = store.keys('names/') as [ObjectKey, ObjectKey];
  store.swap(one, other);
  await t.rejects(repository.vmNames(), DamagedObject, 'swapped with another');
  store.swap(one, other);
  t.same(await repository.vmNames(), ['alpha', 'beta']);
  store.objects.set(one, Buffer.alloc(70_000));
  await t.rejects(repository.vmNames(), DamagedObject, 'longer than a record can be');
});

t.test('a damaged branch is found', async (t) => {
  const store = new MemoryStore();
  const { repository } = await makeRepository(t, store);
  const history = repository.history('laptop');
  await history.saveBranch(draft());
  await history.saveBranch(draft());
  const [one, other] = store.keys('branch/') as [ObjectKey, ObjectKey];
  store.swap(one, other);
  await t.rejects(history.branches(), DamagedObject);
});

t.test('a store that goes back in time is found out', async (t) => {
  const store = new MemoryStore();
  const { repository } = await makeRepository(t, store);
  const writer = repository.history('laptop');
  await writer.appendCommit(draft(), undefined);
  const old = new Map(store.objects);
  await writer.appendCommit(draft({ parent: version(1) }), undefined);
  const seen = writer.seenPosition()!;
  t.match(seen, { position: 2, digest: /^[0-9a-f]{64}$/ });

  const reader = () => repository.history('laptop');
  t.match(await reader().head({ seen }), { position: 2 });
  await writer.acquireLease(desk);
  t.match(await reader().head({ seen }), { position: 3 }, 'it may have gone on');

  store.objects.clear();
  for (const [key, object] of old) store.objects.set(key, object);
  await t.rejects(reader().head({ seen }), {
    code: 'ROLLED_BACK',
    message:
      'The store shows another past of the VM laptop than this host has seen: entry 2 of its log is not there any more.',
  });
  await t.rejects(writer.head(), RolledBack, 'what this object saw counts too');
  await t.rejects(writer.appendCommit(draft({ parent: version(1) }), undefined), RolledBack);
  t.match(await reader().head(), { position: 1 }, 'somebody new cannot know');

  await reader().appendCommit(draft({ parent: version(1) }), undefined);
  await t.rejects(reader().head({ seen }), {
    code: 'ROLLED_BACK',
    message: /entry 2 of its log was replaced/,
  });
});

t.test('lost answers do not lose or repeat anything', async (t) => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const store = new MemoryStore();
    const { repository, secrets } = await makeRepository(t, store);
    const random = seededRandom(seed);
    // Half of the requests that fail were carried out.
    const unreliable = new LabStore(store, { ...perfectConditions, errorRate: 0.3 }, systemClock, random);
    const shaky = await insist(() => Repository.open(unreliable, secrets));
    t.teardown(() => shaky[Symbol.asyncDispose]());
    const history = shaky.history('laptop');
    const lease = await insist(() => history.acquireLease(desk));
    const first = draft();
    const second = draft({ parent: version(1) });
    await insist(() => history.appendCommit(first, lease));
    await insist(() => history.appendCommit(second, lease, { releaseLease: true }));
    const branch = draft({ parent: version(1) });
    await insist(() => history.saveBranch(branch));
    t.same(
      await repository.history('laptop').head(),
      {
        position: 3,
        latest: { ...second, version: 2, position: 3 },
        lease: { state: 'free' },
      },
      `seed ${seed}`,
    );
    t.equal((await repository.history('laptop').branches()).length, 1, `seed ${seed}`);
  }
});

/** Repeats while the store cannot be reached. */
async function insist<T>(call: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof StoreUnreachable)) throw error;
    }
  }
}

t.test('a log that is never still is given up on', async (t) => {
  const store = new MemoryStore();
  const { repository } = await makeRepository(t, store);
  const rival = repository.history('laptop');
  const putIfAbsent = store.putIfAbsent.bind(store);
  let rivalWrites = false;
  store.putIfAbsent = async (key, parts) => {
    if (key.startsWith('log/') && !rivalWrites) {
      rivalWrites = true;
      const lease = await rival.acquireLease(train);
      await rival.releaseLease(lease);
      rivalWrites = false;
    }
    return putIfAbsent(key, parts);
  };
  await t.rejects(repository.history('laptop').acquireLease(desk), { code: 'LIMIT_EXCEEDED' });
});
