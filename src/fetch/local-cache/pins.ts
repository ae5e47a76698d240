import { existsSync, mkdirSync } from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setImmediate as eventLoopTurn, setTimeout as sleep } from 'node:timers/promises';
import { Cancelled, limits } from '../../base/index.js';
import { replaceFile } from '../../host/index.js';
import type { BlobKind, BlobReference } from '../../repo/index.js';
import { lockFile, type FileLock } from '../../system/index.js';
import { CachePinsFull } from '../errors.js';
import { entryDiskBytes, entryName, namedEntryPath, pinsDirectory, sweepLockFile } from './layout.js';
import {
  diskBytesOf,
  encodePinFile,
  pinnedEntries,
  pinFilePath,
  isPinFileName,
  readPinFile,
  readPinFiles,
  type Pin,
  type PinName,
  type PinnedEntries,
} from './pin-file.js';

/** One blob that a pin keeps, whether it is here already or not. */
export interface PinnedBlob {
  readonly reference: Pick<BlobReference, 'id' | 'sealedBytes'>;
  readonly kind: BlobKind;
}

export interface PinRequest {
  readonly cachePath: string;
  /** The limit of the cache; pins may take `limits.cachePinnedShare` of it. */
  readonly limitBytes: number;
  readonly name: PinName;
  /** The version or branch whose blobs these are. */
  readonly ofVersion: string;
  readonly blobs: Iterable<PinnedBlob> | AsyncIterable<PinnedBlob>;
  readonly signal?: AbortSignal;
}

export interface PinResult {
  readonly pin: Pin;
  /** Of all pins together, each blob counted once. */
  readonly pinnedBytes: number;
  readonly pinnedBytesMax: number;
}

/** How often whoever wants to change pins looks whether a sweep has ended. */
const lockRetryMs = 50;

/** Entries that are looked for before other work gets its turn. */
const entriesPerTurn = 1024;

/** What pins may take of a cache with this limit. */
export function pinnedBytesMax(limitBytes: number): number {
  return Math.floor(limitBytes * limits.cachePinnedShare);
}

/** What all pins take, each blob counted once, whether it is here or not. */
export function pinnedBytes(cachePath: string): number {
  return diskBytesOf(pinnedEntries(cachePath));
}

/**
 * Pins blobs: eviction leaves them alone from now on, also those that come later, until they are unpinned. Fetches nothing.
 * Adds to what is pinned under this name of the same version, replaces what is pinned of another.
 *
 * @throws CachePinsFull when all pins together would take more than their share of the limit; nothing is changed then
 */
export async function pinBlobs(request: PinRequest): Promise<PinResult> {
  const result = await setPin(request, () => true);
  if (result === undefined) throw new Error('a pin was not set');
  return result;
}

/** Undefined, and nothing done, unless what is pinned under the name until now is as it should be. */
async function setPin(
  request: PinRequest,
  isExpected: (before: Pin | undefined) => boolean,
): Promise<PinResult | undefined> {
  const { cachePath, name, ofVersion } = request;
  const entries = await gather(request);
  return withPinsLocked(cachePath, request.signal, async () => {
    const path = pinFilePath(cachePath, name);
    const before = readPinFile(path);
    if (!isExpected(before?.pin)) return undefined;
    if (before?.pin.ofVersion === ofVersion) addAll(entries, before.entries);
    const all: PinnedEntries = new Map(entries);
    for (const other of readPinFiles(cachePath)) {
      if (pinFilePath(cachePath, other.pin) !== path) addAll(all, other.entries);
    }
    const pinnedBytes = diskBytesOf(all);
    requireRoom(request, all.size, pinnedBytes);
    const bytes = diskBytesOf(entries);
    const pin: Pin = { ...name, ofVersion, pinnedAt: new Date(), entries: entries.size, bytes };
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await replaceFile(path, encodePinFile({ pin, entries }));
    return { pin, pinnedBytes, pinnedBytesMax: pinnedBytesMax(request.limitBytes) };
  });
}

/**
 * Moves a pin to the next version of its VM: of that, it keeps what it kept before and what is here. Undefined where there is
 * nothing to move. Rejects as `pinBlobs` does, and the pin stays as it was.
 */
export async function movePin(request: PinRequest): Promise<PinResult | undefined> {
  const { cachePath, name, ofVersion } = request;
  const before = readPinFile(pinFilePath(cachePath, name));
  if (before === undefined || before.pin.ofVersion === ofVersion) return undefined;
  // Gathering takes a while, in which somebody may have let go of it, or pinned something else.
  return setPin(
    { ...request, blobs: keptOf(request, before.entries) },
    (now) => now?.ofVersion === before.pin.ofVersion,
  );
}

async function* keptOf(
  { cachePath, blobs }: PinRequest,
  before: ReadonlyMap<string, number>,
): AsyncGenerator<PinnedBlob, void> {
  for await (const blob of blobs) {
    const name = entryName(blob.reference.id, blob.kind);
    if (before.has(name) || existsSync(namedEntryPath(cachePath, name))) yield blob;
  }
}

/** Lets go of the pins that `isWanted` names, and returns them. Deletes no entry: they become as others are. */
export async function unpinBlobs(
  cachePath: string,
  isWanted: (pin: Pin) => boolean,
  options: { readonly signal?: AbortSignal } = {},
): Promise<readonly Pin[]> {
  return withPinsLocked(cachePath, options.signal, async () => {
    const removed = [...readPinFiles(cachePath)].map(({ pin }) => pin).filter(isWanted);
    for (const pin of removed) await rm(pinFilePath(cachePath, pin), { force: true });
    return removed;
  });
}

/** A pin, and how much of it is on this host. */
export interface PinResidency extends Pin {
  readonly localEntries: number;
  readonly localBytes: number;
}

/** Every pin. */
export async function listPins(cachePath: string): Promise<readonly PinResidency[]> {
  const found: PinResidency[] = [];
  for (const { pin, entries } of readPinFiles(cachePath)) {
    let looked = 0;
    let localEntries = 0;
    let localBytes = 0;
    for (const [name, sealedBytes] of entries) {
      if (++looked % entriesPerTurn === 0) await eventLoopTurn();
      if (!existsSync(namedEntryPath(cachePath, name))) continue;
      localEntries += 1;
      localBytes += entryDiskBytes(sealedBytes);
    }
    found.push({ ...pin, localEntries, localBytes });
  }
  return found.sort((a, b) => a.vmName.localeCompare(b.vmName) || a.ofVersion.localeCompare(b.ofVersion));
}

/** Deletes pins that cannot be read, and keep nothing therefore; says how many. */
export async function removeDamagedPins(cachePath: string): Promise<number> {
  const directory = join(cachePath, pinsDirectory);
  return withPinsLocked(cachePath, undefined, async () => {
    let removed = 0;
    for (const name of await readdir(directory).catch(() => [])) {
      if (isPinFileName(name) && readPinFile(join(directory, name)) !== undefined) continue;
      await rm(join(directory, name), { force: true });
      removed += 1;
    }
    return removed;
  });
}

/** Ends early when it is too much already: the list must fit into memory. */
async function gather(request: PinRequest): Promise<PinnedEntries> {
  const entries: PinnedEntries = new Map();
  let bytes = 0;
  for await (const { reference, kind } of request.blobs) {
    if (request.signal?.aborted === true) throw new Cancelled('Pinning');
    const name = entryName(reference.id, kind);
    if (entries.has(name)) continue;
    entries.set(name, reference.sealedBytes);
    bytes += entryDiskBytes(reference.sealedBytes);
    requireRoom(request, entries.size, bytes);
  }
  return entries;
}

function requireRoom(request: PinRequest, entries: number, wantedBytes: number): void {
  const maxBytes = pinnedBytesMax(request.limitBytes);
  if (wantedBytes <= maxBytes && entries <= limits.cachePinnedEntries) return;
  throw CachePinsFull.withPinOf(request.name.vmName, { wantedBytes, maxBytes });
}

function addAll(to: PinnedEntries, more: ReadonlyMap<string, number>): void {
  for (const [name, sealedBytes] of more) to.set(name, sealedBytes);
}

/** No sweep runs meanwhile: it would not know of the change. */
async function withPinsLocked<T>(
  cachePath: string,
  signal: AbortSignal | undefined,
  change: () => Promise<T>,
): Promise<T> {
  mkdirSync(cachePath, { recursive: true, mode: 0o700 });
  let lock: FileLock | undefined;
  while ((lock = lockFile(join(cachePath, sweepLockFile))) === undefined) {
    if (signal?.aborted === true) throw new Cancelled('Changing pins');
    await sleep(lockRetryMs);
  }
  try {
    return await change();
  } finally {
    lock.release();
  }
}
