import { limits, systemClock, type Clock } from '../base/index.js';
import {
  ChunkMap,
  NodeCache,
  type BlobKind,
  type BlobReader,
  type BlobReference,
  type FileMap,
} from '../repo/index.js';
import type { ChunkPlace, SharedChunkCells } from '../resident/index.js';
import type { ObjectStore } from '../store/index.js';
import { VersionFile } from './base-file.js';
import { ChunkMemory } from './chunk-memory.js';
import { LocalCacheUnusable } from './errors.js';
import { Flights, type FlightCodec } from './flights.js';
import { LocalCache, type CacheFiles } from './local-cache.js';
import { StoreAccess } from './store-access.js';
import { Surroundings, type SurroundingsLink } from './surroundings.js';
import { openTier } from './tiers/open-tier.js';
import type { Tier } from './tiers/tier.js';
import type {
  BaseFile,
  BlobFetchOptions,
  Fetcher,
  FetchOptions,
  FetchStatus,
  LinkCaps,
  WarmOptions,
  WarmResult,
} from './types.js';
import { Warming } from './warming.js';

export interface FetcherOptions {
  /** Where blobs come from and what opens them: a `Repository`. Stays its owner's, and must outlive the fetcher. */
  readonly repository: {
    readonly store: ObjectStore;
    readonly codec: FlightCodec;
  };
  /** The local cache's own directory; may be shared with other processes and repositories. */
  readonly cachePath: string;
  /** Its limit. A function is asked again from time to time. */
  readonly localCacheBytes: number | (() => number);
  /** Whose the blobs are. */
  readonly repositoryId: string;
  readonly memoryCacheBytes: number;
  /** The repository's: memory is divided into pieces of this size. */
  readonly chunkBytes: number;
  readonly caps?: LinkCaps;
  /** Whether neighbours of a demand are fetched while its link idles (default). */
  readonly betweenDemands?: boolean;
  /** Lookaside places, in the order in which they are asked before the store: see `openTier`. */
  readonly tiers?: readonly string[];
  readonly clock?: Clock;
  /** Numbers in [0, 1). */
  readonly random?: () => number;
  readonly cacheFiles?: CacheFiles;
}

/** Never fails because of the local disk: without it, every read goes to the store. */
export async function createFetcher(options: FetcherOptions): Promise<Fetcher> {
  const clock = options.clock ?? systemClock;
  const localCache = await LocalCache.open({
    path: options.cachePath,
    limitBytes: options.localCacheBytes,
    repositoryId: options.repositoryId,
    clock,
    ...(options.cacheFiles === undefined ? {} : { files: options.cacheFiles }),
  });
  const access = new StoreAccess({
    store: options.repository.store,
    clock,
    random: options.random ?? Math.random,
    caps: options.caps ?? {},
  });
  const tiers = (options.tiers ?? []).map((place) => openTier(place, clock));
  return new TieredFetcher({
    ...{ access, localCache, tiers },
    flights: new Flights({ codec: options.repository.codec, access, localCache, tiers, clock }),
    memory: new ChunkMemory(options.memoryCacheBytes, options.chunkBytes),
    cachePath: options.cachePath,
    caps: options.caps ?? {},
    ...{ clock, betweenDemands: options.betweenDemands ?? true },
  });
}

interface Parts {
  readonly access: StoreAccess;
  readonly localCache: LocalCache;
  readonly flights: Flights;
  readonly tiers: readonly Tier[];
  readonly memory: ChunkMemory;
  readonly cachePath: string;
  readonly caps: LinkCaps;
  readonly clock: Clock;
  readonly betweenDemands: boolean;
}

/**
 * Memory, then local cache, then lookaside tiers, then what can be made with deltas, then store.
 *
 * Memory: the two memory caches, plus what is under way: a sealed and an open blob for each of
 * `limits.storeRequestsInFlight` requests, `localReadsInFlight` reads and `localWritesInFlight` writes, and
 * `warmRangesInFlight` ranges with what they open to.
 */
class TieredFetcher implements Fetcher {
  readonly #access: StoreAccess;
  readonly #localCache: LocalCache;
  readonly #flights: Flights;
  readonly #tiers: readonly Tier[];
  readonly #memory: ChunkMemory;
  readonly #warming: Warming;
  readonly #cachePath: string;
  readonly #caps: LinkCaps;
  readonly #surroundings: Surroundings | undefined;
  readonly #nodes = new NodeCache(limits.mapCacheBytes);
  #memoryHits = 0;
  #closing: Promise<void> | undefined;

  constructor(parts: Parts) {
    this.#access = parts.access;
    this.#localCache = parts.localCache;
    this.#flights = parts.flights;
    this.#tiers = parts.tiers;
    this.#memory = parts.memory;
    this.#cachePath = parts.cachePath;
    this.#caps = parts.caps;
    const warming = new Warming({ ...parts, requireKept: (isKept) => this.#requireKept(isKept) });
    this.#warming = warming;
    const { clock, access, localCache } = parts;
    const link: SurroundingsLink = {
      now: () => clock.now(),
      get roundTripMs() {
        return access.link.roundTripMs;
      },
      get keepsClose() {
        return warming.isReplaying || localCache.isTight;
      },
    };
    this.#surroundings = parts.betweenDemands ? new Surroundings(link) : undefined;
  }

  peekChunk(reference: BlobReference): Uint8Array | undefined {
    const chunk = this.#memory.peek(reference.id);
    if (chunk !== undefined) this.#memoryHits += 1;
    return chunk;
  }

  placeOf(reference: BlobReference): ChunkPlace | undefined {
    return this.#memory.place(reference.id);
  }

  get sharedMemory(): SharedChunkCells {
    return this.#memory.shared;
  }

  isLocal(reference: BlobReference): boolean {
    return this.#memory.has(reference.id) || this.#localCache.has(reference, 'chunk');
  }

  async readChunk(reference: BlobReference, options: BlobFetchOptions): Promise<Uint8Array> {
    const known = this.peekChunk(reference);
    // The caller gets it later, when another chunk may lie there.
    if (known !== undefined) return new Uint8Array(known);
    const { fetchClass, signal, clock } = options;
    const flight = this.#flights.board(reference, 'chunk', fetchClass, clock);
    const chunk = await flight.plaintext(signal, clock);
    this.#memory.set(reference.id, chunk);
    return chunk;
  }

  async readHeld(reference: BlobReference): Promise<Uint8Array | undefined> {
    const known = this.peekChunk(reference);
    return known === undefined ? this.#flights.readHeld(reference) : new Uint8Array(known);
  }

  async readBlob(
    reference: BlobReference,
    kind: BlobKind,
    options: Partial<BlobFetchOptions> = {},
  ): Promise<Uint8Array> {
    const { fetchClass = 'demand', signal, clock } = options;
    if (kind === 'chunk') return this.readChunk(reference, { ...options, fetchClass });
    return this.#flights.board(reference, kind, fetchClass, clock).plaintext(signal, clock);
  }

  async warmChunk(reference: BlobReference, options: FetchOptions): Promise<void> {
    if (this.#localCache.has(reference, 'chunk')) return;
    this.#requireKept(await this.#flights.board(reference, 'chunk', options.fetchClass).kept(options.signal));
  }

  warmChunks(
    references: Iterable<BlobReference> | AsyncIterable<BlobReference>,
    options: WarmOptions,
  ): Promise<WarmResult> {
    return this.#warming.warm(references, options);
  }

  async keepSealed(reference: BlobReference, kind: BlobKind, sealed: Uint8Array): Promise<void> {
    await this.#flights.keep(reference, kind, sealed);
  }

  useDeltas(index: BlobReference): void {
    const hasNothing = this.#tiers.length === 0 && this.#localCache.status().usedBytes === 0;
    if (!hasNothing) this.#flights.deltas.use(index);
  }

  get rangeBytes(): number {
    return this.#access.link.rangeBytes;
  }

  openFile(map: FileMap): BaseFile {
    return new VersionFile(
      map,
      this,
      (options) => new ChunkMap(map, this.#readerFor(options), this.#nodes),
      this.#surroundings,
    );
  }

  status(): FetchStatus {
    const localCache = this.#localCache.status();
    const { counts, link } = this.#access;
    const { roundTripMs, bytesPerMs } = link;
    const { errors } = this.#flights;
    return {
      fetches: counts.byClass(),
      trouble: { ...counts.trouble },
      link: {
        roundTripMs,
        bytesPerSecond: bytesPerMs === undefined ? undefined : bytesPerMs * 1000,
        caps: this.#caps,
      },
      tiers: this.#tiers.map((tier) => tier.status()),
      deltas: this.#flights.deltas.status(),
      memoryHits: this.#memoryHits,
      localHits: this.#flights.localHits,
      memoryBytes: this.#memory.sizeBytes,
      damagedLocal: localCache.damagedEntries,
      blobsInFlight: this.#flights.count,
      requestsInFlight: this.#access.requestsInFlight,
      requestsQueued: this.#access.requestsQueued,
      bytesInFlight: this.#access.bytesInFlight,
      localCache,
      errors: errors.count,
      lastError: errors.last,
      waitingForStore: this.#access.outage,
    };
  }

  linkUse(): { readonly receivedBytes: number; readonly bytesPerMs: number | undefined } {
    const { counts, link } = this.#access;
    return { receivedBytes: counts.receivedBytes, bytesPerMs: link.bytesPerMs };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async #close(): Promise<void> {
    this.#surroundings?.[Symbol.dispose]();
    await this.#flights[Symbol.asyncDispose]();
    await this.#access[Symbol.asyncDispose]();
    for (const tier of this.#tiers) await tier[Symbol.asyncDispose]();
    await this.#localCache[Symbol.asyncDispose]();
    this.#memory.clear();
  }

  #readerFor(how: Pick<BlobFetchOptions, 'fetchClass' | 'clock'>): BlobReader {
    return {
      readBlob: (reference, kind, options) => this.readBlob(reference, kind, { ...options, ...how }),
    };
  }

  #requireKept(isKept: boolean): void {
    if (isKept) return;
    const { lastDiskError } = this.#localCache.status();
    throw new LocalCacheUnusable(this.#cachePath, lastDiskError ?? 'its limit is smaller than a chunk');
  }
}
