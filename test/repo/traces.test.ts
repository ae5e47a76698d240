import t, { type Test } from 'tap';
import { limits } from '../../src/base/index.js';
import {
  DamagedObject,
  ReadOnlyKey,
  readOnlySecrets,
  Repository,
  type RepositorySecrets,
  type Trace,
} from '../../src/repo/index.js';
import type { ObjectKey } from '../../src/store/index.js';
import { keepRecording } from '../../src/trace/index.js';
import { MemoryStore } from '../support/memory-store.js';
import { recordingOf } from '../support/traces.js';
import { FailingStore, ModelFile, publish, sourceOf } from './publish-support.js';

async function makeRepository(t: Test): Promise<{
  store: MemoryStore;
  requests: FailingStore;
  repository: Repository;
  secrets: RepositorySecrets;
}> {
  const store = new MemoryStore();
  const requests = new FailingStore(store);
  const { repository, secrets } = await Repository.create(requests);
  t.teardown(() => repository[Symbol.asyncDispose]());
  return { store, requests, repository, secrets };
}

const chunksOf = (trace: Trace | undefined) => trace?.entries.map(({ chunkIndex }) => chunkIndex);

t.test('a VM without a trace has none', async (t) => {
  const { repository } = await makeRepository(t);
  const history = repository.history('laptop');
  t.equal(await history.readTrace(), undefined);
  t.same(await history.traces(), []);
  t.equal(await history.removeTraces(), 0);
  t.equal(await keepRecording(history, recordingOf([])), undefined, 'an empty recording is not stored');
  t.equal(await history.readTrace(), undefined);
});

t.test('recordings are merged, and the newest trace is what is read', async (t) => {
  const { repository, requests } = await makeRepository(t);
  const history = repository.history('laptop');
  t.match(await keepRecording(history, recordingOf([1, 2])), { number: 1 });
  t.match(await keepRecording(history, recordingOf([1, 2, 3])), { number: 2 });
  requests.arm(Infinity, 'before');
  const trace = await repository.history('laptop').readTrace();
  t.equal(requests.requests, 2, 'with two requests');
  t.strictSame(chunksOf(trace), [1, 2, 3]);
  t.equal(trace?.resumes, 2);
  t.strictSame((await history.traces()).map(({ number }) => number), [2, 1]); // prettier-ignore
  t.equal(await repository.history('other').readTrace(), undefined);
});

t.test('only so many traces stay in the store, and all of them can be removed', async (t) => {
  const { repository, store } = await makeRepository(t);
  const history = repository.history('laptop');
  for (let resume = 0; resume < limits.tracesKept + 3; resume += 1) {
    await keepRecording(history, recordingOf([resume]));
  }
  t.equal(store.keys('trace/').length, limits.tracesKept);
  t.equal(await history.removeTraces(), limits.tracesKept);
  t.same(store.keys('trace/'), []);
});

t.test('a trace is sealed and signed, and valid in its own place only', async (t) => {
  const { repository, store } = await makeRepository(t);
  const history = repository.history('laptop');
  const secret = { path: 'a-secret-name', chunkIndex: 4 };
  await keepRecording(history, recordingOf([secret]));
  await keepRecording(repository.history('other'), recordingOf([1]));
  for (const object of store.objects.values()) t.notOk(object.includes(secret.path));
  const [one, other] = store.keys('trace/');
  if (one === undefined || other === undefined) throw new Error('no traces');
  store.swap(one, other);
  await t.rejects(history.readTrace(), DamagedObject);
  store.swap(one, other);
  for (const key of [one, other]) store.flipBit(key, 8 * (store.object(key).length - 70));
  await t.rejects(history.readTrace(), DamagedObject);
  t.same(await history.traces(), []);
  await keepRecording(history, recordingOf([5]));
  t.strictSame(chunksOf(await history.readTrace()), [5], 'a damaged one does not stand in the way');
});

t.test('a key that can only read reads traces and writes none', async (t) => {
  const { repository, store, secrets } = await makeRepository(t);
  await keepRecording(repository.history('laptop'), recordingOf([1]));
  const reading = await Repository.open(store, readOnlySecrets(secrets));
  t.teardown(() => reading[Symbol.asyncDispose]());
  const history = reading.history('laptop');
  t.strictSame(chunksOf(await history.readTrace()), [1]);
  await t.rejects(keepRecording(history, recordingOf([2])), ReadOnlyKey);
});

t.test('of hosts that write at once, none loses what another wrote', async (t) => {
  const { repository } = await makeRepository(t);
  const hosts = [10, 20, 30].map((chunk) =>
    keepRecording(repository.history('laptop'), recordingOf([chunk])),
  );
  const stored = await Promise.all(hosts);
  t.strictSame(stored.map((one) => one?.number).sort(), [1, 2, 3]);
  const chunks = chunksOf(await repository.history('laptop').readTrace()) ?? [];
  t.strictSame([...chunks].sort(), [10, 20, 30]);
});

t.test('a write that is always beaten gives up', async (t) => {
  class Beaten extends MemoryStore {
    beats = false;

    override async putIfAbsent(key: ObjectKey, parts: readonly Uint8Array[]): Promise<'created' | 'exists'> {
      if (this.beats) await super.putIfAbsent(key, [Buffer.from('of another host')]);
      return super.putIfAbsent(key, parts);
    }
  }
  const store = new Beaten();
  const { repository } = await Repository.create(store);
  t.teardown(() => repository[Symbol.asyncDispose]());
  store.beats = true;
  t.equal(await keepRecording(repository.history('laptop'), recordingOf([1])), undefined);
  t.equal(store.keys('trace/').length, limits.traceWriteAttempts);
});

t.test('a request that fails anywhere leaves the old trace or the new one', async (t) => {
  for (const mode of ['before', 'after'] as const) {
    for (let failAt = 1; ; failAt += 1) {
      const { repository, requests } = await makeRepository(t);
      const history = repository.history('laptop');
      for (let resume = 0; resume < limits.tracesKept; resume += 1) {
        await keepRecording(history, recordingOf([1]));
      }
      requests.arm(failAt, mode);
      const outcome = await keepRecording(history, recordingOf([2])).catch((error: unknown) => error);
      requests.arm(Infinity, mode);
      const chunks = chunksOf(await history.readTrace()) ?? [];
      t.ok(chunks.includes(1), `${failAt} ${mode}`);
      if (outcome instanceof Error) continue;
      t.ok(chunks.includes(2));
      break;
    }
  }
});

t.test('in a store that cannot list, the newest commit says where to look', async (t) => {
  const { repository, store, secrets } = await makeRepository(t);
  const history = repository.history('vm');
  for (let resume = 0; resume < limits.tracesKept + 4; resume += 1) {
    await keepRecording(history, recordingOf([resume]));
  }
  const stored = await history.newestTrace();
  const file = new ModelFile(repository.header.chunkBytes, 5);
  file.write(0, 1);
  const published = await publish(repository, { source: sourceOf({ file }), trace: stored?.number });
  t.match(published, { outcome: 'published', commit: { trace: limits.tracesKept + 4 } });
  const cannotList = Object.assign(new MemoryStore(), { capabilities: { lists: false, writes: false } });
  for (const [key, object] of store.objects) cannotList.objects.set(key, object);
  const reading = await Repository.open(cannotList, secrets);
  t.teardown(() => reading[Symbol.asyncDispose]());
  t.match(await reading.history('vm').newestTrace(), { number: limits.tracesKept + 4 });
  await keepRecording(history, recordingOf([100]));
  for (const [key, object] of store.objects) cannotList.objects.set(key, object);
  t.match(
    await reading.history('vm').newestTrace(),
    { number: limits.tracesKept + 5 },
    'and one that came later',
  );
  for (const key of store.keys('trace/')) cannotList.objects.delete(key);
  t.equal(await reading.history('vm').readTrace(), undefined);
});
