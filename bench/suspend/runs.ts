import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { TrialHost } from '../../fixtures/trial-host.js';
import { limits } from '../../src/base/index.js';
import { connectDaemon } from '../../src/daemon/index.js';
import type { SuspendResult } from '../../src/vm/index.js';
import { consoleSocket } from '../resume/guests/bench-guest.js';
import { GuestConsole } from '../resume/guests/console.js';
import { linkName, type LinkKind } from '../resume/link.js';
import { vmName, type Prepared } from '../resume/prepared.js';
import { changedChunks, type ChangedChunks } from './changed-chunks.js';

const run = promisify(execFile);

const runTimeoutMs = 60 * 60_000;

/** Nothing more is uploaded ahead when nothing was for so long: what was quiet then has had two periods to be seen. */
const trickleSettledMs = 2 * limits.trickleQuietMs + 10_000;
const tricklePollMs = 1_000;

/** One suspend of a guest that dirtied a part of its memory since the version that it was resumed from. */
export interface SuspendRecord {
  readonly guest: string;
  readonly link: string;
  readonly linkKind: LinkKind;
  /** Of the guest's memory, which it wrote anew; what its kernel writes besides comes on top. */
  readonly dirtyPercent: number;
  /** Whether changes were uploaded ahead, until nothing more was. */
  readonly trickle: boolean;
  readonly at: string;
  readonly revision: string;
  /** As in `RunRecord`. */
  readonly load: number;
  /** What isr says that it had to publish: whole pages. */
  readonly dirtyBytes: number;
  /** What really differs from the version before. */
  readonly changed: ChangedChunks;
  /** By which the store grew: ahead of the suspend, and during it. */
  readonly aheadBytes: number;
  readonly suspendBytes: number;
  /** Of the command, from its start to its end; the guest stands still in nearly all of it. */
  readonly seconds: number;
  /** Of it, until the guest was saved on this host. */
  readonly saveSeconds: number;
  /** From when the memory was dirty to the suspend. */
  readonly waitSeconds: number;
}

export interface SuspendOptions {
  readonly prepared: Prepared;
  readonly kind: LinkKind;
  readonly dirtyPercent: number;
  readonly trickle: boolean;
  readonly revision: string;
  readonly signal: AbortSignal;
}

/**
 * Resumes the guest on a host that has all of it in its cache, has it dirty memory, and suspends it to a repository behind
 * an imitated link.
 */
export async function suspendOnce(options: SuspendOptions): Promise<SuspendRecord> {
  const { prepared, kind, dirtyPercent, trickle, revision } = options;
  const directory = await mkdtemp(join(tmpdir(), 'isr-bs-'));
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(runTimeoutMs)]);
  const host = new TrialHost(join(directory, 'home'));
  const store = join(directory, 'store');
  const near = `file://${store}`;
  const far = `lab+file://${store}?mbps=${kind.mbps}&rttMs=${kind.rttMs}`;
  const mountPath = join(directory, 'vm');
  try {
    await mkdir(mountPath);
    await run('cp', ['-a', join(prepared.root, 'learned'), store]);
    await host.isr(['key', 'import', join(prepared.root, 'key')], near);
    await host.isr(['warm', vmName, '--all'], near);
    await host.isr(['resume', vmName, '--at', mountPath, ...(trickle ? ['--trickle'] : [])], far);
    const atStartBytes = await storeBytes(store);
    await dirty(host, options, signal);
    const dirtyMs = performance.now();
    if (trickle) await untilStoredAhead(host, prepared, signal);

    const date = new Date();
    const [load = Number.NaN] = loadavg();
    const atSuspendBytes = await storeBytes(store);
    const startMs = performance.now();
    const { publish, saveSeconds } = await host.isr<SuspendResult>(['suspend', vmName], far);
    const seconds = (performance.now() - startMs) / 1000;
    const atEndBytes = await storeBytes(store);

    const exported = join(directory, 'exported');
    await host.isr(['export', vmName, exported], near);
    const changed = await changedChunks(join(prepared.root, 'state'), exported, limits.chunkBytes);
    return {
      ...{ guest: prepared.guest.name, link: linkName(kind), linkKind: kind, dirtyPercent, trickle },
      ...{ at: date.toISOString(), revision, load, dirtyBytes: publish.dirtyBytes, changed },
      aheadBytes: atSuspendBytes - atStartBytes,
      suspendBytes: atEndBytes - atSuspendBytes,
      ...{ seconds, saveSeconds, waitSeconds: (startMs - dirtyMs) / 1000 },
    };
  } finally {
    await host.killGuestAndUnmount(prepared.repositoryId, vmName);
    await rm(directory, { recursive: true, force: true });
  }
}

async function dirty(
  host: TrialHost,
  { prepared, dirtyPercent }: SuspendOptions,
  signal: AbortSignal,
): Promise<void> {
  const { run: runDirectory } = await host.vmPaths(prepared.repositoryId, vmName);
  using console = await GuestConsole.connect(join(runDirectory, consoleSocket), signal);
  const mebibytes = Math.round((prepared.guest.memoryMiB * dirtyPercent) / 100);
  const { nonce, token } = await console.request(`dirty:${mebibytes}`, signal);
  await console.line('idle', token, signal);
  if (nonce !== prepared.nonce) throw new Error('this is another guest');
}

/** Returns when nothing more is stored ahead. */
async function untilStoredAhead(host: TrialHost, prepared: Prepared, signal: AbortSignal): Promise<void> {
  const client = await connectDaemon(await host.vmPaths(prepared.repositoryId, vmName), vmName);
  if (client === undefined) throw new Error('the guest is not mounted');
  let uploadedBytes = 0;
  let sinceMs = performance.now();
  while (uploadedBytes === 0 || performance.now() - sinceMs < trickleSettledMs) {
    signal.throwIfAborted();
    await sleep(tricklePollMs);
    const { trickle } = await client.status();
    if (trickle === undefined || (trickle.uploadedBytes === uploadedBytes && !trickle.isUploading)) continue;
    ({ uploadedBytes } = trickle);
    sinceMs = performance.now();
  }
}

async function storeBytes(directory: string): Promise<number> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  const sizes = await Promise.all(
    files.map(async ({ parentPath, name }) => (await stat(join(parentPath, name))).size),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}
