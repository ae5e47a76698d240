import { join } from 'node:path';
import type { BlobId, BlobKind } from '../../repo/index.js';
import { entryHeaderBytes, entryOwnerBytes } from './entry.js';

/**
 * Where things lie in a local cache directory:
 *
 *     ab/ab0123….chunk   one entry a blob, in a directory named after the first byte of its id
 *     tmp/               entries being written
 *     pins/              what eviction must leave alone: see pins.ts
 *     usage              what the directory holds: see usage-record.ts
 *     lock               held while entries are being evicted, or pins change
 */
export const temporaryDirectory = 'tmp';
export const pinsDirectory = 'pins';
export const usageFile = 'usage';
export const sweepLockFile = 'lock';

const shardPattern = /^[0-9a-f]{2}$/;

export function shardPath(cachePath: string, id: BlobId): string {
  return join(cachePath, id.slice(0, 2));
}

export function entryPath(cachePath: string, id: BlobId, kind: BlobKind): string {
  return namedEntryPath(cachePath, entryName(id, kind));
}

/** By the name of its file. */
export function namedEntryPath(cachePath: string, name: string): string {
  return join(cachePath, name.slice(0, 2), name);
}

/** The name of an entry's file. */
export function entryName(id: BlobId, kind: BlobKind): string {
  return `${id}.${kind}`;
}

export function isShardName(name: string): boolean {
  return shardPattern.test(name);
}

/** What a file of this length costs the disk, near enough. */
export function diskBytes(fileBytes: number): number {
  return Math.ceil(fileBytes / 4096) * 4096;
}

/** What an entry of so many sealed bytes costs the disk. */
export function entryDiskBytes(sealedBytes: number): number {
  return diskBytes(entryHeaderBytes + sealedBytes + entryOwnerBytes);
}
