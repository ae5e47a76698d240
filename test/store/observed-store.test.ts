import { join } from 'node:path';
import t from 'tap';
import { ObservedStore, openStore } from '../../src/store/index.js';
import { bytes, key, keysOf, storeConformance } from './conformance.js';
import { MemoryStore } from './memory-store.js';

t.test('contract', async (t) => {
  await storeConformance(t, async (t) => {
    const url = join(t.testdir(), 'store');
    return { store: new ObservedStore(await openStore(url, { create: true })), url };
  });
});

t.test('counts requests, failures and bytes', async (t) => {
  const store = new ObservedStore(new MemoryStore());
  const before = store.counts();
  await store.put(key('a'), [bytes('12'), bytes('345')]);
  await store.putIfAbsent(key('a'), [bytes('123')]);
  await store.putIfAbsent(key('b'), [bytes('1234')]);
  await store.get(key('a'));
  await store.get(key('a'), { offsetBytes: 1, lengthBytes: 2 });
  await t.rejects(store.get(key('missing')));
  for await (const piece of store.read(key('a'), { offsetBytes: 0, lengthBytes: 4 }))
    t.equal(piece.length, 4);
  await store.stat(key('a'));
  await store.delete(key('a'));
  await keysOf(store.list(''));
  await t.rejects(keysOf(store.list('bad prefix')));
  await t.rejects(store.put(key('a'), [bytes('1')], { signal: AbortSignal.abort() }));
  t.same(store.counts(), {
    get: { requests: 4, failures: 1, bytes: 11 },
    put: { requests: 2, failures: 1, bytes: 5 },
    putIfAbsent: { requests: 2, failures: 0, bytes: 7 },
    list: { requests: 2, failures: 1, bytes: 0 },
    stat: { requests: 1, failures: 0, bytes: 0 },
    delete: { requests: 1, failures: 0, bytes: 0 },
  });
  t.equal(before.put.requests, 0, 'a snapshot stays as it is');
});

t.test('is called what the wrapped store is called, and closes it', async (t) => {
  const inner = new MemoryStore();
  const store = new ObservedStore(inner);
  t.equal(store.description, inner.description);
  await store[Symbol.asyncDispose]();
  await t.rejects(inner.stat(key('a')), /closed/);
});
