import type { BlobReader, BlobReference, FileMap } from '../repo/index.js';

/** In this order of priority. */
export type FetchClass = 'demand' | 'replay' | 'background';

export interface FetchOptions {
  readonly fetchClass: FetchClass;
  readonly signal?: AbortSignal;
}

/**
 * Chunks through the tiers: memory, local cache, store. One per daemon.
 * Concurrent misses of one blob share one fetch. A store that is unreachable is waited for (with backoff), and
 * `status().waitingForStore` says so; a damaged or missing object is an error at once.
 */
export interface Fetcher extends BlobReader, AsyncDisposable {
  /** Verified plaintext of a chunk from the memory tier, or undefined. Shared: must not be modified. */
  peekChunk(reference: BlobReference): Uint8Array | undefined;

  /** Whether `readChunk` would succeed without the store (memory or local cache). Cheap, no promise. */
  isLocal(reference: BlobReference): boolean;

  /** Verified plaintext of a chunk. Shared: must not be modified. */
  readChunk(reference: BlobReference, options: FetchOptions): Promise<Uint8Array>;

  /** Makes a chunk local (sealed, in the local cache) without keeping it in memory. Verified before it is kept. */
  warmChunk(reference: BlobReference, options: FetchOptions): Promise<void>;

  /** The content of one file of a version. */
  openFile(map: FileMap): BaseFile;

  status(): FetchStatus;
}

/** Read access to one file of a version. Holds no resources of its own. */
export interface BaseFile {
  readonly map: FileMap;

  /**
   * Copies `into.length` bytes at `offsetBytes` if everything needed (map nodes and chunks) is in memory, and says
   * whether it did; `into` is unspecified otherwise. Bytes past the end of the file are zero.
   */
  readSync(offsetBytes: number, into: Uint8Array): boolean;

  /** Whether a `read` of this range would succeed without the store. May look at the local disk's directory, never waits. */
  isLocal(offsetBytes: number, lengthBytes: number): boolean;

  /** Fills `into`. Bytes past the end of the file are zero. Fails closed: never partial data. */
  read(offsetBytes: number, into: Uint8Array, options: FetchOptions): Promise<void>;

  /** How many chunks of the range are not zero, and how many of these are local. Loads map nodes; chunk data is not read. */
  residency(options: FetchOptions): Promise<{ readonly chunks: number; readonly localChunks: number }>;
}

export interface FetchStatus {
  readonly fetches: Readonly<
    Record<FetchClass, { readonly requests: number; readonly bytes: number; readonly waitMs: number }>
  >;
  readonly memoryHits: number;
  readonly localHits: number;
  readonly memoryBytes: number;
  /** Damaged local cache entries that were deleted and fetched again. */
  readonly damagedLocal: number;
  readonly errors: number;
  readonly lastError: string | undefined;
  /** Set while the store does not answer: since when, and what it said. */
  readonly waitingForStore: { readonly since: Date; readonly reason: string } | undefined;
}
