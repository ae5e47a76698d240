import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import * as v from 'valibot';
import { systemErrorCode } from '../base/index.js';
import { clearStaleMount, endSilentMount, findMount, mountType } from '../fuse/index.js';
import type { VmPaths } from '../host/index.js';
import { isProcessAlive, processStartTime } from '../system/index.js';

const recordSchema = v.object({
  pid: v.number(),
  /** Tells a process from a later one with the same number. */
  startTime: v.optional(v.number()),
  mountPath: v.string(),
  ephemeral: v.boolean(),
  /** The process that serves, where `pid` is its supervisor. */
  worker: v.optional(v.object({ pid: v.number(), startTime: v.optional(v.number()) })),
  /** Why the supervisor stopped replacing workers. */
  gaveUp: v.optional(v.string()),
});

/** A worker that is alone flushes, and unmounts when programs that use the mount had time to end. */
const orphanTimeoutMs = 20_000;

const lastThreadTimeoutMs = 5_000;

/** Which process serves a VM's mount, and where. */
export type DaemonRecord = v.InferOutput<typeof recordSchema>;

/** Announces this process as the daemon, or as its worker. The caller holds the VM's lock. */
export async function writeRecord(
  paths: VmPaths,
  mount: Pick<DaemonRecord, 'mountPath' | 'ephemeral'>,
  supervisorPid?: number,
): Promise<void> {
  const record: DaemonRecord =
    supervisorPid === undefined
      ? { ...processRecord(process.pid), ...mount }
      : { ...processRecord(supervisorPid), ...mount, worker: processRecord(process.pid) };
  const temporary = `${paths.daemonRecord}.new`;
  await writeFile(temporary, JSON.stringify(record), { mode: 0o600 });
  await rename(temporary, paths.daemonRecord);
}

function processRecord(pid: number): { readonly pid: number; readonly startTime?: number } {
  const startTime = processStartTime(pid);
  return { pid, ...(startTime === undefined ? {} : { startTime }) };
}

export async function removeRecord(paths: VmPaths): Promise<void> {
  await rm(paths.daemonRecord, { force: true });
}

export type FoundDaemon =
  { readonly state: 'none' } | { readonly state: 'alive' | 'dead'; readonly record: DaemonRecord };

/** The daemon that serves the VM: alive, dead (it left its record behind), or none. A damaged record counts as none. */
export async function findDaemon(paths: VmPaths): Promise<FoundDaemon> {
  const record = await readRecord(paths);
  if (record === undefined) return { state: 'none' };
  return { state: isAlive(record) || isWorkerAlive(record) ? 'alive' : 'dead', record };
}

/**
 * As `findDaemon`, when a worker without its supervisor, which is about to end in order, has ended, or after a while. Such
 * a worker may announce itself as late as now.
 */
export async function findLastingDaemon(paths: VmPaths): Promise<FoundDaemon> {
  const deadlineMs = performance.now() + orphanTimeoutMs;
  for (;;) {
    const found = await findDaemon(paths);
    const isOrphan = found.state === 'alive' && !isAlive(found.record);
    if (!isOrphan || performance.now() > deadlineMs) return found;
    await sleep(50);
  }
}

function isAlive({ pid, startTime }: Pick<DaemonRecord, 'pid' | 'startTime'>): boolean {
  return isProcessAlive(pid, startTime);
}

function isWorkerAlive({ worker }: DaemonRecord): boolean {
  return worker !== undefined && isProcessAlive(worker.pid, worker.startTime);
}

/** Clears what a dead daemon left: its mount, which answers every access with ENOTCONN, and its record. */
export async function clearDeadDaemon(paths: VmPaths): Promise<void> {
  const found = await findLastingDaemon(paths);
  if (found.state !== 'dead') return;
  await clearMountOfDead(found.record.mountPath);
  await removeRecord(paths);
}

/** A process counts as dead before its last thread has let the connection go; until then the mount may look alive. */
async function clearMountOfDead(mountPath: string): Promise<void> {
  const deadlineMs = performance.now() + lastThreadTimeoutMs;
  while (!(await clearStaleMount(mountPath))) {
    if ((await findMount(mountPath))?.type !== mountType) return;
    if (performance.now() > deadlineMs) return endSilentMount(mountPath);
    await sleep(50);
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
