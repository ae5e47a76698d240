import type { BlobKind, BlobReader, BlobReference, FileMap, MapEntry, PlacedChunk } from '../repo/index.js';
import type { ChunkPlace, SharedChunkCells } from '../resident/index.js';
import type { LocalCacheStatus } from './local-cache.js';
import type { DemandWait } from './stall-record.js';
import type { WaitClock } from './wait-clock.js';

/**
 * What a fetch is for, in this order of priority: somebody waits for it; somebody who waits for what lies around it is likely to
 * want it next; a trace says that it will be wanted; some other time.
 */
export type FetchClass = 'demand' | 'around' | 'replay' | 'background';

export interface FetchOptions {
  readonly fetchClass: FetchClass;
  readonly signal?: AbortSignal;
  /** Told what a read of a file waits for. */
  readonly wait?: DemandWait | undefined;
}

/** As `FetchOptions`, of one blob. */
export interface BlobFetchOptions {
  readonly fetchClass: FetchClass;
  readonly signal?: AbortSignal;
  /** Runs while it is waited for. */
  readonly clock?: WaitClock | undefined;
}

export interface WarmOptions extends FetchOptions {
  /** Called for each chunk that is local now; `fetched` says whether it had to come from the store. Must not throw. */
  readonly onChunk?: (reference: BlobReference, fetched: boolean) => void;
  /** Resolves when the next request, for so many sealed bytes, may be made, or the signal fires; must not reject. */
  readonly turn?: (signal: AbortSignal, sealedBytes: number) => Promise<void>;
}

export interface WarmResult {
  readonly chunks: number;
  readonly fetchedChunks: number;
  /** Sealed bytes of the fetched chunks. */
  readonly fetchedBytes: number;
}

/**
 * Chunks through the tiers: memory, local cache, store. One per daemon.
 * Concurrent misses of one blob share one fetch. A store that is unreachable is waited for (with backoff), and
 * `status().waitingForStore` says so; so is, for demand, a store that refuses, because somebody can act. A missing
 * object is an error at once, and a damaged one after several requests: answers may have been damaged on their way.
 * Cancelling one of several who wait for a fetch does not disturb the others.
 *
 * Closing is idempotent, cancels what is under way and waits for it. The repository stays its owner's.
 */
export interface Fetcher extends BlobReader, AsyncDisposable {
  /** Verified plaintext of a blob of any kind; demand unless said otherwise. Shared: must not be modified. */
  readBlob(
    reference: BlobReference,
    kind: BlobKind,
    options?: Partial<BlobFetchOptions>,
  ): Promise<Uint8Array>;

  /**
   * Verified plaintext of a chunk from the memory tier, or undefined. To be used at once: it holds the chunk only until
   * the caller gives up its turn. Must not be modified.
   */
  peekChunk(reference: BlobReference): Uint8Array | undefined;

  /** Where other threads find a chunk that is in the memory tier. */
  placeOf(reference: BlobReference): ChunkPlace | undefined;

  /** The memory tier for other threads. */
  readonly sharedMemory: SharedChunkCells;

  /** Whether `readChunk` would succeed without the store (memory or local cache). Cheap, no promise. */
  isLocal(reference: BlobReference): boolean;

  /** Verified plaintext of a chunk. Shared: must not be modified. */
  readChunk(reference: BlobReference, options: BlobFetchOptions): Promise<Uint8Array>;

  /**
   * Verified plaintext of a chunk that is on this host, in memory of its own, or undefined: at background priority, and kept in no
   * tier. Never fails.
   */
  readHeld(reference: BlobReference): Promise<Uint8Array | undefined>;

  /**
   * Makes a chunk local (sealed, in the local cache) without keeping it in memory. Verified before it is kept.
   * `LocalCacheUnusable` when the local disk does not take it.
   */
  warmChunk(reference: BlobReference, options: FetchOptions): Promise<void>;

  /**
   * The same for many chunks: neighbours in a pack come with one request. In no particular order. Takes references
   * only as fast as it works on them. Rejects with the first error, after having cancelled the rest.
   */
  warmChunks(
    references: Iterable<BlobReference> | AsyncIterable<BlobReference>,
    options: WarmOptions,
  ): Promise<WarmResult>;

  /**
   * Adds what was just published to the local cache, so that a resume on this host finds it. `sealed` must be what
   * the sealer made, and is not kept after the promise settles. Never fails: a disk that does not take it is counted.
   */
  keepSealed(reference: BlobReference, kind: BlobKind, sealed: Uint8Array): Promise<void>;

  /**
   * From here on chunks may be made out of earlier ones and the deltas that an index names, where this host or a lookaside place
   * has something that they could be made of.
   */
  useDeltas(index: BlobReference): void;

  /** How long a request is that is not demand, by what is known of the link. */
  readonly rangeBytes: number;

  /** The content of one file of a version. */
  openFile(map: FileMap): BaseFile;

  status(): FetchStatus;

  /** Sealed bytes that came from the store until now, and what the link carries; undefined while too little was seen. Cheap. */
  linkUse(): { readonly receivedBytes: number; readonly bytesPerMs: number | undefined };
}

/** What lseek(2) can look for. */
export type SoughtBytes = 'data' | 'hole';

/** Read access to one file of a version. Holds no resources of its own. */
export interface BaseFile {
  readonly map: FileMap;

  /**
   * Copies `into.length` bytes at `offsetBytes` if everything needed (map nodes and chunks) is in memory, and says
   * whether it did; `into` is unspecified otherwise. Bytes past the end of the file are zero.
   */
  readSync(offsetBytes: number, into: Uint8Array): boolean;

  /** What of a chunk another thread can read in memory now: nothing but zeros, the whole of it, or nothing. */
  resident(chunkIndex: number): 'zero' | ChunkPlace | undefined;

  /**
   * Whether a `read` of this range would succeed without the store, and without opening more bytes of the local cache
   * than `openBytesMax` (any number if not said); two chunks always may. Looks at the local disk's directory, never waits.
   */
  isLocal(offsetBytes: number, lengthBytes: number, openBytesMax?: number): boolean;

  /** What the version says of a chunk; undefined after the last one. Loads map nodes. */
  chunk(chunkIndex: number, options: FetchOptions): Promise<MapEntry | undefined>;

  /** Fills `into`. Bytes past the end of the file are zero. Fails closed: never partial data. */
  read(offsetBytes: number, into: Uint8Array, options: FetchOptions): Promise<void>;

  /**
   * Where data, or a hole, first starts in a range: `endBytes` if nowhere. Chunks that are zero are holes, and so is
   * all from the end of the file on. Undefined when that needs map nodes that are not in memory, or many of them.
   */
  findSync(sought: SoughtBytes, startBytes: number, endBytes: number): number | undefined;

  /** As `findSync`, loading map nodes. Rejects as `read` does. */
  find(sought: SoughtBytes, startBytes: number, endBytes: number, options: FetchOptions): Promise<number>;

  /** How many chunks of the file are not zero, and how many of these are local. Loads map nodes; chunk data is not read. */
  residency(options: FetchOptions): Promise<{ readonly chunks: number; readonly localChunks: number }>;

  /** The chunks of a range that are not zero, ascending. Loads map nodes. The range may go past the end of the file. */
  placedChunks(offsetBytes: number, lengthBytes: number, options: FetchOptions): AsyncIterable<PlacedChunk>;

  /** The chunks that are not zero and have other content than in an earlier version of the file, ascending. Loads map nodes. */
  changedSince(earlier: FileMap, options: FetchOptions): AsyncIterable<PlacedChunk>;

  /** Makes every chunk of a range local: `Fetcher.warmChunks`. The range may go past the end of the file. */
  warm(offsetBytes: number, lengthBytes: number, options: WarmOptions): Promise<WarmResult>;
}

export interface FetchClassStatus {
  /** Requests made of the store. */
  readonly requests: number;
  /** Sealed bytes that came from the store. */
  readonly bytes: number;
  /** Sum over requests of the time from wanting to having verified, queueing and outages included. */
  readonly waitMs: number;
}

/** Caps on what fetches may ask of the store; undefined: no cap, or the default of `limits`. */
export interface LinkCaps {
  readonly bytesPerSecond?: number | undefined;
  /** For all but demand. */
  readonly backgroundBytesPerSecond?: number | undefined;
  readonly requestsInFlight?: number | undefined;
}

/** What went wrong with requests and was put right, each kind counted. Only `errors` reached anybody. */
export interface FetchTrouble {
  /** Requests that were made again. */
  readonly retries: number;
  /** Answers that stood still, and were given up. */
  readonly timeouts: number;
  /** Second requests beside a demand that was slow; and those that came first. */
  readonly hedges: number;
  readonly hedgesWon: number;
  /** Pieces that did not verify. */
  readonly damaged: number;
  /** Answers that ended early. */
  readonly truncated: number;
  /** Objects that were not those that were read before. */
  readonly changed: number;
  /** Requests that failed on their way, or that the store could not serve. */
  readonly unreachable: number;
  readonly refused: number;
}

/** What the link to the store is like, as far as answers have told; and the caps. */
export interface LinkStatus {
  readonly roundTripMs: number | undefined;
  readonly bytesPerSecond: number | undefined;
  readonly caps: LinkCaps;
}

/** What became of asking one lookaside place. */
export interface TierStatus {
  readonly place: string;
  readonly hits: number;
  readonly misses: number;
  /** Of the hits, those that did not verify: they came from elsewhere. */
  readonly damaged: number;
  readonly failures: number;
  readonly bytes: number;
  /** Set while it is not asked, because it does not pay or failed. */
  readonly skipped: { readonly until: Date; readonly reason: string } | undefined;
}

/** Chunks that were made out of earlier ones and deltas, and the sealed bytes that were not fetched for it. */
export interface DeltaStatus {
  /** Deltas that could be used, if an earlier chunk is at hand. */
  readonly known: number;
  readonly chunks: number;
  readonly savedBytes: number;
}

export interface FetchStatus {
  readonly fetches: Readonly<Record<FetchClass, FetchClassStatus>>;
  readonly trouble: FetchTrouble;
  readonly link: LinkStatus;
  readonly tiers: readonly TierStatus[];
  readonly deltas: DeltaStatus;
  readonly memoryHits: number;
  readonly localHits: number;
  readonly memoryBytes: number;
  /** Damaged local cache entries that were deleted and fetched again. */
  readonly damagedLocal: number;
  /** Blobs that somebody waits for, or that are being written to the local cache. */
  readonly blobsInFlight: number;
  readonly requestsInFlight: number;
  readonly requestsQueued: number;
  /** Sealed bytes that were asked of the store and are not dealt with yet. */
  readonly bytesInFlight: number;
  readonly localCache: LocalCacheStatus;
  /** Fetches that failed for good, cancelled ones not counted. */
  readonly errors: number;
  readonly lastError: string | undefined;
  /** Set while the store does not answer: since when, and what it said. */
  readonly waitingForStore: { readonly since: Date; readonly reason: string } | undefined;
}
