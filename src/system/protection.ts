import { readFileSync, writeFileSync } from 'node:fs';
import { linux } from './linux.js';

/** How a process is kept from what a shortage of memory does to others. */
export interface Protection {
  /** Its allocations do not wait for file systems that may wait for it: `PR_SET_IO_FLUSHER`, Linux 5.6. */
  readonly ioFlusher: boolean;
  /** From -1000 (never killed for want of memory) to 1000 (first), as in proc_pid_oom_score_adj(5). */
  readonly oomScoreAdj: number;
}

const setIoFlusher = 57;
const getIoFlusher = 58;
const oomScorePath = '/proc/self/oom_score_adj';

/**
 * Runs `start`, which starts a process. All threads of that will be I/O flushers, as far as this user may, since it inherits that
 * from the thread that starts it: a program of Node has threads before its first line runs.
 */
export function withIoFlusher<T>(start: () => T): T {
  if (process.platform !== 'linux') return start();
  const { prctl } = linux();
  if (prctl(getIoFlusher, 0, 0, 0, 0) !== 0 || prctl(setIoFlusher, 1, 0, 0, 0) !== 0) return start();
  try {
    return start();
  } finally {
    prctl(setIoFlusher, 0, 0, 0, 0);
  }
}

/**
 * Protects this thread, and the threads and processes that it starts from now on, as far as this user may: both need
 * `CAP_SYS_RESOURCE`.
 */
export function protectFromMemoryPressure(wantedOomScoreAdj: number): Protection {
  if (process.platform !== 'linux') return { ioFlusher: false, oomScoreAdj: 0 };
  try {
    writeFileSync(oomScorePath, String(wantedOomScoreAdj));
  } catch {
    // It stays as it is, which is what is told.
  }
  const ioFlusher = linux().prctl(setIoFlusher, 1, 0, 0, 0) === 0;
  return { ioFlusher, oomScoreAdj: Number(readFileSync(oomScorePath, 'latin1')) };
}
