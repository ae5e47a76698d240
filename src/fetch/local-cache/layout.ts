import { join } from 'node:path';
import type { BlobId, BlobKind } from '../../repo/index.js';

/**
 * Where things lie in a local cache directory:
 *
 *     ab/ab0123….chunk   one entry a blob, in a directory named after the first byte of its id
 *     tmp/               entries being written
 *     usage              what the directory holds: see usage-record.ts
 *     lock               held while entries are being evicted
 */
export const temporaryDirectory = 'tmp';
export const usageFile = 'usage';
export const sweepLockFile = 'lock';

const shardPattern = /^[0-9a-f]{2}$/;

export function shardPath(cachePath: string, id: BlobId): string {
  return join(cachePath, id.slice(0, 2));
}

export function entryPath(cachePath: string, id: BlobId, kind: BlobKind): string {
  return join(shardPath(cachePath, id), `${id}.${kind}`);
}

export function isShardName(name: string): boolean {
  return shardPattern.test(name);
}

/** What a file of this length costs the disk, near enough. */
export function diskBytes(fileBytes: number): number {
  return Math.ceil(fileBytes / 4096) * 4096;
}
