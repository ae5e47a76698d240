import { lstatSync, mkdirSync, readdirSync, rmSync, type Stats } from 'node:fs';
import { basename, join } from 'node:path';
import { limits } from '../../base/index.js';
import { lockFile } from '../../system/index.js';
import { diskBytes, isShardName, sweepLockFile, temporaryDirectory } from './layout.js';
import { pinnedEntries } from './pin-file.js';
import { readUsage, replaceUsage } from './usage-record.js';

export interface SweepRequest {
  readonly cachePath: string;
  /** For all entries; see `roomBytes` for what becomes of it when pins take much. */
  readonly limitBytes: number;
  /** Of the limit, what entries that are not pinned may take whatever pins do: `limits` if not said. */
  readonly unpinnedShareMin?: number;
  /** Milliseconds since 1970. */
  readonly now: number;
  /** Asked between directories: true ends the sweep early, without a result. */
  readonly shouldStop?: () => boolean;
}

export type SweepResult =
  | {
      readonly outcome: 'swept';
      readonly totalBytes: number;
      /** Of these, what is pinned, and therefore was left alone. */
      readonly pinnedBytes: number;
      readonly evictedBytes: number;
      readonly evictedEntries: number;
    }
  /** Another process is sweeping, or this one was told to stop. */
  | { readonly outcome: 'skipped' };

/** Eviction goes on to below the limit, so that it is rare. */
const keptShareOfLimit = 0.9;

/** Entries are told apart in age by the minute: memory is bounded by the number of minutes, not of entries. */
const ageStepMs = 60_000;

/** A temporary file of this age belongs to a process that died while writing it. */
const abandonedMs = 60 * 60_000;

/**
 * What a cache may hold: its limit. Pins that were made under a larger limit may leave no room in it, or none to speak of; then it
 * is more, so that what is not pinned always has its share, and is not fetched for nothing.
 */
export function roomBytes(
  limitBytes: number,
  pinnedBytes: number,
  unpinnedShareMin = 1 - limits.cachePinnedShare,
): number {
  return Math.max(limitBytes, pinnedBytes + limitBytes * unpinnedShareMin);
}

/** What eviction leaves of entries that are not pinned, beside so much that is. */
export function unpinnedBytesKept(
  limitBytes: number,
  pinnedBytes: number,
  unpinnedShareMin?: number,
): number {
  const room = roomBytes(limitBytes, pinnedBytes, unpinnedShareMin);
  return Math.floor((room - pinnedBytes) * keptShareOfLimit);
}

/**
 * Counts what a cache directory holds and, if that is more than it may, deletes the entries that have not been
 * used for longest until it is a tenth below, except pinned ones. Synchronous: runs in a worker thread. Other processes may
 * read, add and even sweep meanwhile; an entry that somebody is reading stays readable for them.
 */
export function sweepCache(request: SweepRequest): SweepResult {
  mkdirSync(join(request.cachePath, temporaryDirectory), { recursive: true, mode: 0o700 });
  const lock = lockFile(join(request.cachePath, sweepLockFile));
  if (lock === undefined) return { outcome: 'skipped' };
  try {
    return sweepLocked(request, pinnedEntries(request.cachePath));
  } finally {
    lock.release();
  }
}

function sweepLocked(request: SweepRequest, pinned: Pinned): SweepResult {
  removeAbandoned(request);
  const toldBefore = startTelling(request);
  const held = countEntries(request, pinned);
  if (held === undefined) return { outcome: 'skipped' };
  const { pinnedBytes } = held;
  const counted = pinnedBytes + sum(held.bytesByAge.values());
  const room = roomBytes(request.limitBytes, pinnedBytes, request.unpinnedShareMin);
  const unpinnedKept = unpinnedBytesKept(request.limitBytes, pinnedBytes, request.unpinnedShareMin);
  const evicted =
    counted > room
      ? evictEntries(request, pinned, held.bytesByAge, counted - pinnedBytes - unpinnedKept)
      : { bytes: 0, entries: 0 };
  // What others added meanwhile may or may not have been counted: too much in the record only means an early sweep.
  const addedMeanwhile = Math.max(0, (readUsage(request.cachePath)?.totalBytes ?? 0) - toldBefore);
  const totalBytes = counted - evicted.bytes + addedMeanwhile;
  replaceUsage(request.cachePath, { totalBytes, pinnedBytes, sweptAt: request.now });
  return {
    ...{ outcome: 'swept', totalBytes, pinnedBytes },
    ...{ evictedBytes: evicted.bytes, evictedEntries: evicted.entries },
  };
}

/** Names of the entries to leave alone. */
type Pinned = Pick<ReadonlyMap<string, unknown>, 'has'>;

/** Makes sure that there is a record for others to add to, and returns its total. */
function startTelling(request: SweepRequest): number {
  const record = readUsage(request.cachePath);
  if (record !== undefined) return record.totalBytes;
  replaceUsage(request.cachePath, { totalBytes: 0, pinnedBytes: 0, sweptAt: 0 });
  return 0;
}

/** Bytes on disk: what is pinned, and the rest by age step; undefined when told to stop. */
function countEntries(
  request: SweepRequest,
  pinned: Pinned,
): { readonly pinnedBytes: number; readonly bytesByAge: ReadonlyMap<number, number> } | undefined {
  const bytesByAge = new Map<number, number>();
  let pinnedBytes = 0;
  for (const shard of shards(request.cachePath)) {
    if (request.shouldStop?.() === true) return undefined;
    for (const { path, stats } of entries(shard)) {
      const bytes = diskBytes(stats.size);
      if (pinned.has(basename(path))) {
        pinnedBytes += bytes;
        continue;
      }
      const step = ageStep(stats);
      bytesByAge.set(step, (bytesByAge.get(step) ?? 0) + bytes);
    }
  }
  return { pinnedBytes, bytesByAge };
}

/** Deletes at least `excessBytes`, oldest minutes first; within the last of these minutes in no order. */
function evictEntries(
  request: SweepRequest,
  pinned: Pinned,
  bytesByAge: ReadonlyMap<number, number>,
  excessBytes: number,
): { readonly bytes: number; readonly entries: number } {
  const { youngestStep, ofYoungestBytes } = chooseSteps(bytesByAge, excessBytes);
  let bytes = 0;
  let count = 0;
  let leftOfYoungest = ofYoungestBytes;
  for (const shard of shards(request.cachePath)) {
    if (request.shouldStop?.() === true) break;
    for (const { path, stats } of entries(shard)) {
      const step = ageStep(stats);
      if (pinned.has(basename(path))) continue;
      if (step > youngestStep || (step === youngestStep && leftOfYoungest <= 0)) continue;
      if (step === youngestStep) leftOfYoungest -= diskBytes(stats.size);
      rmSync(path, { force: true });
      bytes += diskBytes(stats.size);
      count += 1;
    }
  }
  return { bytes, entries: count };
}

/** The youngest age step that eviction must reach, and how much of that step it needs. */
function chooseSteps(
  bytesByAge: ReadonlyMap<number, number>,
  excessBytes: number,
): { readonly youngestStep: number; readonly ofYoungestBytes: number } {
  let neededBytes = excessBytes;
  for (const step of [...bytesByAge.keys()].sort((a, b) => a - b)) {
    const stepBytes = bytesByAge.get(step) ?? 0;
    if (stepBytes >= neededBytes) return { youngestStep: step, ofYoungestBytes: neededBytes };
    neededBytes -= stepBytes;
  }
  return { youngestStep: Infinity, ofYoungestBytes: 0 };
}

function removeAbandoned(request: SweepRequest): void {
  for (const { path, stats } of entries(join(request.cachePath, temporaryDirectory))) {
    if (request.now - stats.mtimeMs > abandonedMs) rmSync(path, { force: true });
  }
}

function* shards(cachePath: string): Iterable<string> {
  for (const name of readdirSync(cachePath)) {
    if (isShardName(name)) yield join(cachePath, name);
  }
}

function* entries(directory: string): Iterable<{ readonly path: string; readonly stats: Stats }> {
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    // Another process may have deleted it.
    const stats = lstatSync(path, { throwIfNoEntry: false });
    if (stats?.isFile() === true) yield { path, stats };
  }
}

function ageStep(stats: Stats): number {
  return Math.floor(stats.mtimeMs / ageStepMs);
}

function sum(numbers: Iterable<number>): number {
  let total = 0;
  for (const number of numbers) total += number;
  return total;
}
