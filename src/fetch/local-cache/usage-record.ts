import { closeSync, constants, openSync, readFileSync, renameSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryDirectory, usageFile } from './layout.js';

/**
 * How many bytes a cache directory holds, as far as its users have told each other: a text file whose first line
 * is what the last sweep counted, and whose other lines are what processes have added since. Appending a
 * line is atomic, so nobody needs a lock. Wrong by what a process added and did not tell before it was killed; the
 * next sweep counts afresh.
 */
export interface UsageRecord {
  readonly totalBytes: number;
  /** Of these, what pins kept at the last sweep. */
  readonly pinnedBytes: number;
  /** When the first line was counted, in milliseconds since 1970. */
  readonly sweptAt: number;
}

const firstLine = /^swept (\d{1,15}) total (\d{1,15})(?: pinned (\d{1,15}))?$/;
const additionLine = /^\+(\d{1,15})$/;

/** Undefined where there is no record, or none that can be understood: then only a sweep can tell. */
export function readUsage(cachePath: string): UsageRecord | undefined {
  let text: string;
  try {
    text = readFileSync(join(cachePath, usageFile), 'latin1');
  } catch {
    return undefined;
  }
  const [head, ...additions] = text.trimEnd().split('\n');
  const parts = firstLine.exec(head ?? '');
  if (parts === null) return undefined;
  let totalBytes = Number(parts[2]);
  for (const line of additions) {
    const addition = additionLine.exec(line);
    if (addition === null) return undefined;
    totalBytes += Number(addition[1]);
  }
  return { totalBytes, pinnedBytes: Number(parts[3] ?? 0), sweptAt: Number(parts[1]) };
}

/** Tells the other processes. Does nothing where there is no record: whoever finds none sweeps. */
export function appendUsage(cachePath: string, addedBytes: number): void {
  let file: number;
  try {
    file = openSync(join(cachePath, usageFile), constants.O_WRONLY | constants.O_APPEND);
  } catch {
    return;
  }
  try {
    writeSync(file, `+${addedBytes}\n`);
  } catch {
    // A full disk: nothing is being added then, either.
  } finally {
    closeSync(file);
  }
}

/** Starts a new record, after a sweep. */
export function replaceUsage(cachePath: string, record: UsageRecord): void {
  const temporary = join(cachePath, temporaryDirectory, `usage-${process.pid}`);
  const { sweptAt, totalBytes, pinnedBytes } = record;
  writeFileSync(temporary, `swept ${sweptAt} total ${totalBytes} pinned ${pinnedBytes}\n`);
  renameSync(temporary, join(cachePath, usageFile));
}
