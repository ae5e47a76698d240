/** `isr warm` as users run it: without a mount and with one, several at once, interrupted, and into a directory to carry along. */
import type { ChildProcess } from 'node:child_process';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { TrialHost } from '../fixtures/trial-host.js';
import { Trial } from '../fixtures/trial.js';
import type { DaemonStatus } from '../src/daemon/index.js';
import type { WarmPlan, WarmResult } from '../src/warm/index.js';
import { runPython } from './support/mount-contract.js';

const vmName = 'warmed';
const chunkBytes = 128 * 1024;
const chunks = 96;

interface Lab {
  readonly trial: Trial;
  readonly host: TrialHost;
  readonly content: Buffer;
  /** Slow enough that a command is still at work when it is interrupted. */
  readonly farUrl: string;
}

async function openLab(t: Test): Promise<Lab> {
  const { trial, host } = await Trial.create(vmName);
  t.teardown(() => trial[Symbol.asyncDispose]());
  const directory = join(trial.root, 'source');
  await mkdir(directory);
  const content = randomBytes(chunks * chunkBytes);
  await writeFile(join(directory, 'mem'), content);
  await writeFile(join(directory, 'state'), content.subarray(0, 3 * chunkBytes));
  await host.isr(['import', vmName, directory, '--at', trial.mountPath], trial.url);
  return { trial, host, content, farUrl: trial.farUrl('mbps=100&rttMs=5') };
}

/** Reads the whole file through the mount, and tells what of it came from the store meanwhile. */
async function readMounted({ trial, content }: Lab, host: TrialHost, url: string): Promise<number> {
  const before = await host.isr<DaemonStatus>(['status', vmName], url);
  const read = await readFile(join(trial.mountPath, 'mem'));
  if (!read.equals(content)) throw new Error('other bytes');
  const after = await host.isr<DaemonStatus>(['status', vmName], url);
  const bytesOf = ({ fetch }: DaemonStatus) => fetch.fetches.demand.bytes + fetch.fetches.replay.bytes;
  return bytesOf(after) - bytesOf(before);
}

/** Chunks in the cache of a host. */
async function cachedChunks(host: TrialHost): Promise<number> {
  const entries = await readdir(join(host.home, 'cache', 'v1'), { recursive: true }).catch(() => []);
  return entries.filter((entry) => entry.endsWith('.chunk')).length;
}

/** Ctrl-C when some chunks are here; the exit code. */
async function interrupted(warming: ChildProcess, host: TrialHost): Promise<number | null> {
  const ended = new Promise<number | null>((resolve) => warming.once('exit', resolve));
  while (warming.exitCode === null && (await cachedChunks(host)) < 10) await sleep(5);
  warming.kill('SIGINT');
  return ended;
}

t.test('without a mount: several at once, one interrupted, and again', async (t) => {
  const lab = await openLab(t);
  const { trial, farUrl } = lab;
  const host = await trial.addHost();
  const plan = await host.isr<WarmPlan>(['warm', vmName, '--plan'], farUrl);
  t.match(plan, {
    stages: [
      { stage: 'small', chunks: 3 },
      { stage: 'written', chunks },
    ],
  });
  t.equal(plan.resume, undefined);

  const others = [
    host.isr<WarmResult>(['warm', vmName, '--all'], farUrl),
    host.isr<WarmResult>(['warm', vmName], farUrl),
  ];
  const slow = trial.farUrl('mbps=8&rttMs=5');
  t.ok([0, 130].includes((await interrupted(host.spawn(['warm', vmName, '--all'], slow), host)) ?? -1));
  for (const result of await Promise.all(others)) t.match(result, { ended: 'complete', chunks: chunks + 3 });
  await host.isr(['mount', vmName, '--ephemeral'], farUrl);
  t.equal(await readMounted(lab, host, farUrl), 0);
});

t.test('interrupted, it has lost nothing', async (t) => {
  const { trial } = await openLab(t);
  const host = await trial.addHost();
  const warming = host.spawn(['warm', vmName, '--all'], trial.farUrl('mbps=8&rttMs=5'));
  t.equal(await interrupted(warming, host), 130);
  const here = await cachedChunks(host);
  t.ok(here < chunks, 'it was interrupted in the middle');
  const again = await host.isr<WarmResult>(['warm', vmName, '--all'], trial.url);
  // What the state has is in the memory too.
  t.match(again, { chunks: chunks + 3, fetchedChunks: chunks - here });
});

t.test('with a mount the daemon does it', async (t) => {
  const lab = await openLab(t);
  const { trial, farUrl } = lab;
  const host = await trial.addHost();
  await host.isr(['mount', vmName, '--ephemeral'], farUrl);
  const range = ['--file', 'mem', '--range', '1M-3M'];
  t.match(await host.isr(['warm', vmName, ...range], farUrl), { chunks: 16, ended: 'complete' });
  const status = await host.isr<DaemonStatus>(['status', vmName], farUrl);
  t.ok(status.fetch.fetches.background.bytes >= 16 * chunkBytes);
  t.match(await host.isr(['warm', vmName, '--deadline', '1ms'], farUrl), { scope: 'all' });
  const inMount = await host.isrError(['warm', vmName, '--to', join(trial.mountPath, 'usb')], farUrl);
  t.match(inMount, { code: 'INVALID_INPUT', message: /in the mount itself/ });

  const directory = join(trial.root, 'usb');
  t.match(await host.isr(['warm', vmName, '--all', '--to', directory], farUrl), {
    chunks: chunks + 3,
    fetchedChunks: chunks + 3,
  });
  t.equal(await readMounted(lab, host, farUrl), 0);
  await host.isr(['umount', vmName], farUrl);

  const other = await trial.addHost();
  await other.isr(['mount', vmName, '--ephemeral', '--tier', directory], farUrl);
  t.equal(await readMounted(lab, other, farUrl), 0, 'all of it comes from the directory');
  await other.isr(['umount', vmName], farUrl);
  for (const wrong of [
    ['--all', '--file', 'mem'],
    ['--deadline', '30'],
  ])
    t.match(await host.isrError(['warm', vmName, ...wrong], farUrl), { exitCode: 2 });

  t.match(await host.isr(['warm', vmName, '--pin'], farUrl), { ended: 'complete' });
  t.match(await host.isr(['cache', 'ls'], farUrl), { pins: [{ vmName, ofVersion: '1', version: null }] });
  await mkdir(join(trial.root, 'usb2'));
  await writeFile(join(trial.root, 'usb2', 'holiday.jpg'), '');
  await host.isr(['warm', vmName, '--to', join(trial.root, 'usb2')], farUrl);
  const found = await runPython(
    'import os, sys; print(sorted(os.listdir(sys.argv[1])))',
    join(trial.root, 'usb2'),
  );
  t.match(found.stdout, /'cache', 'holiday.jpg'/, 'beside other things it is in a directory of its own');
  t.match(await host.isrError(['warm', vmName, '--to', trial.storePath], farUrl), { code: 'INVALID_INPUT' });
  t.match(await host.isrError(['warm', vmName, '--to', join(trial.root, 'a', 'b')], farUrl), { code: 'INVALID_INPUT' }); // prettier-ignore
});
