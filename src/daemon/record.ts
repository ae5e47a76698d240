import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import * as v from 'valibot';
import { systemErrorCode } from '../base/index.js';
import { clearStaleMount, endSilentMount, findMount, mountType } from '../fuse/index.js';
import type { VmPaths } from '../host/index.js';
import { isProcessAlive, processStartTime } from '../system/index.js';
import { VmBusy } from './errors.js';
import { tryLockVm } from './vm-lock.js';

const recordSchema = v.object({
  pid: v.number(),
  /** Tells a process from a later one with the same number. */
  startTime: v.optional(v.number()),
  mountPath: v.string(),
  ephemeral: v.boolean(),
  /** The mount is being made: it may be there, and nobody was told that it can be used. */
  starting: v.optional(v.literal(true)),
  /** The process that serves, where `pid` is its supervisor. */
  worker: v.optional(v.object({ pid: v.number(), startTime: v.optional(v.number()) })),
  /** Why the supervisor stopped replacing workers. */
  gaveUp: v.optional(v.string()),
});

/** A worker that is to go on without its supervisor takes some tenths of a second to say so; on a loaded host, and with a large overlay, seconds. */
const settleTimeoutMs = 20_000;

const lastThreadTimeoutMs = 5_000;
const intervalMs = 50;

/** Which process serves a VM's mount, and where. */
export type DaemonRecord = v.InferOutput<typeof recordSchema>;

/** A process, whatever becomes of its number later. */
export interface NamedProcess {
  readonly pid: number;
  readonly startTime?: number | undefined;
}

/**
 * Announces this process as the daemon, or as the worker of `supervisor`. The caller holds the VM's lock. `starting`: that it makes
 * the mount, so that whoever finds it dead knows what to take away.
 */
export async function writeRecord(
  paths: VmPaths,
  mount: Pick<DaemonRecord, 'mountPath' | 'ephemeral'>,
  as: 'starting' | { readonly supervisor: NamedProcess | undefined },
): Promise<void> {
  const here = nameProcess(process.pid);
  const record: DaemonRecord =
    as === 'starting'
      ? { ...here, ...mount, starting: true }
      : as.supervisor === undefined
        ? { ...here, ...mount }
        : { ...as.supervisor, ...mount, worker: here };
  const temporary = `${paths.daemonRecord}.new`;
  await writeFile(temporary, JSON.stringify(record), { mode: 0o600 });
  await rename(temporary, paths.daemonRecord);
}

export function nameProcess(pid: number): NamedProcess {
  const startTime = processStartTime(pid);
  return { pid, ...(startTime === undefined ? {} : { startTime }) };
}

/** The caller holds the VM's lock. */
export async function removeRecord(paths: VmPaths): Promise<void> {
  await rm(paths.daemonRecord, { force: true });
}

export type FoundDaemon =
  | { readonly state: 'none' }
  | { readonly state: 'starting' | 'alive' | 'dead'; readonly record: DaemonRecord };

/**
 * The daemon of the VM: one that makes its mount, one that serves it, or a dead one, which left its record behind. A
 * damaged record counts as none.
 */
export async function findDaemon(paths: VmPaths): Promise<FoundDaemon> {
  const record = await readRecord(paths);
  if (record === undefined) return { state: 'none' };
  if (!isAlive(record) && !(record.worker !== undefined && isAlive(record.worker)))
    return { state: 'dead', record };
  return { state: record.starting === true ? 'starting' : 'alive', record };
}

/**
 * As `findDaemon`, when nothing is on its way any more: a worker that goes on with a mount and has not said so has done it or
 * is dead, and what dead ones left is cleared, which is the mount, that answers every access with ENOTCONN, and the record. Until
 * then some process has the VM's lock, so that is waited for. @throws VmBusy if it takes too long, UnmountFailed
 */
export async function settleDaemon(
  paths: VmPaths,
  vmName: string,
): Promise<Exclude<FoundDaemon, { readonly state: 'dead' }>> {
  const deadlineMs = performance.now() + settleTimeoutMs;
  for (;;) {
    const found = await findDaemon(paths);
    const isLate = performance.now() > deadlineMs;
    if (found.state !== 'dead') {
      // A worker without a supervisor gets another one, unless it is just dying as well.
      if (found.state === 'none' || isAlive(found.record) || isLate) return found;
      await sleep(intervalMs);
      continue;
    }
    const unlock = tryLockVm(paths);
    if (unlock !== undefined) {
      try {
        await clearDead(paths);
      } finally {
        unlock();
      }
    } else if (isLate) {
      throw new VmBusy(vmName);
    } else {
      await sleep(intervalMs);
    }
  }
}

/** Nobody can become the VM's daemon meanwhile. */
async function clearDead(paths: VmPaths): Promise<void> {
  const found = await findDaemon(paths);
  if (found.state !== 'dead') return;
  await clearMountOfDead(found.record.mountPath);
  await removeRecord(paths);
}

function isAlive({ pid, startTime }: NamedProcess): boolean {
  return isProcessAlive(pid, startTime);
}

/** A process counts as dead before its last thread has let the connection go; until then the mount may look alive. */
async function clearMountOfDead(mountPath: string): Promise<void> {
  const deadlineMs = performance.now() + lastThreadTimeoutMs;
  while (!(await clearStaleMount(mountPath))) {
    if ((await findMount(mountPath))?.type !== mountType) return;
    if (performance.now() > deadlineMs) return endSilentMount(mountPath);
    await sleep(intervalMs);
  }
}

async function readRecord(paths: VmPaths): Promise<DaemonRecord | undefined> {
  try {
    const parsed = v.safeParse(recordSchema, JSON.parse(await readFile(paths.daemonRecord, 'utf8')));
    return parsed.success ? parsed.output : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || systemErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
