import fc from 'fast-check';
import t from 'tap';
import { limits } from '../../src/base/index.js';
import { LinkEstimate } from '../../src/fetch/link-estimate.js';

/** What answers of a link look like that is exactly as it is said to be. */
function observe(
  link: LinkEstimate,
  truth: { roundTripMs: number; bytesPerMs: number },
  answers: number,
): void {
  for (let answer = 0; answer < answers; answer += 1) {
    const pieceBytes = 16_384;
    link.noteFirstPiece(truth.roundTripMs + pieceBytes / truth.bytesPerMs, pieceBytes);
    link.noteTransfer(1_000_000, 1_000_000 / truth.bytesPerMs);
    link.noteDemand(truth.roundTripMs + 60_000 / truth.bytesPerMs, 60_000);
  }
}

const links = fc.record({
  roundTripMs: fc.double({ min: 0.1, max: 500, noNaN: true }),
  bytesPerMs: fc.double({ min: 10, max: 1_000_000, noNaN: true }),
});

t.test('before anything was seen, nothing is claimed', (t) => {
  const link = new LinkEstimate();
  t.equal(link.roundTripMs, undefined);
  t.equal(link.bytesPerMs, undefined);
  t.equal(link.slowDemandMs(1000), undefined);
  t.equal(link.rangeBytes, limits.warmRangeBytes);
  t.equal(link.windowBytes, Infinity);
  t.equal(link.patienceMs(1e9, 0), limits.storePatience.tryMsMax);
  t.end();
});

t.test('a steady link is found out, whatever it was before', (t) => {
  fc.assert(
    fc.property(links, links, (before, now) => {
      const link = new LinkEstimate();
      observe(link, before, limits.linkDemandSamples);
      // The first are judged by what the link was before.
      observe(link, now, 2 * limits.linkDemandSamples);
      const { roundTripMs, bytesPerMs } = link;
      if (Math.abs((bytesPerMs ?? 0) / now.bytesPerMs - 1) > 0.01) throw new Error(`bandwidth ${bytesPerMs}`);
      if (Math.abs((roundTripMs ?? 0) - now.roundTripMs) > 0.01 * now.roundTripMs + 1e-6)
        throw new Error(`round trip ${roundTripMs}`);
      const slowMs = link.slowDemandMs(60_000) ?? 0;
      const fullMs = now.roundTripMs + 60_000 / now.bytesPerMs;
      if (
        slowMs < fullMs * 0.99 ||
        slowMs > Math.max(limits.hedgeDelayMsMin, fullMs * 1.01 * limits.hedgeDelayFactor)
      )
        throw new Error(`slow is ${slowMs} ms`);
    }),
    { numRuns: 50 },
  );
  t.end();
});

t.test('what follows from it stays within its bounds', (t) => {
  const { tryMs, tryMsMax, tryMsLongest } = limits.storePatience;
  fc.assert(
    fc.property(links, fc.nat(20), fc.nat(1e9), fc.nat(40), (truth, answers, toCome, timeouts) => {
      const link = new LinkEstimate();
      observe(link, truth, answers);
      const patience = link.patienceMs(toCome, timeouts);
      if (!(patience >= tryMs && patience <= (timeouts === 0 ? tryMsMax : tryMsLongest)))
        throw new Error(`patience ${patience}`);
      if (link.patienceMs(toCome, timeouts + 1) < patience) throw new Error('less patient after a timeout');
      const { rangeBytes, windowBytes, replayRangeBytes, windowBesideDemandBytes } = link;
      if (!(replayRangeBytes <= rangeBytes && windowBesideDemandBytes <= windowBytes))
        throw new Error('more is on its way beside demand than without');
      // Two ranges keep the link busy.
      if (link.bytesPerMs !== undefined && 3 * replayRangeBytes < Math.min(windowBesideDemandBytes, 1e6))
        throw new Error(`ranges of ${replayRangeBytes} in a window of ${windowBesideDemandBytes}`);
      if (!(rangeBytes >= limits.warmRangeBytesMin && rangeBytes <= limits.warmRangeBytesMax))
        throw new Error(`range ${rangeBytes}`);
      if (!(windowBytes >= limits.warmRangeBytesMin)) throw new Error(`window ${windowBytes}`);
    }),
  );
  t.end();
});

t.test('one answer that strayed changes little', (t) => {
  const link = new LinkEstimate();
  observe(link, { roundTripMs: 20, bytesPerMs: 12_500 }, 32);
  link.noteFirstPiece(5000, 1000);
  link.noteTransfer(1_000_000, 20_000);
  link.noteDemand(30_000, 60_000);
  t.ok(Math.abs((link.roundTripMs ?? 0) - 20) < 0.1);
  t.ok(Math.abs((link.bytesPerMs ?? 0) - 12_500) < 1);
  t.ok((link.slowDemandMs(60_000) ?? Infinity) < 30);
  t.end();
});
