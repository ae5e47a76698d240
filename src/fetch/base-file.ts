import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import { Cancelled, limits } from '../base/index.js';
import {
  DamagedObject,
  packKey,
  type BlobReference,
  type ChunkMap,
  type FileMap,
  type MapEntry,
  type PlacedChunk,
} from '../repo/index.js';
import type { ChunkPlace } from '../resident/index.js';
import { AbortScope } from './abort-scope.js';
import type { DemandWait } from './stall-record.js';
import type { Surroundings } from './surroundings.js';
import { Turnstile } from './turnstile.js';
import type {
  BaseFile,
  BlobFetchOptions,
  FetchClass,
  Fetcher,
  FetchOptions,
  SoughtBytes,
  WarmOptions,
  WarmResult,
} from './types.js';
import type { WaitClock } from './wait-clock.js';

/** The part of a read that lies in one chunk. */
interface Piece {
  readonly chunkIndex: number;
  readonly startInChunk: number;
  readonly endInChunk: number;
  readonly startInRead: number;
}

interface HowToFetch {
  readonly fetchClass: FetchClass;
  readonly clock?: WaitClock | undefined;
}

const soughtChunks = { data: 'data', hole: 'zero' } as const;

/** Chunks that are looked up in the local cache before other work gets its turn: a millisecond or two on a cold disk. */
const residencyStep = 8;

/** One file of a version, over its chunk map and the fetcher's tiers. */
export class VersionFile implements BaseFile {
  readonly map: FileMap;
  readonly #fetcher: Fetcher;
  readonly #chunksFor: (how: HowToFetch) => ChunkMap;
  readonly #chunks: ChunkMap;
  readonly #surroundings: Surroundings | undefined;

  /** `chunksFor` gives the file's map, loading its nodes so. `surroundings` is told of demands that are not local. */
  constructor(
    map: FileMap,
    fetcher: Fetcher,
    chunksFor: (how: HowToFetch) => ChunkMap,
    surroundings: Surroundings | undefined,
  ) {
    this.map = map;
    this.#fetcher = fetcher;
    this.#surroundings = surroundings;
    this.#chunksFor = chunksFor;
    this.#chunks = chunksFor({ fetchClass: 'demand' });
  }

  readSync(offsetBytes: number, into: Uint8Array): boolean {
    for (const piece of this.#pieces(offsetBytes, into.length)) {
      const entry = this.#chunks.peekEntry(piece.chunkIndex);
      if (entry === undefined) return false;
      const chunk = entry === 'zero' ? entry : this.#fetcher.peekChunk(entry);
      if (chunk === undefined) return false;
      this.#copy(entry, chunk, piece, into);
    }
    return true;
  }

  resident(chunkIndex: number): 'zero' | ChunkPlace | undefined {
    const entry = this.#chunks.peekEntry(chunkIndex);
    if (entry === undefined || entry === 'zero') return entry;
    return this.#fetcher.placeOf(entry);
  }

  isLocal(offsetBytes: number, lengthBytes: number, openBytesMax = Infinity): boolean {
    const chunksToOpenMax = Math.max(2, openBytesMax / this.map.chunkBytes);
    let chunksToOpen = 0;
    for (const { chunkIndex } of this.#pieces(offsetBytes, lengthBytes)) {
      const entry = this.#chunks.peekEntry(chunkIndex);
      if (entry === undefined) return false;
      if (entry === 'zero' || this.#fetcher.placeOf(entry) !== undefined) continue;
      chunksToOpen += 1;
      if (chunksToOpen > chunksToOpenMax || !this.#fetcher.isLocal(entry)) return false;
    }
    return true;
  }

  async chunk(chunkIndex: number, options: FetchOptions): Promise<MapEntry | undefined> {
    if (chunkIndex >= this.#chunks.chunkCount) return undefined;
    const { fetchClass, signal } = options;
    return this.#chunksFor({ fetchClass }).entry(chunkIndex, signal === undefined ? {} : { signal });
  }

  async read(offsetBytes: number, into: Uint8Array, options: FetchOptions): Promise<void> {
    const pieces = [...this.#pieces(offsetBytes, into.length)];
    const [first] = pieces;
    if (first !== undefined && pieces.length === 1) return this.#readPiece(first, into, options);
    // Once a piece has failed, the others stop: `into` is the caller's again, and must not be written any more.
    const scope = new AbortScope(options.signal);
    try {
      const turns = new Turnstile(limits.chunksPerRead);
      const scoped = { ...options, signal: scope.signal };
      await Promise.all(pieces.map((piece) => turns.run(() => this.#readPiece(piece, into, scoped))));
    } finally {
      scope.end();
    }
  }

  findSync(sought: SoughtBytes, startBytes: number, endBytes: number): number | undefined {
    const { first, end } = this.#chunkRange(startBytes, endBytes);
    const found = this.#chunks.peekNext(soughtChunks[sought], first, end);
    return found === undefined ? undefined : this.#place(sought, found, startBytes, endBytes);
  }

  async find(
    sought: SoughtBytes,
    startBytes: number,
    endBytes: number,
    options: FetchOptions,
  ): Promise<number> {
    const { first, end } = this.#chunkRange(startBytes, endBytes);
    const { fetchClass, signal, wait } = options;
    const loading = signal === undefined ? {} : { signal };
    const clock = wait?.chunk(first);
    const chunks = this.#chunksFor({ fetchClass, clock });
    const found = await chunks.next(soughtChunks[sought], first, end, loading);
    if (clock !== undefined) wait?.settled(first, clock);
    return this.#place(sought, found, startBytes, endBytes);
  }

  async residency(options: FetchOptions): Promise<{ readonly chunks: number; readonly localChunks: number }> {
    let chunks = 0;
    let localChunks = 0;
    for await (const reference of this.#references(0, this.#chunks.chunkCount, options)) {
      chunks += 1;
      if (this.#fetcher.isLocal(reference)) localChunks += 1;
      if (chunks % residencyStep === 0) await eventLoopTurn();
      if (options.signal?.aborted === true) throw new Cancelled('Counting local chunks');
    }
    return { chunks, localChunks };
  }

  async warm(offsetBytes: number, lengthBytes: number, options: WarmOptions): Promise<WarmResult> {
    const { first, end } = this.#chunkRange(offsetBytes, offsetBytes + lengthBytes);
    return this.#fetcher.warmChunks(this.#references(first, end - first, options), options);
  }

  placedChunks(
    offsetBytes: number,
    lengthBytes: number,
    { fetchClass, signal }: FetchOptions,
  ): AsyncGenerator<PlacedChunk, void> {
    const { first, end } = this.#chunkRange(offsetBytes, offsetBytes + lengthBytes);
    return this.#chunksFor({ fetchClass }).entries(
      first,
      end - first,
      signal === undefined ? {} : { signal },
    );
  }

  changedSince(earlier: FileMap, { fetchClass, signal }: FetchOptions): AsyncGenerator<PlacedChunk, void> {
    return this.#chunksFor({ fetchClass }).changedSince(earlier, signal === undefined ? {} : { signal });
  }

  #chunkRange(startBytes: number, endBytes: number): { readonly first: number; readonly end: number } {
    const { chunkBytes } = this.map;
    return { first: Math.floor(startBytes / chunkBytes), end: Math.ceil(endBytes / chunkBytes) };
  }

  /** Where a chunk that was found begins within a range; a hole also begins where the file ends. */
  #place(sought: SoughtBytes, chunkIndex: number, startBytes: number, endBytes: number): number {
    const { chunkBytes, sizeBytes } = this.map;
    const chunkAt = chunkIndex * chunkBytes;
    const foundBytes = sought === 'hole' ? Math.min(chunkAt, sizeBytes) : chunkAt;
    return Math.min(Math.max(foundBytes, startBytes), endBytes);
  }

  async *#references(
    first: number,
    count: number,
    options: FetchOptions,
  ): AsyncGenerator<BlobReference, void> {
    const { fetchClass, signal } = options;
    const entries = this.#chunksFor({ fetchClass }).entries(
      first,
      count,
      signal === undefined ? {} : { signal },
    );
    for await (const { reference } of entries) yield reference;
  }

  async #readPiece(
    piece: Piece,
    into: Uint8Array,
    { fetchClass, signal, wait }: FetchOptions,
  ): Promise<void> {
    const { chunkIndex } = piece;
    const clock = wait?.chunk(chunkIndex);
    const options = { fetchClass, clock, ...(signal === undefined ? {} : { signal }) };
    const entry = await this.#chunksFor(options).entry(chunkIndex, options);
    const chunk =
      entry === 'zero'
        ? entry
        : (this.#fetcher.peekChunk(entry) ?? (await this.#readChunk(entry, chunkIndex, options, wait)));
    if (clock !== undefined) wait?.settled(chunkIndex, clock);
    if (signal?.aborted === true) throw new Cancelled('Reading');
    this.#copy(entry, chunk, piece, into);
  }

  #readChunk(
    reference: BlobReference,
    chunkIndex: number,
    options: BlobFetchOptions,
    wait: DemandWait | undefined,
  ): Promise<Uint8Array> {
    const isMiss = options.fetchClass === 'demand' && !this.#fetcher.isLocal(reference);
    const chunk = this.#fetcher.readChunk(reference, options);
    // A replay knows better what comes next.
    if (isMiss && wait?.isForeseen(chunkIndex) !== true)
      void this.#surroundings?.missed(this, chunkIndex, chunk);
    return chunk;
  }

  /** Fills the piece of `into`: from the chunk up to the end of the file, with zeros after it. */
  #copy(entry: BlobReference | 'zero', chunk: Uint8Array | 'zero', piece: Piece, into: Uint8Array): void {
    const { chunkBytes, sizeBytes } = this.map;
    const endInRead = piece.startInRead + piece.endInChunk - piece.startInChunk;
    if (chunk === 'zero' || entry === 'zero') {
      into.fill(0, piece.startInRead, endInRead);
      return;
    }
    if (chunk.length !== chunkBytes) {
      throw new DamagedObject(
        packKey(entry.packId),
        `a chunk of it has ${chunk.length} bytes instead of ${chunkBytes}`,
      );
    }
    const endOfData = Math.min(
      piece.endInChunk,
      Math.max(piece.startInChunk, sizeBytes - piece.chunkIndex * chunkBytes),
    );
    into.set(chunk.subarray(piece.startInChunk, endOfData), piece.startInRead);
    into.fill(0, piece.startInRead + endOfData - piece.startInChunk, endInRead);
  }

  *#pieces(offsetBytes: number, lengthBytes: number): Generator<Piece, void> {
    const { chunkBytes } = this.map;
    const endBytes = offsetBytes + lengthBytes;
    for (let at = offsetBytes; at < endBytes;) {
      const chunkIndex = Math.floor(at / chunkBytes);
      const startInChunk = at - chunkIndex * chunkBytes;
      const endInChunk = Math.min(chunkBytes, endBytes - chunkIndex * chunkBytes);
      yield { chunkIndex, startInChunk, endInChunk, startInRead: at - offsetBytes };
      at += endInChunk - startInChunk;
    }
  }
}
