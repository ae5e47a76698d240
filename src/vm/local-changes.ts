import type { ProgressListener } from '../base/index.js';
import {
  connectDaemon,
  dropLocalChanges,
  lockVm,
  settleDaemon,
  VmSession,
  type PublishResult,
} from '../daemon/index.js';
import { readOverlaySummary } from '../fs/index.js';
import { GuestCrashed, GuestRunning, SuspendUnfinished } from './errors.js';
import { readGuestEntry, writeGuestRecord } from './guest-record.js';
import { probeQemu } from './hypervisor/index.js';
import { pathsOf, type VmTarget } from './target.js';

/** Unpublished changes of a VM on this host, found without mounting it. */
export interface LocalChanges {
  readonly dirtyBytes: number;
  readonly changedFiles: number;
  /** Whether a publish came so far that it may have made a version. */
  readonly mayBePublished: boolean;
}

/** What an unmounted VM's overlay holds; zeros when there is none. */
export async function readLocalChanges(target: VmTarget): Promise<LocalChanges> {
  const summary = await readOverlaySummary(pathsOf(target).overlay);
  const { dirtyBytes = 0, changedFiles = 0, announced } = summary ?? {};
  return { dirtyBytes, changedFiles, mayBePublished: (announced?.commits.length ?? 0) > 0 };
}

/**
 * Publishes this host's changes as the next version, mounted or not; saves them as a branch when the lease was lost.
 * `GuestRunning` and `GuestCrashed` where the result would not be a machine that works.
 */
export async function publishVm(
  target: VmTarget,
  options: { readonly signal?: AbortSignal; readonly onProgress?: ProgressListener },
): Promise<PublishResult> {
  const paths = pathsOf(target);
  const daemon = await connectDaemon(paths, target.vmName);
  const { guest, hypervisor } = await readGuestEntry(paths);
  if (guest === 'stopped' && daemon !== undefined) throw new SuspendUnfinished(target.vmName);
  if (guest === 'ran' || guest === 'stopped') {
    const isGone = hypervisor === 'qemu' && (await probeQemu(paths.run)) === 'absent';
    throw daemon === undefined || isGone ? new GuestCrashed(target.vmName) : new GuestRunning(target.vmName);
  }
  const result = await (daemon === undefined
    ? publishUnmounted(target, options)
    : daemon.publish({ releaseLease: false, ...options }));
  if (guest !== 'fresh' && result.outcome !== 'branched') await writeGuestRecord(paths, 'fresh');
  return result;
}

async function publishUnmounted(
  target: VmTarget,
  options: { readonly signal?: AbortSignal; readonly onProgress?: ProgressListener },
): Promise<PublishResult> {
  await settleDaemon(pathsOf(target), target.vmName);
  const session = await VmSession.open({
    ...target,
    version: undefined,
    ephemeral: false,
    purpose: 'publish',
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  try {
    return await session.publish({ releaseLease: true, ...options });
  } finally {
    await session[Symbol.asyncDispose]();
  }
}

/** Drops this host's changes for good. The VM must not be mounted; `VmBusy` if it is. */
export async function discardVm(target: VmTarget): Promise<LocalChanges> {
  const paths = await target.home.makeVmPaths(target.repositoryId, target.vmName);
  await settleDaemon(paths, target.vmName);
  const unlock = lockVm(paths, target.vmName);
  try {
    const changes = await readLocalChanges(target);
    await dropLocalChanges(paths);
    await writeGuestRecord(paths, 'fresh');
    return changes;
  } finally {
    unlock();
  }
}
