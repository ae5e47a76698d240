import fc from 'fast-check';
import t from 'tap';
import { limits } from '../../src/base/index.js';
import { groupNeighbours } from '../../src/fetch/pack-range.js';
import type { BlobId, BlobReference } from '../../src/repo/index.js';
import { packIdOf } from './support.js';

const bounds = { gapBytes: limits.warmGapBytes, rangeBytes: limits.warmRangeBytes };

/** Blobs back to back or with gaps in some packs, and the order in which they are asked for. */
const blobs = fc.array(
  fc.record({
    pack: fc.nat({ max: 2 }),
    gapBytes: fc.oneof(fc.constant(0), fc.nat({ max: 2 * limits.warmGapBytes })),
    sealedBytes: fc.oneof(fc.integer({ min: 1, max: 140_000 }), fc.constant(3 * 1024 * 1024)),
    turn: fc.nat(),
  }),
  { maxLength: 60 },
);

t.test('every reference is in exactly one group, and a group is worth one request', (t) => {
  fc.assert(
    fc.property(blobs, (layout) => {
      const ends = [0, 0, 0];
      const all = layout.map(({ pack, gapBytes, sealedBytes, turn }, counter) => {
        const offsetBytes = (ends[pack] ?? 0) + gapBytes;
        ends[pack] = offsetBytes + sealedBytes;
        const reference = { packId: packIdOf(pack), offsetBytes, sealedBytes, counter, id: String(counter) };
        return { turn, reference: reference as BlobReference };
      });
      const asked = all.sort((a, b) => a.turn - b.turn).map(({ reference }) => reference);
      const groups = groupNeighbours(asked, bounds);
      const counters = groups.flat().map((reference) => reference.counter);
      if (new Set(counters).size !== layout.length || counters.length !== layout.length) {
        throw new Error('a reference is lost or double');
      }
      const firsts = groups.map((group) => Math.min(...group.map((reference) => asked.indexOf(reference))));
      if (firsts.some((first, position) => first < (firsts[position - 1] ?? -1)))
        throw new Error('what is wanted first comes later');
      for (const group of groups) {
        const start = Math.min(...group.map((reference) => reference.offsetBytes));
        const end = Math.max(...group.map((reference) => reference.offsetBytes + reference.sealedBytes));
        if (new Set(group.map((reference) => reference.packId)).size !== 1)
          throw new Error('two packs in a group');
        if (group.length > 1 && end - start > limits.warmRangeBytes) throw new Error('too long');
      }
    }),
  );
  t.end();
});

t.test('neighbours go together, whatever their order; a wide gap parts them', (t) => {
  const at = (offsetBytes: number): BlobReference => ({
    packId: packIdOf(1),
    offsetBytes,
    sealedBytes: 1000,
    counter: offsetBytes,
    id: String(offsetBytes) as BlobId,
  });
  const far = 2000 + limits.warmGapBytes + 1;
  const groups = groupNeighbours([at(1000), at(0), at(far)], bounds);
  t.strictSame(
    groups.map((group) => group.map((reference) => reference.offsetBytes)),
    [[0, 1000], [far]],
  );
  t.end();
});
