import { limits } from '../../base/index.js';
import { entryDiskBytes, entryName } from './layout.js';
import { diskBytesOf, pinnedEntries } from './pin-file.js';
import type { PinnedBlob } from './pins.js';
import { unpinnedBytesKept } from './sweep.js';

/**
 * Whether a local cache keeps blobs that are wanted all at once: with eviction as it is, no blob that is added pushes out another
 * of them for good. What is pinned has its own room; what else is in the cache gives way.
 *
 * Memory: a name for each blob, for `limits.cachePinnedEntries` at most; beyond, a blob that comes twice counts twice.
 */
export class CacheRoom {
  readonly #pinned: ReadonlyMap<string, number>;
  readonly #pinnedBytes: number;
  readonly #seen = new Set<string>();
  #wantedBytes = 0;

  /** Reads what is pinned now. */
  constructor(cachePath: string) {
    this.#pinned = pinnedEntries(cachePath);
    this.#pinnedBytes = diskBytesOf(this.#pinned);
  }

  add({ reference, kind }: PinnedBlob): void {
    const name = entryName(reference.id, kind);
    if (this.#seen.has(name) || this.#pinned.has(name)) return;
    if (this.#seen.size < limits.cachePinnedEntries) this.#seen.add(name);
    this.#wantedBytes += entryDiskBytes(reference.sealedBytes);
  }

  /** On disk, of what was added and is not pinned; each blob counted once. */
  get wantedBytes(): number {
    return this.#wantedBytes;
  }

  /** What the cache keeps of blobs that are not pinned, if this is its limit. */
  keptBytes(limitBytes: number): number {
    return unpinnedBytesKept(limitBytes, this.#pinnedBytes);
  }
}
