import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { systemErrorCode } from '../../base/index.js';
import type { BlobId, BlobKind } from '../../repo/index.js';
import { entryDiskBytes, entryName, pinsDirectory } from './layout.js';

/** Whose a pin is: one for each VM, which moves with its newest version, and one for each version that was named. */
export interface PinName {
  readonly repositoryId: string;
  readonly vmName: string;
  /** The version or branch that was asked for; undefined: the newest, whichever that is. */
  readonly version: string | undefined;
}

/** A pin, and what it keeps. */
export interface Pin extends PinName {
  /** The version or branch whose blobs these are. */
  readonly ofVersion: string;
  readonly pinnedAt: Date;
  readonly entries: number;
  /** On disk, when all of it is here. */
  readonly bytes: number;
}

/** Names of entries, and the length of the sealed bytes of each. */
export type PinnedEntries = Map<string, number>;

export interface PinFile {
  readonly pin: Pin;
  readonly entries: PinnedEntries;
}

const schema = v.object({
  format: v.literal(1),
  repositoryId: v.string(),
  vmName: v.string(),
  version: v.nullable(v.string()),
  ofVersion: v.string(),
  pinnedAt: v.pipe(v.string(), v.isoTimestamp()),
  entries: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
});

/**
 * A pin's file: a line of JSON that says whose it is, then for each blob 16 bytes of its id, 4 of its sealed length, and 1 of
 * its kind. Numbers are big-endian. Replaced as a whole, and flushed.
 */
const blobBytes = 21;
const kinds: readonly BlobKind[] = ['chunk', 'map-node', 'manifest', 'delta', 'delta-index'];

/** Whether a file in the directory of pins is one; else whoever wrote it was killed before it had its name. */
export function isPinFileName(name: string): boolean {
  return /^[0-9a-f]{32}$/.test(name);
}

/** By a hash: names of versions and VMs need not be names of files. */
export function pinFilePath(cachePath: string, { repositoryId, vmName, version }: PinName): string {
  const name = JSON.stringify([repositoryId, vmName, version ?? null]);
  const hash = createHash('sha256').update(name).digest('hex').slice(0, 32);
  return join(cachePath, pinsDirectory, hash);
}

export function encodePinFile({ pin, entries }: PinFile): Uint8Array {
  const { repositoryId, vmName, version, ofVersion } = pin;
  const head = {
    ...{ format: 1, repositoryId, vmName, version: version ?? null, ofVersion },
    ...{ pinnedAt: pin.pinnedAt.toISOString(), entries: entries.size },
  };
  const list = Buffer.alloc(entries.size * blobBytes);
  let at = 0;
  for (const [name, sealedBytes] of entries) {
    const dot = name.indexOf('.');
    list.write(name.slice(0, dot), at, 'hex');
    list.writeUInt32BE(sealedBytes, at + 16);
    list.writeUInt8(kinds.indexOf(name.slice(dot + 1) as BlobKind), at + 20);
    at += blobBytes;
  }
  return Buffer.concat([Buffer.from(`${JSON.stringify(head)}\n`), list]);
}

/** Undefined for what is no pin. */
export function decodePinFile(bytes: Buffer): PinFile | undefined {
  const lineEnd = bytes.indexOf('\n');
  const head = v.safeParse(schema, parseJson(bytes.toString('utf8', 0, Math.max(0, lineEnd))));
  if (!head.success) return undefined;
  const list = bytes.subarray(lineEnd + 1);
  if (list.length !== head.output.entries * blobBytes) return undefined;
  const entries: PinnedEntries = new Map();
  for (let at = 0; at < list.length; at += blobBytes) {
    const kind = kinds[list.readUInt8(at + 20)];
    if (kind === undefined) return undefined;
    const id = list.toString('hex', at, at + 16) as BlobId;
    entries.set(entryName(id, kind), list.readUInt32BE(at + 16));
  }
  const { repositoryId, vmName, version, ofVersion, pinnedAt } = head.output;
  const pin = {
    ...{ repositoryId, vmName, version: version ?? undefined, ofVersion },
    ...{ pinnedAt: new Date(pinnedAt), entries: entries.size, bytes: diskBytesOf(entries) },
  };
  return { pin, entries };
}

/** All pins of a cache; damaged ones, which keep nothing, are left out. */
export function* readPinFiles(cachePath: string): Generator<PinFile, void> {
  const directory = join(cachePath, pinsDirectory);
  for (const name of (readdirIfThere(directory) ?? []).filter(isPinFileName).sort()) {
    const file = readPinFile(join(directory, name));
    if (file !== undefined) yield file;
  }
}

/** Undefined for one that another process has just removed, or that is damaged. */
export function readPinFile(path: string): PinFile | undefined {
  try {
    return decodePinFile(readFileSync(path));
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** What eviction must leave alone. */
export function pinnedEntries(cachePath: string): ReadonlyMap<string, number> {
  const all: PinnedEntries = new Map();
  for (const { entries } of readPinFiles(cachePath)) {
    for (const [name, sealedBytes] of entries) all.set(name, sealedBytes);
  }
  return all;
}

export function diskBytesOf(entries: ReadonlyMap<string, number>): number {
  let total = 0;
  for (const sealedBytes of entries.values()) total += entryDiskBytes(sealedBytes);
  return total;
}

function readdirIfThere(path: string): string[] | undefined {
  try {
    return readdirSync(path);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
