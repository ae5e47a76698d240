import { Cancelled, limits, systemClock, type Clock } from '../base/index.js';
import {
  ChunkMap,
  DamagedObject,
  NodeCache,
  type BlobKind,
  type BlobReader,
  type BlobReference,
  type CodecPool,
  type FileMap,
} from '../repo/index.js';
import type { ChunkPlace, SharedChunkCells } from '../resident/index.js';
import { ObjectTruncated, type ObjectStore } from '../store/index.js';
import { AbortScope } from './abort-scope.js';
import { VersionFile } from './base-file.js';
import { ChunkMemory } from './chunk-memory.js';
import { LocalCacheUnusable } from './errors.js';
import { Flight, isMoreUrgent } from './flight.js';
import { LocalCache, type CacheFiles } from './local-cache.js';
import { exactRange, PackNeighbourhood, rangeAround, sliceOf } from './pack-neighbourhood.js';
import { StoreAccess, type PackRange } from './store-access.js';
import { Turnstile } from './turnstile.js';
import type {
  BaseFile,
  FetchClass,
  Fetcher,
  FetchOptions,
  FetchStatus,
  WarmOptions,
  WarmResult,
} from './types.js';
import { groupNeighbours, WarmRange } from './warm-range.js';

export interface FetcherOptions {
  /** Where blobs come from and what opens them: a `Repository`. Stays its owner's, and must outlive the fetcher. */
  readonly repository: { readonly store: ObjectStore; readonly codec: Pick<CodecPool, 'open' | 'openFile'> };
  /** The local cache's own directory; may be shared with other processes and repositories. */
  readonly cachePath: string;
  readonly localCacheBytes: number;
  readonly memoryCacheBytes: number;
  /** The repository's: memory is divided into pieces of this size. */
  readonly chunkBytes: number;
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
    clock,
    ...(options.cacheFiles === undefined ? {} : { files: options.cacheFiles }),
  });
  return new TieredFetcher({
    codec: options.repository.codec,
    access: new StoreAccess({
      store: options.repository.store,
      clock,
      random: options.random ?? Math.random,
    }),
    localCache,
    memory: new ChunkMemory(options.memoryCacheBytes, options.chunkBytes),
    cachePath: options.cachePath,
  });
}

interface Parts {
  readonly codec: Pick<CodecPool, 'open' | 'openFile'>;
  readonly access: StoreAccess;
  readonly localCache: LocalCache;
  readonly memory: ChunkMemory;
  readonly cachePath: string;
}

/** A blob that opened; `sealed` is undefined when it came from the local cache. */
interface VerifiedBlob {
  readonly plaintext: Uint8Array;
  readonly sealed: Uint8Array | undefined;
}

/**
 * Memory, then local cache, then store. Nothing is handed out or put into a cache before it has opened.
 *
 * Memory: the two memory caches, plus what is under way: a sealed and an open blob for each of
 * `limits.storeRequestsInFlight` requests, `localReadsInFlight` reads and `localWritesInFlight` writes, and
 * `warmRangesInFlight` ranges with what they open to.
 */
class TieredFetcher implements Fetcher {
  readonly #codec: Pick<CodecPool, 'open' | 'openFile'>;
  readonly #access: StoreAccess;
  readonly #localCache: LocalCache;
  readonly #memory: ChunkMemory;
  readonly #cachePath: string;
  readonly #nodes = new NodeCache(limits.mapCacheBytes);
  readonly #neighbourhood = new PackNeighbourhood();

  /** By where the sealed blob lies. */
  readonly #flights = new Map<string, Flight>();
  readonly #underWay = new Set<Promise<void>>();
  readonly #localReads = new Turnstile(limits.localReadsInFlight);
  readonly #localWrites = new Turnstile(limits.localWritesInFlight);
  readonly #warmRanges = new Turnstile(limits.warmRangesInFlight);

  #memoryHits = 0;
  #localHits = 0;
  #damagedFetches = 0;
  #errors = 0;
  #lastError: string | undefined;
  #closing: Promise<void> | undefined;

  constructor(parts: Parts) {
    this.#codec = parts.codec;
    this.#access = parts.access;
    this.#localCache = parts.localCache;
    this.#memory = parts.memory;
    this.#cachePath = parts.cachePath;
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

  async readChunk(reference: BlobReference, options: FetchOptions): Promise<Uint8Array> {
    const known = this.peekChunk(reference);
    // The caller gets it later, when another chunk may lie there.
    if (known !== undefined) return new Uint8Array(known);
    const chunk = await this.#board(reference, 'chunk', options.fetchClass).plaintext(options.signal);
    this.#memory.set(reference.id, chunk);
    return chunk;
  }

  async readBlob(
    reference: BlobReference,
    kind: BlobKind,
    options: { readonly fetchClass?: FetchClass; readonly signal?: AbortSignal } = {},
  ): Promise<Uint8Array> {
    const fetchClass = options.fetchClass ?? 'demand';
    if (kind === 'chunk') return this.readChunk(reference, { ...options, fetchClass });
    return this.#board(reference, kind, fetchClass).plaintext(options.signal);
  }

  async warmChunk(reference: BlobReference, options: FetchOptions): Promise<void> {
    if (this.#localCache.has(reference, 'chunk')) return;
    this.#requireKept(await this.#board(reference, 'chunk', options.fetchClass).kept(options.signal));
  }

  async warmChunks(
    references: Iterable<BlobReference> | AsyncIterable<BlobReference>,
    options: WarmOptions,
  ): Promise<WarmResult> {
    const result = { chunks: 0, fetchedChunks: 0, fetchedBytes: 0 };
    const note = (reference: BlobReference, fetched: boolean): void => {
      result.chunks += 1;
      if (fetched) result.fetchedChunks += 1;
      if (fetched) result.fetchedBytes += reference.sealedBytes;
      options.onChunk?.(reference, fetched);
    };
    let window: BlobReference[] = [];
    for await (const reference of references) {
      if (options.signal?.aborted === true) throw new Cancelled('Warming');
      if (this.#localCache.has(reference, 'chunk')) {
        note(reference, false);
        continue;
      }
      window.push(reference);
      if (window.length < limits.warmWindowChunks) continue;
      await this.#warmWindow(window, options, note);
      window = [];
    }
    await this.#warmWindow(window, options, note);
    return result;
  }

  async keepSealed(reference: BlobReference, kind: BlobKind, sealed: Uint8Array): Promise<void> {
    await this.#localWrites.run(() => this.#localCache.put(reference, kind, sealed));
  }

  openFile(map: FileMap): BaseFile {
    return new VersionFile(
      map,
      this,
      (fetchClass) => new ChunkMap(map, this.#readerFor(fetchClass), this.#nodes),
    );
  }

  status(): FetchStatus {
    const localCache = this.#localCache.status();
    return {
      fetches: this.#access.counts(),
      memoryHits: this.#memoryHits,
      localHits: this.#localHits,
      memoryBytes: this.#memory.sizeBytes,
      damagedLocal: localCache.damagedEntries,
      damagedFetches: this.#damagedFetches,
      repeatedRequests: this.#access.repeatedRequests,
      blobsInFlight: this.#flights.size,
      requestsInFlight: this.#access.requestsInFlight,
      requestsQueued: this.#access.requestsQueued,
      bytesInFlight: this.#access.bytesInFlight,
      localCache,
      errors: this.#errors,
      lastError: this.#lastError,
      waitingForStore: this.#access.outage,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async #close(): Promise<void> {
    for (const flight of this.#flights.values()) flight.cancel();
    while (this.#underWay.size > 0) await Promise.all(this.#underWay);
    await this.#access[Symbol.asyncDispose]();
    await this.#localCache[Symbol.asyncDispose]();
    this.#memory.clear();
  }

  #readerFor(fetchClass: FetchClass): BlobReader {
    return {
      readBlob: (reference, kind, options) => this.readBlob(reference, kind, { ...options, fetchClass }),
    };
  }

  /** The fetch of a blob that is under way, now at least of this class, or a new one. */
  #board(reference: BlobReference, kind: BlobKind, fetchClass: FetchClass): Flight {
    const known = this.#joinFlight(reference, kind, fetchClass);
    if (known !== undefined) return known;
    const flight = this.#addFlight(reference, kind, fetchClass);
    this.#track(this.#fly(flight));
    return flight;
  }

  #joinFlight(reference: BlobReference, kind: BlobKind, fetchClass: FetchClass): Flight | undefined {
    const flight = this.#flights.get(flightKey(reference, kind));
    if (flight === undefined || flight.signal.aborted) return undefined;
    if (isMoreUrgent(fetchClass, flight.fetchClass)) {
      flight.fetchClass = fetchClass;
      if (flight.carrier?.release(flight) === true) this.#track(this.#fly(flight));
      this.#access.reconsider();
    }
    return flight;
  }

  #addFlight(reference: BlobReference, kind: BlobKind, fetchClass: FetchClass): Flight {
    if (this.#closing !== undefined) throw new Error('the fetcher is closed');
    const flight = new Flight(reference, kind, fetchClass);
    this.#flights.set(flightKey(reference, kind), flight);
    return flight;
  }

  /** Fetches one blob on its own. Never rejects: the flight carries the error. */
  async #fly(flight: Flight): Promise<void> {
    try {
      const blob = (await this.#fromLocalCache(flight)) ?? (await this.#fromStore(flight));
      await this.#land(flight, blob);
    } catch (error) {
      this.#fail(flight, error);
    }
  }

  /** Wakes those who wait for the plaintext as soon as there is room to write, then keeps the sealed bytes. */
  async #land(flight: Flight, { plaintext, sealed }: VerifiedBlob): Promise<void> {
    if (sealed === undefined) {
      flight.deliver(plaintext);
      flight.noteKept(true);
    } else {
      await this.#localWrites.run(async () => {
        flight.deliver(plaintext);
        flight.noteKept(await this.#localCache.put(flight.reference, flight.kind, sealed));
      });
    }
    this.#removeFlight(flight);
  }

  #fail(flight: Flight, error: unknown): void {
    this.#removeFlight(flight);
    if (!(error instanceof Cancelled)) {
      this.#errors += 1;
      this.#lastError = error instanceof Error ? error.message : String(error);
    }
    flight.fail(error);
  }

  #removeFlight(flight: Flight): void {
    const key = flightKey(flight.reference, flight.kind);
    if (this.#flights.get(key) === flight) this.#flights.delete(key);
  }

  async #fromLocalCache(flight: Flight): Promise<VerifiedBlob | undefined> {
    const { reference, kind } = flight;
    if (!this.#localCache.has(reference, kind)) return undefined;
    return this.#localReads.run(async () => {
      const plaintext = await this.#openEntry(flight);
      if (plaintext !== undefined) {
        this.#localHits += 1;
        return { plaintext, sealed: undefined };
      }
      const cached = await this.#localCache.get(reference, kind);
      if (cached === undefined) return undefined;
      try {
        const plaintext = await this.#open(flight, cached.sealed, cached.reference);
        this.#localHits += 1;
        return { plaintext, sealed: undefined };
      } catch (error) {
        if (!(error instanceof DamagedObject)) throw error;
        await this.#localCache.discardDamaged(reference, kind);
        return undefined;
      }
    });
  }

  /**
   * The short way: a codec thread reads and opens the entry. Undefined where that did not come to anything; the long way
   * then tells an entry of another pack, which is as good, from one that is damaged or gone.
   */
  async #openEntry(flight: Flight): Promise<Uint8Array | undefined> {
    const { reference, kind, fetchClass } = flight;
    const place = kind === 'chunk' ? this.#localCache.place(reference, kind) : undefined;
    if (place === undefined) return undefined;
    return this.#codec.openFile({ ...place, reference, kind }, { priority: fetchClass });
  }

  async #fromStore(flight: Flight): Promise<VerifiedBlob> {
    try {
      return await (flight.kind === 'chunk'
        ? this.#fetch(flight)
        : this.#fetchWithNeighbours(flight, flight.kind));
    } catch (error) {
      if (!isDamage(error)) throw error;
      // The bytes may have been damaged on their way here: a second answer decides.
      if (error instanceof DamagedObject) this.#damagedFetches += 1;
      return this.#fetch(flight);
    }
  }

  /** Exactly the blob, from the store. */
  async #fetch(flight: Flight): Promise<VerifiedBlob> {
    const range = exactRange(flight.reference);
    return this.#request(flight, range, (bytes) => bytes);
  }

  async #fetchWithNeighbours(flight: Flight, kind: 'map-node' | 'manifest'): Promise<VerifiedBlob> {
    const { reference } = flight;
    try {
      const near = this.#neighbourhood.find(reference);
      if (near !== undefined) return { sealed: near, plaintext: await this.#open(flight, near, reference) };
      const range = rangeAround(reference, kind);
      return await this.#request(flight, range, (bytes) => {
        this.#neighbourhood.add(range, bytes);
        return sliceOf(bytes, range, reference);
      });
    } catch (error) {
      this.#neighbourhood.forget(reference);
      throw error;
    }
  }

  async #request(
    flight: Flight,
    range: PackRange,
    cut: (bytes: Uint8Array) => Uint8Array,
  ): Promise<VerifiedBlob> {
    const blob = await this.#access.fetch(
      flight,
      () => range,
      async (bytes) => {
        const sealed = cut(bytes);
        return { sealed, plaintext: await this.#open(flight, sealed, flight.reference) };
      },
    );
    if (blob === undefined) throw new Error('a request was not made');
    return blob;
  }

  #open(flight: Flight, sealed: Uint8Array, reference: BlobReference): Promise<Uint8Array> {
    return this.#codec.open(sealed, reference, flight.kind, { priority: flight.fetchClass });
  }

  async #warmWindow(
    window: readonly BlobReference[],
    options: WarmOptions,
    note: (reference: BlobReference, fetched: boolean) => void,
  ): Promise<void> {
    const scope = new AbortScope(options.signal);
    const warmGroup = async (group: readonly BlobReference[]): Promise<void> => {
      if (scope.signal.aborted) throw new Cancelled('Warming');
      await this.#warmGroup(group, { fetchClass: options.fetchClass, signal: scope.signal }, note);
    };
    try {
      const groups = groupNeighbours(window);
      await Promise.all(groups.map((group) => this.#warmRanges.run(() => warmGroup(group))));
    } finally {
      scope.end();
    }
  }

  /** Brings what is not local of a group with one request, and whatever is under way already with its own. */
  async #warmGroup(
    group: readonly BlobReference[],
    options: FetchOptions,
    note: (reference: BlobReference, fetched: boolean) => void,
  ): Promise<void> {
    const range = new WarmRange(options.fetchClass);
    const arrivals = group.map(async (reference) => {
      const isThere = this.#localCache.has(reference, 'chunk');
      if (!isThere) {
        const flight =
          this.#joinFlight(reference, 'chunk', options.fetchClass) ?? this.#addToRange(range, reference);
        this.#requireKept(await flight.kept(options.signal));
      }
      note(reference, !isThere);
    });
    this.#track(this.#flyRange(range));
    await Promise.all(arrivals);
  }

  #addToRange(range: WarmRange, reference: BlobReference): Flight {
    const flight = this.#addFlight(reference, 'chunk', range.fetchClass);
    range.add(flight);
    flight.signal.addEventListener('abort', () => {
      if (flight.carrier !== undefined) this.#fail(flight, new Cancelled('Warming'));
    });
    return flight;
  }

  /** Fetches the members of a range. Never rejects: the flights carry the error. */
  async #flyRange(range: WarmRange): Promise<void> {
    try {
      await this.#access.fetch(
        range,
        () => range.start(),
        async (bytes, fetched) => {
          await Promise.all(range.members.map((flight) => this.#landMember(flight, bytes, fetched)));
        },
      );
    } catch (error) {
      for (const flight of range.members) {
        // The blob itself may well be there.
        if (isDamage(error)) this.#track(this.#fly(flight));
        else this.#fail(flight, error);
      }
    }
  }

  async #landMember(flight: Flight, bytes: Uint8Array, fetched: PackRange): Promise<void> {
    try {
      const sealed = sliceOf(bytes, fetched, flight.reference);
      await this.#land(flight, { sealed, plaintext: await this.#open(flight, sealed, flight.reference) });
    } catch (error) {
      if (!(error instanceof DamagedObject)) {
        this.#fail(flight, error);
        return;
      }
      this.#damagedFetches += 1;
      this.#track(this.#fly(flight));
    }
  }

  #requireKept(isKept: boolean): void {
    if (isKept) return;
    const { lastDiskError } = this.#localCache.status();
    throw new LocalCacheUnusable(this.#cachePath, lastDiskError ?? 'its limit is smaller than a chunk');
  }

  #track(work: Promise<void>): void {
    this.#underWay.add(work);
    void work.finally(() => this.#underWay.delete(work));
  }
}

function flightKey(reference: BlobReference, kind: BlobKind): string {
  return `${kind} ${reference.packId} ${reference.counter}`;
}

function isDamage(error: unknown): error is DamagedObject | ObjectTruncated {
  return error instanceof DamagedObject || error instanceof ObjectTruncated;
}
