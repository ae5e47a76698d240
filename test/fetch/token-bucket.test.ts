import fc from 'fast-check';
import t from 'tap';
import { HedgeBudget, TokenBucket } from '../../src/fetch/token-bucket.js';
import { ManualClock } from './support.js';

t.test('the rate holds over any time, but for what may be saved up and the last one taken', (t) => {
  const step = fc.record({ waitMs: fc.nat(500), take: fc.integer({ min: 1, max: 5000 }) });
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 200 }),
      fc.integer({ min: 1, max: 100_000 }),
      (steps, perSecond) => {
        const clock = new ManualClock();
        const bucket = new TokenBucket({ perSecond, size: perSecond / 4, clock });
        const startedAt = clock.now();
        let taken = 0;
        for (const { waitMs, take } of steps) {
          clock.advance(waitMs);
          if (bucket.waitMs > 0) continue;
          bucket.take(take);
          taken += take;
          const most = perSecond / 4 + (perSecond * (clock.now() - startedAt)) / 1000 + take;
          if (taken > most + 1e-6) throw new Error(`${taken} of at most ${most}`);
        }
        const { waitMs } = bucket;
        clock.advance(waitMs);
        clock.advance(1);
        if (bucket.waitMs > 0) throw new Error(`it said ${waitMs} ms, and still nothing may be taken`);
      },
    ),
  );
  t.end();
});

t.test('second requests are a share of the first, and a few more', (t) => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { maxLength: 2000 }), (wantsSecond) => {
      const budget = new HedgeBudget({ share: 0.05, size: 4 });
      let spent = 0;
      for (const [index, wants] of wantsSecond.entries()) {
        budget.earn();
        if (wants && budget.spend()) spent += 1;
        if (spent > 4 + 0.05 * (index + 1) + 1e-6) throw new Error(`${spent} for ${index + 1}`);
      }
    }),
  );
  t.end();
});
