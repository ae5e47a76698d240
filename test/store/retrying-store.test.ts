import t from 'tap';
import { limits } from '../../src/base/index.js';
import { LabStore, perfectConditions, seededRandom } from '../../src/store/index.js';
import { RetryingStore } from '../../src/store/retrying-store.js';
import { bytes, key, keysOf, storeConformance, text } from './conformance.js';
import { MemoryStore } from './memory-store.js';
import { VirtualClock } from './virtual-clock.js';

function retrying(errorRate: number, seed = 1) {
  const clock = new VirtualClock();
  const inner = new MemoryStore();
  const lab = new LabStore(inner, { ...perfectConditions, errorRate }, clock, seededRandom(seed));
  return { clock, inner, lab, store: new RetryingStore(lab, clock, seededRandom(seed)) };
}

t.test('contract', async (t) => {
  await storeConformance(t, async () => ({ store: retrying(0).store, url: undefined }));
});

t.test('every request gets through a network that loses a tenth of them', async (t) => {
  const { clock, inner, store } = retrying(0.1, 11);
  for (let index = 0; index < 20; index += 1) {
    const object = key(`a/${index + 10}`);
    const outcome = await clock.run(store.putIfAbsent(object, [bytes('mine')]));
    t.equal(outcome, 'created', 'also when only the answer was lost');
    t.equal(await clock.run(store.putIfAbsent(object, [bytes('other')])), 'exists');
    t.equal(text(await clock.run(store.get(object))), 'mine');
    t.match(await clock.run(store.stat(object)), { lengthBytes: 4 });
    t.equal((await clock.run(keysOf(store.list('a/')))).length, index + 1);
    await clock.run(store.put(object, [bytes('new')]));
    t.equal(text(await inner.get(object)), 'new');
  }
  await clock.run(store.delete([key('a/10'), key('a/11')]));
  t.equal((await keysOf(inner.list(''))).length, 18);
});

t.test('a store that stays away is given up, for writes later than for reads', async (t) => {
  const { clock, store } = retrying(1);
  await t.rejects(clock.run(store.get(key('a'))), { code: 'STORE_UNREACHABLE' });
  const readMs = clock.now();
  t.ok(readMs > limits.storeRetryMs && readMs < 2_000, `${readMs} ms`);
  await t.rejects(clock.run(store.put(key('a'), [])), { code: 'STORE_UNREACHABLE' });
  const writeMs = clock.now() - readMs;
  t.ok(writeMs > readMs && writeMs < 10_000, `${writeMs} ms`);
});

t.test('a store that has answered is given as much time for reads', async (t) => {
  const { clock, inner, lab, store } = retrying(0);
  await inner.put(key('a'), [bytes('content')]);
  t.equal(text(await clock.run(store.get(key('a')))), 'content');
  const startedMs = clock.now();
  lab.setOutage(true);
  await t.rejects(clock.run(store.get(key('a'))), { code: 'STORE_UNREACHABLE' });
  const readMs = clock.now() - startedMs;
  t.ok(readMs > 3_000 && readMs < 10_000, `${readMs} ms`);
});

t.test('reading in pieces is not repeated, and neither is what is refused or missing', async (t) => {
  const { clock, lab, store } = retrying(0);
  await t.rejects(store.get(key('missing')), { code: 'OBJECT_MISSING' });
  lab.setOutage(true);
  const pieces = store.read(key('a'), { offsetBytes: 0, lengthBytes: 1 })[Symbol.asyncIterator]();
  await t.rejects(pieces.next(), { code: 'STORE_UNREACHABLE' });
  t.equal(clock.now(), 0);
});

t.test('cancelling and closing end the pause', async (t) => {
  const { store } = retrying(1);
  const controller = new AbortController();
  const cancelled = store.get(key('a'), undefined, { signal: controller.signal });
  setImmediate(() => controller.abort());
  await t.rejects(cancelled, { code: 'CANCELLED' });
  const closed = store.put(key('a'), []);
  setImmediate(() => void store[Symbol.asyncDispose]());
  await t.rejects(closed, { code: 'STORE_UNREACHABLE' });
});
