/** Somebody sets the host's clock. Spans of time are measured by a clock that does not notice. */
import t from 'tap';
import { limits, systemClock } from '../../src/base/index.js';
import { TokenBucket } from '../../src/fetch/token-bucket.js';

const hourMs = 3_600_000;

for (const jumpMs of [hourMs, -hourMs]) {
  t.test(`by ${jumpMs / hourMs} h`, async (t) => {
    const wallNow = Date.now;
    t.teardown(() => (Date.now = wallNow));
    const bucket = new TokenBucket({ perSecond: 1000, size: 100, clock: systemClock });
    bucket.take(200);
    const beforeMs = systemClock.now();
    const wallBeforeMs = systemClock.wallMs();
    Date.now = () => wallNow() + jumpMs;
    // Not a moment passed, or a few milliseconds.
    t.ok(systemClock.now() - beforeMs >= 0);
    t.ok(systemClock.now() - beforeMs < hourMs / 2);
    t.ok(bucket.waitMs <= 100);
    t.ok(Math.abs(systemClock.wallMs() - wallBeforeMs) > hourMs / 2, 'what people are told does jump');
    await systemClock.delay(1, AbortSignal.timeout(limits.storeConnectMs));
    t.ok(systemClock.now() > beforeMs);
  });
}
