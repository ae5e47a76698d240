import { mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { entryPath } from '../../src/fetch/local-cache/layout.js';
import { sweepCache } from '../../src/fetch/local-cache/sweep.js';
import { Sweeper } from '../../src/fetch/local-cache/sweeper.js';
import { appendUsage, readUsage, replaceUsage } from '../../src/fetch/local-cache/usage-record.js';
import type { BlobId } from '../../src/repo/index.js';
import { lockFile } from '../../src/system/index.js';
import { contentOf, sealer } from './support.js';

const now = Date.UTC(2026, 0, 1);
const block = 4096;

/** An entry of so many disk blocks that was used so many minutes ago. */
function makeEntry(cachePath: string, number: number, blocks: number, minutesAgo: number): BlobId {
  const id = sealer.identify(contentOf(number, 8));
  const path = entryPath(cachePath, id, 'chunk');
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, new Uint8Array(blocks * block - 7));
  const usedAt = (now - minutesAgo * 60_000) / 1000;
  utimesSync(path, usedAt, usedAt);
  return id;
}

function entriesIn(cachePath: string): string[] {
  return readdirSync(cachePath)
    .filter((name) => name.length === 2)
    .flatMap((name) => readdirSync(join(cachePath, name)))
    .map((name) => name.replace('.chunk', ''));
}

t.test('below the limit nothing goes, and the total is written down', async (t) => {
  const cachePath = t.testdir();
  makeEntry(cachePath, 1, 2, 10_000);
  makeEntry(cachePath, 2, 3, 5);
  const result = sweepCache({ cachePath, limitBytes: 5 * block, now });
  t.strictSame(result, {
    outcome: 'swept',
    totalBytes: 5 * block,
    pinnedBytes: 0,
    evictedBytes: 0,
    evictedEntries: 0,
  });
  t.strictSame(readUsage(cachePath), { totalBytes: 5 * block, pinnedBytes: 0, sweptAt: now });
  t.equal(entriesIn(cachePath).length, 2);
});

t.test('above the limit, what was used last stays, and a tenth becomes free', async (t) => {
  const entry = fc.record({ blocks: fc.integer({ min: 1, max: 5 }), minutesAgo: fc.nat({ max: 50 }) });
  const directory = t.testdir();
  let run = 0;
  fc.assert(
    fc.property(
      fc.array(entry, { minLength: 1, maxLength: 30 }),
      fc.integer({ min: 0, max: 100 }),
      (entries, percent) => {
        run += 1;
        const cachePath = join(directory, String(run));
        const ids = entries.map(({ blocks, minutesAgo }, number) =>
          makeEntry(cachePath, number, blocks, minutesAgo),
        );
        const totalBlocks = entries.reduce((sum, { blocks }) => sum + blocks, 0);
        const limitBytes = Math.floor((totalBlocks * block * percent) / 100);
        const result = sweepCache({ cachePath, limitBytes, now });
        const kept = new Set(entriesIn(cachePath));
        const keptEntries = entries.filter((_entry, number) => kept.has(ids[number]!));
        const goneEntries = entries.filter((_entry, number) => !kept.has(ids[number]!));
        const keptBytes = keptEntries.reduce((sum, { blocks }) => sum + blocks * block, 0);
        if (result.outcome !== 'swept') throw new Error('not swept');
        if (result.totalBytes !== keptBytes || readUsage(cachePath)?.totalBytes !== keptBytes) {
          throw new Error('the total is wrong');
        }
        if (goneEntries.length !== result.evictedEntries) throw new Error('the count is wrong');
        if (totalBlocks * block <= limitBytes) {
          if (goneEntries.length > 0) throw new Error('evicted without need');
          return;
        }
        if (keptBytes > limitBytes * 0.9) throw new Error('not enough evicted');
        // No more than one entry's worth too much.
        const lastGone = Math.min(...goneEntries.map((gone) => gone.minutesAgo));
        const largest = Math.max(
          ...goneEntries.filter((gone) => gone.minutesAgo === lastGone).map((gone) => gone.blocks),
        );
        if (keptBytes + largest * block <= limitBytes * 0.9 - block) throw new Error('too much evicted');
        for (const stays of keptEntries) {
          if (stays.minutesAgo > lastGone) throw new Error('an older entry stayed');
        }
      },
    ),
    { numRuns: 60 },
  );
  t.pass('held');
});

t.test('what a dead process left half-written goes after an hour', async (t) => {
  const cachePath = t.testdir({ tmp: { old: 'x', young: 'y' } });
  const ago = (minutes: number): number => (now - minutes * 60_000) / 1000;
  utimesSync(join(cachePath, 'tmp', 'old'), ago(61), ago(61));
  utimesSync(join(cachePath, 'tmp', 'young'), ago(59), ago(59));
  sweepCache({ cachePath, limitBytes: 1e6, now });
  t.strictSame(readdirSync(join(cachePath, 'tmp')), ['young']);
});

t.test('one sweeps at a time, and one that is stopped deletes nothing', async (t) => {
  const cachePath = t.testdir();
  makeEntry(cachePath, 1, 2, 5);
  const lock = lockFile(join(cachePath, 'lock'));
  t.strictSame(sweepCache({ cachePath, limitBytes: 0, now }), { outcome: 'skipped' });
  lock?.release();
  t.strictSame(sweepCache({ cachePath, limitBytes: 0, now, shouldStop: () => true }), { outcome: 'skipped' });
  t.equal(entriesIn(cachePath).length, 1);
  t.match(sweepCache({ cachePath, limitBytes: 0, now }), { outcome: 'swept', evictedEntries: 1 });
});

t.test('in its thread, a sweep does the same, once for all who ask, and says what fails', async (t) => {
  const cachePath = t.testdir();
  makeEntry(cachePath, 1, 2, 5);
  const sweeper = new Sweeper(cachePath);
  const [one, other] = await Promise.all([sweeper.sweep(now, block), sweeper.sweep(now, block)]);
  t.equal(one, other);
  t.strictSame(one, {
    outcome: 'swept',
    totalBytes: 0,
    pinnedBytes: 0,
    evictedBytes: 2 * block,
    evictedEntries: 1,
  });
  await sweeper[Symbol.asyncDispose]();
  t.strictSame(await sweeper.sweep(now, block), { outcome: 'skipped' }, 'closed');

  const broken = new Sweeper(join(t.testdir({ file: '' }), 'file'));
  await t.rejects(broken.sweep(now, block), { code: 'ENOTDIR' });
  await broken[Symbol.asyncDispose]();
});

t.test('processes tell each other through the record; nonsense in it is no record', async (t) => {
  const cachePath = t.testdir({ tmp: {} });
  appendUsage(cachePath, 5);
  t.equal(readUsage(cachePath), undefined, 'nobody has counted yet');
  replaceUsage(cachePath, { totalBytes: 100, pinnedBytes: 7, sweptAt: now });
  appendUsage(cachePath, 5);
  appendUsage(cachePath, 7);
  t.strictSame(readUsage(cachePath), { totalBytes: 112, pinnedBytes: 7, sweptAt: now });
  const good = readFileSync(join(cachePath, 'usage'), 'latin1');
  for (const text of ['', 'swept x total 1\n', `${good}+x\n`, `${good}-3\n`, good.slice(3)]) {
    writeFileSync(join(cachePath, 'usage'), text);
    t.equal(readUsage(cachePath), undefined, JSON.stringify(text));
  }
  t.equal(statSync(join(cachePath, 'usage')).isFile(), true);
});
