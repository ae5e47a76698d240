import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { PageBitmap, segmentPages } from '../../src/fs/page-bitmap.js';

const lastPage = 2 * segmentPages;

/** Pages near the borders of words and segments, where mistakes are. */
const page = fc.oneof(
  fc.nat(200),
  fc.integer({ min: segmentPages - 70, max: segmentPages + 70 }),
  fc.nat(lastPage),
);
const count = fc.oneof(fc.integer({ min: 1, max: 80 }), fc.integer({ min: 1, max: segmentPages + 100 }));
const step = fc.oneof(
  fc.record({ kind: fc.constant('add' as const), page, count }),
  fc.record({ kind: fc.constant('removeFrom' as const), page, count }),
);

t.test('a bitmap is a set of pages', async (t) => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 8 }), fc.array(page, { maxLength: 20 }), (steps, probes) => {
      const bitmap = new PageBitmap();
      const model = new Set<number>();
      for (const { kind, page, count } of steps) {
        if (kind === 'add') {
          bitmap.add(page, count);
          for (let each = page; each < page + count; each++) model.add(each);
        } else {
          bitmap.removeFrom(page);
          for (const each of [...model]) if (each >= page) model.delete(each);
        }
      }
      const sorted = [...model].sort((a, b) => a - b);
      assert.equal(bitmap.count, model.size);
      assert.equal(bitmap.end, (sorted.at(-1) ?? -1) + 1);
      const listed = [...bitmap.runs()].flatMap(({ first, count }) =>
        Array.from({ length: count }, (_, index) => first + index),
      );
      assert.deepEqual(listed, sorted);
      for (const probe of probes) checkProbe(bitmap, model, probe);
      const copy = new PageBitmap();
      for (const segment of bitmap.store()) copy.load(segment);
      assert.deepEqual([...copy.runs()], [...bitmap.runs()]);
      assert.equal(copy.count, bitmap.count);
    }),
    { numRuns: 100 },
  );
  t.pass('for all steps');
});

function checkProbe(bitmap: PageBitmap, model: ReadonlySet<number>, probe: number): void {
  assert.equal(bitmap.has(probe), model.has(probe));
  const limit = probe + 40;
  let end = probe;
  while (end < limit && model.has(end) === model.has(probe)) end++;
  assert.equal(bitmap.runEnd(probe, limit), end);
  assert.equal(bitmap.hasAll(probe, 40), model.has(probe) && end === limit);
  const next = [...model].reduce((least, each) => (each >= probe ? Math.min(least, each) : least), Infinity);
  assert.equal(bitmap.next(probe) ?? Infinity, next);
}

t.test('a huge file costs what is in it', async (t) => {
  const bitmap = new PageBitmap();
  const pages = 2 ** 38;
  bitmap.add(pages - 1, 1);
  bitmap.add(2 ** 31 + 5, 2);
  t.equal(bitmap.end, pages);
  t.same(
    [...bitmap.runs()],
    [
      { first: 2 ** 31 + 5, count: 2 },
      { first: pages - 1, count: 1 },
    ],
  );
  t.ok(bitmap.has(2 ** 31 + 6));
  t.notOk(bitmap.has(5));
  bitmap.add(0, 2 ** 28);
  t.equal([...bitmap.store()].filter(({ bits }) => bits === 'full').length, 2 ** 13);
});
