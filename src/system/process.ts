import { readFileSync } from 'node:fs';
import { systemErrorCode } from '../base/index.js';

/**
 * When a process started, in clock ticks since boot: with its number and `bootId()` this names one process for ever,
 * although numbers are used again. Undefined when there is no such process, or the system does not tell.
 */
export function processStartTime(pid: number): number | undefined {
  return readStatus(pid)?.startTime;
}

/**
 * Whether process `pid` runs, and (with `startTime` from `processStartTime`) is still the one that was meant.
 * A process that ended but was not waited for is dead. In doubt the answer is yes.
 */
export function isProcessAlive(pid: number, startTime?: number): boolean {
  const status = readStatus(pid);
  // A process of another user may be hidden from /proc.
  if (status === undefined) return canBeSignalled(pid);
  if (status.ended) return false;
  return startTime === undefined || status.startTime === startTime;
}

/** Different after each boot of this host; undefined where the system has none. */
export function bootId(): string | undefined {
  return readIfThere('/proc/sys/kernel/random/boot_id')?.trim();
}

/** From /proc/PID/stat, see proc_pid_stat(5). */
function readStatus(pid: number): { readonly startTime: number; readonly ended: boolean } | undefined {
  requirePid(pid);
  const text = readIfThere(`/proc/${pid}/stat`);
  if (text === undefined) return undefined;
  // The command name, second of the fields, may itself hold spaces and parentheses.
  const [state, ...fields] = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { startTime: Number(fields[18]), ended: state === 'Z' || state === 'X' };
}

function canBeSignalled(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return systemErrorCode(error) !== 'ESRCH';
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch (error) {
    // ESRCH: the process ended between open and read.
    const code = systemErrorCode(error);
    if (code === 'ENOENT' || code === 'ESRCH' || code === 'EACCES') return undefined;
    throw error;
  }
}

/** Zero and negative numbers mean groups of processes to kill(2). */
function requirePid(pid: number): void {
  if (!Number.isSafeInteger(pid) || pid <= 0) throw new RangeError(`not a process number: ${pid}`);
}
