import t from 'tap';
import { limits } from '../../src/base/index.js';
import { LeaseWhenBack } from '../../src/daemon/without-store.js';
import type { HeldLease } from '../../src/repo/index.js';
import { StoreRefused, StoreUnreachable } from '../../src/store/index.js';
import { VirtualClock } from '../store/virtual-clock.js';

const away = new StoreUnreachable({ store: 'test:', key: undefined, reason: 'the cable is out' });
const refused = new StoreRefused({ store: 'test:', key: undefined, reason: 'sign in', remedy: 'Sign in.' });

/** What it says in the end, and the pauses before each attempt; the last attempt ends it. */
async function run(
  attempts: readonly (Error | HeldLease | 'lost')[],
): Promise<{ state: string; pausesMs: number[] }> {
  const clock = new VirtualClock();
  const pausesMs: number[] = [];
  let beforeMs = 0;
  let tell = (): void => undefined;
  const ended = new Promise<void>((resolve) => (tell = resolve));
  const lease = new LeaseWhenBack(() => {
    const attempt = attempts[pausesMs.length] ?? away;
    pausesMs.push(clock.now() - beforeMs);
    beforeMs = clock.now();
    if (pausesMs.length === attempts.length) tell();
    return attempt instanceof Error ? Promise.reject(attempt) : Promise.resolve(attempt);
  }, clock);
  await clock.run(ended);
  await lease[Symbol.asyncDispose]();
  return { state: lease.state, pausesMs };
}

t.test('the lease is taken when the store is back, after pauses that have a limit', async (t) => {
  const { state, pausesMs } = await run([...Array<Error>(9).fill(away), {} as HeldLease]);
  t.equal(state, 'held');
  t.same(pausesMs.slice(0, 3), [1, 2, 4].map((times) => times * limits.storeRetryMs)); // prettier-ignore
  t.equal(Math.max(...pausesMs), limits.storeRetryMsMax);
});

t.test('whatever else is wrong is waited for with the longest pause', async (t) => {
  const { state, pausesMs } = await run([refused, new Error('damaged'), away, {} as HeldLease]);
  t.equal(state, 'held');
  const { storeRetryMs, storeRetryMsMax } = limits;
  t.same(pausesMs, [storeRetryMs, storeRetryMsMax, storeRetryMsMax, storeRetryMsMax]);
});

t.test('a lease that is lost ends it, and so does closing', async (t) => {
  t.match(await run([away, 'lost']), { state: 'lost', pausesMs: { length: 2 } });
  t.match(await run([refused]), { state: 'waiting' });
});
