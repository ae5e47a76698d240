import { findDaemon, type DaemonClient } from '../daemon/index.js';
import type { VmPaths } from '../host/index.js';
import { Cancelled, systemErrorCode } from '../base/index.js';
import { bootId } from '../system/index.js';
import { GuestCrashed, GuestNotRunning, ResumeUnfinished } from './errors.js';
import { readGuestEntry, writeGuestRecord, type GuestEntry, type Keeper } from './guest-record.js';
import type { Hypervisor, HypervisorContext } from './hypervisor/index.js';
import { syncDirectory } from './sync-directory.js';

/** A mounted VM whose guest is to be saved. */
export interface SavingRequest {
  readonly paths: VmPaths;
  readonly client: DaemonClient;
  readonly hypervisor: Hypervisor;
  readonly context: HypervisorContext;
}

/**
 * Brings the guest to the record `saved`, from wherever an earlier attempt left it, and ends its hypervisor. After a
 * failure the guest runs on, or waits in its hypervisor, or is recorded as `stopped`: the next attempt goes on.
 */
export async function saveGuest(request: SavingRequest): Promise<void> {
  const { paths, hypervisor, context } = request;
  const { state } = await hypervisor.inspect(context);
  const entry = await readGuestEntry(paths);
  if (state === 'running' || (state !== 'absent' && !isStopped(entry))) {
    if (entry.guest === 'resuming') throw new ResumeUnfinished(context.vmName);
    const { kind } = hypervisor;
    await writeGuestRecord(paths, 'ran', { step: 'suspend', hypervisor: kind });
    await hypervisor.suspend({
      ...context,
      guestMayRun: () => writeGuestRecord(paths, 'ran', { hypervisor: kind }),
      guestIsSaved: () => stopAndFlush(request),
    });
    return;
  }
  if (!isStopped(entry)) throw absentError(context.vmName, entry);
  if (entry.guest === 'stopped') await finishStopped(request, entry, state === 'absent');
  if (state !== 'absent') await hypervisor.kill(context);
}

function isStopped({ guest }: GuestEntry): boolean {
  return guest === 'stopped' || guest === 'saved';
}

function absentError(vmName: string, { guest }: GuestEntry): Error {
  switch (guest) {
    case 'ran':
      return new GuestCrashed(vmName);
    case 'resuming':
      return new ResumeUnfinished(vmName);
    default:
      return new GuestNotRunning(vmName);
  }
}

/** The guest does not run any more, and its device state is there. */
async function stopAndFlush(request: SavingRequest): Promise<void> {
  const { paths, hypervisor } = request;
  const keeper = await keeperOf(paths);
  await writeGuestRecord(paths, 'stopped', { step: 'suspend', hypervisor: hypervisor.kind, keeper });
  await flush(request);
}

/** Pages that the hypervisor dirtied are with the kernel and the daemon: if they live, nothing is lost. */
async function finishStopped(request: SavingRequest, entry: GuestEntry, isGone: boolean): Promise<void> {
  const { paths, context, hypervisor } = request;
  const isKept = isSameKeeper(entry.keeper, await keeperOf(paths));
  try {
    if (isGone && !isKept) throw new GuestCrashed(context.vmName);
    await flush(request);
  } catch (error) {
    // What the kernel could not write back it forgets: with the hypervisor gone nobody has it any more.
    const isLost = error instanceof GuestCrashed || systemErrorCode(error) !== undefined;
    if (isGone && isLost) await writeGuestRecord(paths, 'ran', { hypervisor: hypervisor.kind });
    throw error;
  }
}

async function flush({ client, context, hypervisor, paths }: SavingRequest): Promise<void> {
  await unlessAborted(syncDirectory(context.directory), context);
  await client.flush();
  await writeGuestRecord(paths, 'saved', { step: 'suspend', hypervisor: hypervisor.kind });
}

/** Write-back that waits for room on the disk cannot be called off, but whoever waits for it can. */
async function unlessAborted(work: Promise<void>, { signal, vmName }: HypervisorContext): Promise<void> {
  work.catch(() => undefined);
  let abort = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(new Cancelled(`Suspending "${vmName}"`));
  });
  if (signal?.aborted === true) abort();
  signal?.addEventListener('abort', abort, { once: true });
  try {
    await Promise.race([work, aborted]);
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}

async function keeperOf(paths: VmPaths): Promise<Keeper | undefined> {
  const found = await findDaemon(paths);
  if (found.state !== 'alive') return undefined;
  const { pid, startTime } = found.record;
  return { bootId: bootId() ?? null, pid, ...(startTime === undefined ? {} : { startTime }) };
}

function isSameKeeper(one: Keeper | undefined, other: Keeper | undefined): boolean {
  return (
    one !== undefined &&
    one.pid === other?.pid &&
    one.startTime === other.startTime &&
    one.bootId === other.bootId
  );
}
