import t from 'tap';
import { limits } from '../../src/base/index.js';
import { StoreRefused, StoreUnreachable } from '../../src/store/index.js';
import { SuspendNotPublished } from '../../src/vm/errors.js';
import { whenOnline } from '../../src/vm/when-online.js';
import { VirtualClock } from '../store/virtual-clock.js';

const away = new StoreUnreachable({ store: 'test:', key: undefined, reason: 'the cable is out' });

t.test('it is tried until the store is there, with pauses that have a limit', async (t) => {
  const clock = new VirtualClock();
  const triedAt: number[] = [];
  const waiting: string[] = [];
  const done = whenOnline(
    async () => {
      triedAt.push(clock.now());
      if (triedAt.length < 12) throw triedAt.length % 2 === 0 ? away : new SuspendNotPublished('web', away);
      return 'published';
    },
    { clock, signal: new AbortController().signal, onWaiting: ({ message }) => waiting.push(message) },
  );
  t.equal(await clock.run(done), 'published');
  t.equal(waiting.length, 1, 'it is said once');
  const pauses = triedAt.slice(1).map((atMs, index) => atMs - (triedAt[index] ?? 0));
  t.equal(pauses[0], limits.storeRetryMs);
  t.equal(Math.max(...pauses), limits.storeRetryMsMax);
});

t.test('any other error ends it, and so does giving up', async (t) => {
  const clock = new VirtualClock();
  const refused = new StoreRefused({ store: 'test:', key: undefined, reason: 'no', remedy: 'Ask.' });
  const abort = new AbortController();
  const options = { clock, signal: abort.signal, onWaiting: () => abort.abort() };
  for (const error of [refused, new SuspendNotPublished('web', refused), new Error('a mistake')])
    await t.rejects(
      whenOnline(() => Promise.reject(error), options),
      error,
    );
  await t.rejects(
    whenOnline(() => Promise.reject(away), options),
    { code: 'CANCELLED' },
  );
});
