import { readFile } from 'node:fs/promises';
import { systemErrorCode } from '../../base/index.js';
import type { BlobKind, BlobReference } from '../../repo/index.js';
import { decodeEntry } from '../local-cache/entry.js';
import { entryPath } from '../local-cache/layout.js';
import type { TierSource } from './tier.js';

/** Entries of another host's local cache, or of a disk that was filled like one: found by content, whatever pack they were in. */
export class CacheTier implements TierSource {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  async find(
    reference: BlobReference,
    kind: BlobKind,
  ): Promise<{ readonly reference: BlobReference; readonly sealed: Uint8Array } | undefined> {
    let entry: Uint8Array;
    try {
      entry = await readFile(entryPath(this.#path, reference.id, kind));
    } catch (error) {
      if (systemErrorCode(error) === 'ENOENT') return undefined;
      throw error;
    }
    const decoded = decodeEntry(entry);
    if (decoded === undefined) return { reference, sealed: new Uint8Array(0) };
    const { packId, counter, sealedBytes } = decoded.header;
    return {
      reference: { ...reference, packId, counter, sealedBytes },
      sealed: Uint8Array.from(decoded.sealed),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // No file stays open.
  }
}
