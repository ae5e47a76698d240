import type { Test } from 'tap';
import { Cancelled } from '../../src/base/index.js';
import type { ObjectKey, ObjectStore } from '../../src/store/index.js';
import type { FaultProxy, WireFault } from '../support/fault-proxy.js';
import { sameBytes } from '../support/same-bytes.js';

/** What a user is told of each failure, and what it does to a mount: see docs/operations.md. */
const failures: readonly {
  readonly fault: WireFault;
  readonly code: 'STORE_UNREACHABLE' | 'STORE_REFUSED';
  readonly message: RegExp;
}[] = [
  { fault: 'reset', code: 'STORE_UNREACHABLE', message: /the connection broke off/ },
  { fault: 'reset in the body', code: 'STORE_UNREACHABLE', message: /broke off after \d+ of 5000 bytes/ },
  { fault: 'truncated body', code: 'STORE_UNREACHABLE', message: /broke off after 2500 of 5000 bytes/ },
  { fault: 'stalled body', code: 'STORE_UNREACHABLE', message: /broke off after 2500 of 5000 bytes/ },
  { fault: 'silence', code: 'STORE_UNREACHABLE', message: /nothing came for \d(\.5)? seconds?/ },
  { fault: 'wrong range', code: 'STORE_UNREACHABLE', message: /with another range than it was asked for/ },
  { fault: '500', code: 'STORE_UNREACHABLE', message: /it answers 500/ },
  { fault: '503 SlowDown', code: 'STORE_UNREACHABLE', message: /it answers 503/ },
  { fault: '403', code: 'STORE_REFUSED', message: /403/ },
];

/**
 * Each failure of the wire is an error that says what happened, and never a byte that is wrong; the request after it gets
 * the object. `open` opens the store through the proxy, without repeating what fails, and gives up after little silence; `object` has at least 6000 bytes.
 */
export async function storeMeetsWireFaults(
  t: Test,
  subject: {
    readonly open: (url: string) => Promise<ObjectStore>;
    readonly makeProxy: () => Promise<FaultProxy>;
    readonly key: ObjectKey;
    readonly content: Uint8Array;
  },
): Promise<void> {
  const { key, content } = subject;
  const range = { offsetBytes: 1000, lengthBytes: 5000 };
  const wanted = content.subarray(1000, 6000);
  const openThrough = async (t: Test) => {
    const proxy = await subject.makeProxy();
    t.teardown(() => proxy[Symbol.asyncDispose]());
    const store = await subject.open(proxy.url);
    t.teardown(() => store[Symbol.asyncDispose]());
    return { proxy, store };
  };
  const inPieces = async (store: ObjectStore): Promise<Uint8Array> => {
    const pieces: Uint8Array[] = [];
    for await (const piece of store.read(key, range)) pieces.push(piece);
    return Buffer.concat(pieces);
  };
  const ways = {
    'in one piece': (store: ObjectStore) => store.get(key, range),
    'as it arrives': inPieces,
  };

  for (const { fault, code, message } of failures) {
    for (const [way, read] of Object.entries(ways)) {
      await t.test(`${fault}, read ${way}`, async (t) => {
        const { proxy, store } = await openThrough(t);
        sameBytes(t, await read(store), wanted, 'the connection is in use');
        // A connection that breaks off before an answer is tried again once, since it may have been closed meanwhile.
        proxy.plan(...(fault === 'reset' ? [fault, fault] : [fault]));
        await t.rejects(read(store), { code, message });
        sameBytes(t, await read(store), wanted, 'the next request gets it');
      });
    }
  }

  await t.test('a refused connection', async (t) => {
    const { proxy, store } = await openThrough(t);
    await proxy.refuse();
    await t.rejects(store.get(key, range), {
      code: 'STORE_UNREACHABLE',
      message: /the connection was refused/,
    });
    await proxy.accept();
    sameBytes(t, await store.get(key, range), wanted);
  });

  await t.test('a connection that was closed while it was not used is no failure', async (t) => {
    const { proxy, store } = await openThrough(t);
    sameBytes(t, await store.get(key, range), wanted);
    proxy.plan('reset');
    sameBytes(t, await store.get(key, range), wanted);
  });

  await t.test('a stalled body ends when the caller has enough of it', async (t) => {
    const { proxy, store } = await openThrough(t);
    proxy.plan('stalled body');
    const controller = new AbortController();
    const answer = store.get(key, range, { signal: controller.signal });
    setTimeout(() => controller.abort(), 100);
    await t.rejects(answer, Cancelled);
    sameBytes(t, await store.get(key, range), wanted);
  });

  await t.test('a flipped bit is not noticed here, but by whoever opens the object', async (t) => {
    const { proxy, store } = await openThrough(t);
    proxy.plan('flipped bit');
    const found = await store.get(key, range);
    t.equal(found.length, wanted.length);
    t.not(Buffer.compare(found, wanted), 0);
  });
}
