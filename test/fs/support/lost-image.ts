import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { FileChange, RecordedDirectory, RecordedDisk, RecordedFile, Sync } from './recorded-disk.js';

/** The least that a disk writes as a whole, and what a page cache writes as a whole. */
const sectorBytes = 512;
const pageBytes = 4096;

/**
 * Which of the things that were not synced reached the disk. `nothing` and `everything`; `prefix`: what came before some
 * moment; `any`: each page, name and size as it was at a moment of its own; `torn`: the same for each sector. None
 * shows what the disk's blocks held before they were the file's: ext4 (unless `data=writeback`), XFS and Btrfs do not.
 */
export const losses = ['nothing', 'everything', 'prefix', 'any', 'torn'] as const;
export type Loss = (typeof losses)[number];

/** A random number, at least 0 and less than `limit`. */
export type Below = (limit: number) => number;

/** Writes what a power loss at the moment `at` leaves of the recorded directory. */
export function writeImage(
  disk: RecordedDisk,
  into: string,
  how: { readonly at: number; readonly loss: Loss; readonly below: Below },
): void {
  const { at, loss, below } = how;
  const latest = loss === 'prefix' ? below(at + 1) : at;
  for (const [path, directory] of disk.directories) {
    mkdirSync(join(into, path), { recursive: true });
    // Each name of a flat directory of data files stands for itself; the journal's are changed together.
    for (const [name, file] of namesAfter(directory, at, chooser(loss, latest, below), path === '')) {
      writeFileSync(join(into, path, name), contentAfter(file, at, loss, chooser(loss, latest, below)));
    }
  }
}

/** How many of the changes that are not durable are on the disk. */
type Choose = (pending: readonly { readonly at: number }[], independent: boolean) => number;

function chooser(loss: Loss, latest: number, below: Below): Choose {
  return (pending, independent) => {
    switch (loss) {
      case 'nothing':
        return 0;
      case 'everything':
        return pending.length;
      case 'prefix':
        return pending.filter(({ at }) => at <= latest).length;
      case 'any':
      case 'torn':
        // Old and new are what most often goes wrong.
        return independent && below(2) === 0 ? below(2) * pending.length : below(pending.length + 1);
    }
  };
}

function durableAt(syncs: readonly Sync[], at: number): number {
  return syncs.reduce((latest, { began, ended }) => (ended <= at ? Math.max(latest, began) : latest), 0);
}

function namesAfter(
  { changes, syncs }: RecordedDirectory,
  at: number,
  choose: Choose,
  together: boolean,
): ReadonlyMap<string, RecordedFile> {
  const durable = durableAt(syncs, at);
  const names = new Map<string, RecordedFile>();
  const apply = (name: string, file: RecordedFile | undefined): void => {
    if (file === undefined) names.delete(name);
    else names.set(name, file);
  };
  for (const change of changes)
    if (change.at <= durable) change.names.forEach((file, name) => apply(name, file));
  const pending = changes.filter((change) => change.at > durable && change.at <= at);
  if (together) {
    for (const change of pending.slice(0, choose(pending, false))) {
      change.names.forEach((file, name) => apply(name, file));
    }
    return names;
  }
  for (const name of new Set(pending.flatMap((change) => [...change.names.keys()]))) {
    const own = pending.filter((change) => change.names.has(name));
    for (const change of own.slice(0, choose(own, true))) apply(name, change.names.get(name));
  }
  return names;
}

function contentAfter({ changes, syncs }: RecordedFile, at: number, loss: Loss, choose: Choose): Buffer {
  const durable = durableAt(syncs, at);
  const done = changes.filter((change) => change.at <= durable);
  const pending = changes.filter((change) => change.at > durable && change.at <= at);
  const unitBytes = loss === 'torn' ? sectorBytes : pageBytes;
  const extentBytes = Math.max(0, ...changes.map(endOf));
  const bytes = Buffer.alloc(Math.ceil(extentBytes / pageBytes) * pageBytes);
  for (const change of done) applyTo(bytes, change, 0, bytes.length);
  const byUnit = new Map<number, FileChange[]>();
  for (const change of pending) {
    for (const unit of unitsOf(change, unitBytes, bytes.length)) {
      byUnit.set(unit, [...(byUnit.get(unit) ?? []), change]);
    }
  }
  for (const [unit, own] of byUnit) {
    const [from, to] = [unit * unitBytes, (unit + 1) * unitBytes];
    const count = choose(own, true);
    for (const change of own.slice(0, count)) applyTo(bytes, change, from, to);
  }
  const sizeBytes = [...done, ...pending.slice(0, choose(pending, false))].reduce(sizeAfter, 0);
  return Buffer.concat([bytes.subarray(0, sizeBytes), Buffer.alloc(Math.max(sizeBytes - bytes.length, 0))]);
}

function endOf(change: FileChange): number {
  return change.kind === 'write' ? change.offsetBytes + change.bytes.length : 0;
}

function sizeAfter(sizeBytes: number, change: FileChange): number {
  return change.kind === 'resize' ? change.sizeBytes : Math.max(sizeBytes, endOf(change));
}

/** What a change concerns, in bytes; to the end of all where a file is cut. */
function rangeOf(change: FileChange): readonly [from: number, to: number] {
  switch (change.kind) {
    case 'write':
      return [change.offsetBytes, change.offsetBytes + change.bytes.length];
    case 'punch':
      return [change.offsetBytes, change.offsetBytes + change.lengthBytes];
    case 'resize':
      return [change.sizeBytes, Infinity];
  }
}

function* unitsOf(change: FileChange, unitBytes: number, extentBytes: number): Generator<number, void> {
  const [from, to] = rangeOf(change);
  const end = Math.min(to, extentBytes);
  for (let unit = Math.floor(from / unitBytes); unit * unitBytes < end; unit++) yield unit;
}

/** Within a range only. What is cut off or a hole is zero. */
function applyTo(bytes: Buffer, change: FileChange, fromBytes: number, toBytes: number): void {
  const [from, to] = rangeOf(change);
  const start = Math.max(from, fromBytes);
  const end = Math.min(to, toBytes, bytes.length);
  if (start >= end) return;
  if (change.kind === 'write') change.bytes.copy(bytes, start, start - from, end - from);
  else bytes.fill(0, start, end);
}
