import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { Cancelled } from '../../src/base/index.js';
import { planWarming, warmVersion } from '../../src/warm/index.js';
import { until } from '../fetch/support.js';
import { recordingOf } from '../support/traces.js';
import { fullFile, WarmLab } from './support.js';

const workingSet = { kind: 'working-set' } as const;
const all = { kind: 'all' } as const;

/** Far from each other, so that each costs a request of its own. */
const touched = Array.from({ length: 12 }, (_, at) => (at * 61 + 300) % 700);

t.test('a deadline ends it with what came so far, the first of the trace', async (t) => {
  const lab = await WarmLab.create(t);
  await lab.publish({ mem: fullFile(700) });
  const version = await lab.open('host', recordingOf(touched));
  const places = await planWarming(version, workingSet);
  t.equal(places.requests, touched.length);
  const plan = await lab.open('other', recordingOf(touched));
  const reference = async (index: number) => {
    const inode = [...plan.manifest.inodes.values()].find(({ kind }) => kind === 'file');
    if (inode?.kind !== 'file') throw new Error('there is a file');
    return plan.fetcher.openFile(inode.content).chunk(index, { fetchClass: 'background' });
  };
  const references = await Promise.all(touched.map(reference));
  lab.store.hold();
  const warming = warmVersion(plan, { scope: workingSet, deadlineAtMs: Date.now() + 2000 }, {});
  await until(() => lab.store.holding >= 3, 'requests under way');
  lab.store.release(3);
  const first = await warming;
  t.match(first, { ended: 'deadline', chunks: 3, fetchedChunks: 3, stages: [{ stage: 'trace', chunks: 3 }] });
  const isHere = references.map((found) => typeof found === 'object' && plan.fetcher.isLocal(found));
  t.same(
    isHere,
    touched.map((_, position) => position < 3),
  );
  lab.store.release();
  const second = await warmVersion(plan, { scope: workingSet, deadlineAtMs: Date.now() + 60_000 }, {});
  t.match(second, { ended: 'complete', chunks: 12, fetchedChunks: 9 });
  t.match(
    await warmVersion(plan, { scope: workingSet, deadlineAtMs: 0 }, {}),
    { ended: 'deadline', chunks: 0 },
    'a time that is up',
  );
});

t.test('interrupted it says so, and what came stays', async (t) => {
  const lab = await WarmLab.create(t);
  await lab.publish({ mem: fullFile(700) });
  const version = await lab.open('host', recordingOf(touched));
  await planWarming({ ...version, fetcher: await lab.fetcher('nodes') }, workingSet);
  const stop = new AbortController();
  const warming = warmVersion(
    version,
    { scope: workingSet },
    { signal: stop.signal, onProgress: () => stop.abort() },
  );
  await t.rejects(warming, Cancelled);
  const again = await warmVersion(version, { scope: workingSet }, {});
  t.ok(again.chunks === touched.length && again.fetchedChunks < touched.length);
});

t.test('several at once share what they fetch', async (t) => {
  const lab = await WarmLab.create(t);
  await lab.publish({ mem: fullFile(300), disk: fullFile(200, 1000) });
  const version = await lab.open('host');
  const results = await Promise.all([1, 2, 3].map(() => warmVersion(version, { scope: all }, {})));
  for (const result of results) t.match(result, { ended: 'complete', chunks: 500 });
  const { bytes } = version.fetcher.status().fetches.background;
  const once = results[0]!.stages.length > 0 ? (await planWarming(version, all)).stages : [];
  const wanted = once.reduce((sum, stage) => sum + stage.bytes, 0);
  t.ok(bytes < 1.2 * wanted, `${bytes} of ${wanted}`);
});

t.test('a lookaside place gets all that a resume needs, and nothing twice', async (t) => {
  const lab = await WarmLab.create(t);
  await lab.publish({ mem: fullFile(300), state: fullFile(5, 1000) });
  const trace = recordingOf(touched.map((index) => index % 300));
  const version = await lab.open('host', trace);
  const disk = join(lab.root, 'disk');
  const fill = async (scope: typeof workingSet | typeof all) => {
    const lookaside = await lab.fetcher('disk', [join(lab.root, 'host')]);
    return warmVersion(version, { scope }, { lookaside });
  };
  t.match(await fill(workingSet), { chunks: 12, fetchedChunks: 12 });
  const gets = lab.store.gets.length;
  t.match(await fill(workingSet), { chunks: 12, fetchedChunks: 0 });
  t.equal(lab.store.gets.length, gets, 'nothing is asked of the store again');
  t.match(await fill(all), { chunks: 305, fetchedChunks: 293 });

  const elsewhere = await lab.open('elsewhere', trace, [disk]);
  lab.store.gets.length = 0;
  t.match(await warmVersion(elsewhere, { scope: all }, {}), { chunks: 305, ended: 'complete' });
  t.equal(lab.store.gets.length, 0, 'all of it comes from there, map nodes too');
});

t.test('a lookaside place that takes nothing is an error', async (t) => {
  const lab = await WarmLab.create(t);
  await lab.publish({ mem: fullFile(50) });
  const version = await lab.open('host');
  await writeFile(join(lab.root, 'file'), 'in the way');
  const lookaside = await lab.fetcher('file/disk');
  await t.rejects(warmVersion(version, { scope: all }, { lookaside }), { code: 'LOCAL_CACHE_UNUSABLE' });
});
