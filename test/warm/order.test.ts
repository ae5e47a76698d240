/** What is fetched first: nothing is forgotten, nothing comes twice, and the likeliest comes first. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { likelyTouches } from '../../src/trace/index.js';
import type { Trace } from '../../src/repo/index.js';
import { warmOrder, type WantedChunk, type WarmScope, type WarmVersion } from '../../src/warm/index.js';
import { ModelFile } from '../repo/publish-support.js';
import { recordingOf } from '../support/traces.js';
import { chunkBytes, fullFile, WarmLab } from './support.js';

const background = { fetchClass: 'background' } as const;

async function orderOf(version: WarmVersion, scope: WarmScope): Promise<WantedChunk[]> {
  const chunks: WantedChunk[] = [];
  for await (const chunk of warmOrder(version, scope, background)) chunks.push(chunk);
  return chunks;
}

const places = (chunks: readonly { readonly path: string; readonly chunkIndex: number }[]): string[] =>
  chunks.map(({ path, chunkIndex }) => `${path} ${chunkIndex}`);

/** Also of files, and behind ends of files, that the version does not have. */
const anyTouches = fc.uniqueArray(
  fc.record({ path: fc.constantFrom('mem', 'disk', 'gone'), chunkIndex: fc.nat(130) }),
  { maxLength: 60, selector: ({ path, chunkIndex }) => `${chunkIndex} ${path}` },
);

t.test('everything comes once, what the trace names first and in its order', async (t) => {
  const lab = await WarmLab.create(t);
  const mem = fullFile(120);
  mem.clear(20, 30, 'zero');
  const disk = fullFile(100, 1000);
  const small = fullFile(3, 2000);
  await lab.publish({ mem, disk, small });
  mem.write(5, 3000);
  mem.write(90, 3001);
  disk.write(7, 3002);
  await lab.publish({ mem, disk, small });
  const version = await lab.open('host');
  const files = { mem, disk, small };
  const all = Object.entries(files).flatMap(([path, { chunks }]) =>
    [...chunks.keys()].map((chunkIndex) => `${path} ${chunkIndex}`),
  );
  const seenIn = fc.integer({ min: 1, max: 255 });
  await fc.assert(
    fc.asyncProperty(
      anyTouches,
      fc.array(seenIn, { minLength: 60, maxLength: 60 }),
      async (touches, bits) => {
        const recorded = recordingOf(touches);
        const trace: Trace = {
          ...recorded,
          resumes: 8,
          entries: recorded.entries.map((entry, at) => ({ ...entry, seenIn: bits[at] ?? 1 })),
        };
        const isThere = (place: string) => all.includes(place);
        const likely = places(likelyTouches(trace)).filter(isThere);
        const order = await orderOf({ ...version, trace }, { kind: 'all' });
        assert.deepEqual(places(order).toSorted(), all.toSorted());
        assert.deepEqual(places(order.filter(({ stage }) => stage === 'trace')), likely);
        assert.deepEqual(places(order).slice(0, likely.length), likely);
        assert.deepEqual(places(await orderOf({ ...version, trace }, { kind: 'working-set' })), likely);
        const stages = order.map(({ stage }) => ['trace', 'small', 'seen', 'written', 'rest'].indexOf(stage));
        assert.deepEqual(
          stages,
          stages.toSorted((one, other) => one - other),
        );
        const seen = places(order.filter(({ stage }) => stage === 'seen'));
        const unlikely = places(trace.entries).filter((place) => isThere(place) && !likely.includes(place));
        const small = places(order.filter(({ stage }) => stage === 'small'));
        assert.deepEqual(seen.toSorted(), unlikely.filter((place) => !small.includes(place)).toSorted());
      },
    ),
    { numRuns: 50 },
  );
});

t.test('without a trace: the small files, then what the last session wrote', async (t) => {
  const lab = await WarmLab.create(t);
  const mem = fullFile(1200);
  const disk = fullFile(100, 2000);
  const state = fullFile(7, 3000);
  await lab.publish({ mem, disk, state });
  const imported = await orderOf(await lab.open('host'), { kind: 'working-set' });
  t.equal(imported.length, 1307, 'the first version was written as a whole');
  for (const index of [3, 600, 1100]) mem.write(index, 4000 + index);
  mem.clear(700, 20, 'zero');
  mem.touch(8);
  const added = fullFile(70, 5000);
  await lab.publish({ mem, disk, state, added });
  const order = await orderOf(await lab.open('host'), { kind: 'working-set' });
  t.same(
    places(order.filter(({ stage }) => stage === 'small')),
    places(Array.from({ length: 7 }, (_, chunkIndex) => ({ path: 'state', chunkIndex }))),
  );
  const written = order.filter(({ stage }) => stage === 'written');
  t.same(places(written.filter(({ path }) => path === 'mem')), ['mem 3', 'mem 600', 'mem 1100']);
  t.equal(written.filter(({ path }) => path === 'added').length, 70, 'a new file was written as a whole');
  t.equal(written.length, 73);
});

t.test('a range of a file is the chunks that it touches', async (t) => {
  const lab = await WarmLab.create(t);
  const file = new ModelFile(chunkBytes, 700 * chunkBytes - 5);
  for (let index = 0; index < 700; index += 3) file.write(index, index);
  await lab.publish({ file });
  const version = await lab.open('host');
  const scopeOf = (offsetBytes: number, lengthBytes: number): WarmScope => ({
    kind: 'file',
    path: 'file',
    range: { offsetBytes, lengthBytes },
  });
  await fc.assert(
    fc.asyncProperty(
      fc.nat(701 * chunkBytes),
      fc.integer({ min: 1, max: 2 ** 24 }),
      async (offset, length) => {
        const first = Math.floor(offset / chunkBytes);
        const last = Math.floor((offset + length - 1) / chunkBytes);
        const expected = [...file.chunks.keys()].filter((index) => index >= first && index <= last);
        const order = await orderOf(version, scopeOf(offset, length));
        assert.deepEqual(
          order.map(({ chunkIndex }) => chunkIndex),
          expected.toSorted((one, other) => one - other),
        );
      },
    ),
    { numRuns: 50 },
  );
  t.equal((await orderOf(version, { kind: 'file', path: 'file', range: undefined })).length, 234);
  await t.rejects(orderOf(version, { kind: 'file', path: 'none', range: undefined }), {
    code: 'INVALID_INPUT',
  });
});
