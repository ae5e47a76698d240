/** Waits of programs on a real mount are put down to what they really waited for. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import type { TrialHost } from '../fixtures/trial-host.js';
import { Trial } from '../fixtures/trial.js';
import { connectDaemon, mountVm, type DaemonClient, type Explanation } from '../src/daemon/index.js';
import { waitParts, type WaitPart, type WaitParts } from '../src/fetch/index.js';
import { openHostHome } from '../src/host/index.js';
import { runPython } from './support/mount-contract.js';

const vmName = 'explained';
const chunkBytes = 128 * 1024;
const chunks = 256;

/** Scattered, so that the time between demands does not bring the next of them. */
const places = (first: number, count: number): number[] =>
  Array.from({ length: count }, (_, turn) => ((turn + first) * 101) % chunks);

/** Touches one byte of each chunk through a mapping, as a guest does. */
const touch = `
import mmap, sys
with open(sys.argv[1], 'rb', buffering=0) as file:
    with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        mapped.madvise(mmap.MADV_RANDOM)
        for chunk in map(int, sys.argv[2].split(',')): mapped[chunk * ${chunkBytes} + 4096]
`;

interface Lab {
  readonly trial: Trial;
  readonly publisher: TrialHost;
}

async function openLab(t: Test): Promise<Lab> {
  const { trial, host: publisher } = await Trial.create(vmName);
  t.teardown(() => trial[Symbol.asyncDispose]());
  const directory = join(trial.root, 'source');
  await mkdir(directory);
  await writeFile(join(directory, 'mem'), randomBytes(chunks * chunkBytes));
  await publisher.isr(['import', vmName, directory, '--at', trial.mountPath], trial.url);
  return { trial, publisher };
}

/** Mounts as for a resume, over a link with these parameters. */
async function resume(
  { trial }: Lab,
  host: TrialHost,
  link: string,
  options: { readonly prefetch?: boolean; readonly engine?: 'kernel' | 'fuse-native' } = {},
): Promise<DaemonClient> {
  return mountVm({
    home: await openHostHome(host.home),
    repositoryId: trial.repositoryId,
    repositoryUrl: trial.farUrl(link),
    mount: {
      ...{ vmName, version: undefined, mountPath: undefined, ephemeral: true, allowOther: false },
      engine: options.engine ?? 'kernel',
      resuming: { prefetch: options.prefetch ?? true },
    },
  });
}

async function touchChunks({ trial }: Lab, wanted: readonly number[]): Promise<void> {
  const { exitCode, stderr } = await runPython(touch, join(trial.mountPath, 'mem'), wanted.join(','));
  if (exitCode !== 0) throw new Error(stderr);
}

function sum(partsMs: WaitParts): number {
  return waitParts.reduce((total, part) => total + partsMs[part], 0);
}

function largest(partsMs: WaitParts): WaitPart {
  return waitParts.reduce((most, part) => (partsMs[part] > partsMs[most] ? part : most));
}

function isConsistent(t: Test, explanation: Explanation): void {
  const { stalls, durationMs, wallMs, causes, files, longest } = explanation;
  t.equal(longest.length, stalls, 'every wait is named');
  for (const each of [explanation, ...causes, ...files, ...longest]) {
    t.ok(Math.abs(sum(each.partsMs) - each.durationMs) < 0.01, 'parts add up');
  }
  for (const groups of [causes, files]) {
    const total = groups.reduce((ms, group) => ms + group.durationMs, 0);
    t.ok(Math.abs(total - durationMs) < 0.01, 'groups add up');
  }
  t.ok(wallMs <= durationMs + 0.01);
}

const lab = await openLab(t);

t.test('a first resume waits for round trips, and says that there was no trace', async (t) => {
  const host = await lab.trial.addHost();
  t.match(await host.isrError(['explain', vmName], lab.trial.url), {
    code: 'NOTHING_TO_EXPLAIN',
    exitCode: 3,
  });
  const client = await resume(lab, host, 'rttMs=60');
  await touchChunks(lab, places(0, 12));
  const during = await client.explain();
  isConsistent(t, during);
  t.match(during, { isResume: true, isOver: false, version: 1 });
  t.equal(largest(during.partsMs), 'roundTrip');
  t.equal(during.causes[0]?.cause, 'noTrace');
  t.same(
    during.files.map(({ path }) => path),
    ['mem'],
  );
  const wanted = new Set(places(0, 12));
  const named = during.longest.map(({ chunkIndex }) => chunkIndex ?? -1);
  t.same(new Set(named), wanted, 'chunks that were touched, and no others');
  t.ok(
    during.longest.every(
      ({ offsetBytes, chunkIndex = -1 }) => Math.floor(offsetBytes / chunkBytes) === chunkIndex,
    ),
  );
  await client.unmount();

  const after = await host.isr<Explanation>(['explain', vmName], lab.trial.url);
  t.match(after, { isOver: true, stalls: during.stalls, durationMs: during.durationMs });
  t.match(after.longest[0], { path: 'mem', access: 'read', advice: /next/ });
});

t.test('what a replay was late for, and what no trace names', async (t) => {
  const first = await resume(lab, lab.publisher, 'rttMs=0');
  await touchChunks(lab, places(0, 40));
  await first.unmount();

  const host = await lab.trial.addHost();
  const client = await resume(lab, host, 'mbps=10&rttMs=20');
  // What comes last in the trace is wanted first; then something that is not in it.
  const last = places(38, 1);
  await touchChunks(lab, last);
  await touchChunks(lab, places(60, 3));
  const explanation = await client.explain();
  isConsistent(t, explanation);
  const causeOf = (chunk: number): string | undefined =>
    explanation.longest.find(({ chunkIndex }) => chunkIndex === chunk)?.cause;
  t.match(causeOf(last[0] ?? -1), /^(behind|link|arriving)$/);
  for (const chunk of places(60, 3)) t.equal(causeOf(chunk), 'untraced');
  t.ok(explanation.partsMs.transfer > explanation.partsMs.decode);
  await client.unmount();
});

t.test('what is on this host is opened, and nobody else is waited for', async (t) => {
  await lab.publisher.isr(['warm', vmName, '--all'], lab.trial.url);
  const client = await resume(lab, lab.publisher, 'rttMs=0', { prefetch: false });
  await touchChunks(lab, places(0, 12));
  const explanation = await client.explain();
  isConsistent(t, explanation);
  t.ok(explanation.longest.some(({ cause }) => cause === 'local'));
  t.ok(explanation.longest.every(({ cause }) => ['local', 'daemon'].includes(cause)));
  t.equal(explanation.partsMs.roundTrip + explanation.partsMs.transfer + explanation.partsMs.queue, 0);
  await client.unmount();
});

t.test('failed requests are told from slow ones', async (t) => {
  const host = await lab.trial.addHost();
  const client = await resume(lab, host, 'rttMs=1&refuseRate=0.3&seed=3', { prefetch: false });
  await touchChunks(lab, places(0, 20));
  const explanation = await client.explain();
  isConsistent(t, explanation);
  t.ok(explanation.causes.some(({ cause }) => cause === 'failure'));
  t.ok(explanation.causes.some(({ cause }) => cause === 'noPrefetch'));
  const { retries } = (await client.status()).fetch.trouble;
  t.ok(retries > 0);
  for (const { cause, partsMs, durationMs } of explanation.longest) {
    t.equal(cause === 'failure', 2 * partsMs.retry > durationMs);
  }
  await client.unmount();
});

t.test('the next worker goes on with the record', async (t) => {
  const host = await lab.trial.addHost();
  const client = await resume(lab, host, 'rttMs=5');
  await touchChunks(lab, places(0, 12));
  const paths = await host.vmPaths(lab.trial.repositoryId, vmName);
  const { stalls } = await client.explain();
  await client.upgrade();
  await touchChunks(lab, places(20, 12));
  const again = await connectDaemon(paths, vmName);
  const explanation = await again?.explain();
  t.ok((explanation?.stalls ?? 0) > stalls, 'old and new waits');
  t.equal(explanation?.isResume, true);
  await again?.unmount();
});
