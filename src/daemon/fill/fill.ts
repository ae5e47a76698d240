import createDebug from 'debug';
import { limits, systemClock, type Clock } from '../../base/index.js';
import { CacheRoom, TokenBucket, untilAborted, versionBlobs, type VersionBlob } from '../../fetch/index.js';
import type { BlobReference } from '../../repo/index.js';
import { ObjectChanged, StoreRefused, StoreUnreachable } from '../../store/index.js';
import { warmOrder, type WarmVersion } from '../../warm/index.js';
import { toWire, type WireError } from '../errors.js';
import { CacheContended, CacheTooSmall } from './errors.js';

const debug = createDebug('isr:daemon:fill');

export interface FillOptions {
  /** At most so much is fetched for it, map nodes aside; undefined: what others leave of the link. */
  readonly bytesPerSecond: number | undefined;
}

export interface FillParts {
  readonly vmName: string;
  /** The version that is mounted now. Asked again after a pause: a publish puts another in its place. */
  readonly version: () => FilledVersion;
  readonly cachePath: string;
  /** Of the local cache. May change. */
  readonly limitBytes: () => number;
  /** What goes first. */
  readonly replay: {
    isUnderWay(): boolean;
    /** Resolves when it is over, or the signal fires. */
    whenOver(signal: AbortSignal): Promise<void>;
  };
  readonly clock?: Clock;
}

/** As `OpenVersion`. */
export interface FilledVersion {
  readonly manifestReference: BlobReference;
  describe(options: { readonly signal?: AbortSignal }): Promise<WarmVersion>;
}

/** How far a fill is. */
export interface FillStatus {
  /**
   * `waiting`: for a replay or a publish to be over. `counting`: what there is, and whether the local cache can hold it.
   * `complete`: all was here when it was looked at last. `stopped`: for good; `problem` says why.
   */
  readonly state: 'waiting' | 'counting' | 'filling' | 'complete' | 'stopped';
  /** Chunks of the version that are not zero, and their sealed bytes; undefined before they were counted. */
  readonly chunks: number | undefined;
  readonly bytes: number | undefined;
  /** Of these, what it has brought or found here. */
  readonly doneChunks: number;
  readonly doneBytes: number;
  /** Sealed bytes that had to come from elsewhere. */
  readonly fetchedBytes: number;
  /** What went wrong last; unless the state is `stopped`, it goes on by itself. */
  readonly problem: WireError | undefined;
}

interface Counts {
  chunks: number;
  bytes: number;
}

/**
 * Brings all of the mounted version onto this host, what is likely to be wanted first, so that the VM needs the store no more.
 * In the background class, and never while a replay is under way. It waits for a store that is away or refuses; it stops where
 * the local cache cannot hold the version or its disk takes nothing more, and where something of the version is damaged or
 * missing. Nothing depends on it.
 *
 * Memory: see `CacheRoom` while it counts, and `Fetcher.warmChunks`.
 */
export class Fill implements AsyncDisposable {
  readonly #parts: FillParts;
  readonly #clock: Clock;
  #bucket: TokenBucket | undefined;
  #isWanted = false;
  /** Pauses that have not ended. */
  #pauses = 0;
  #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #state: FillStatus['state'] = 'waiting';
  #total: Counts | undefined;
  #done: Counts = { chunks: 0, bytes: 0 };
  #fetchedBytes = 0;
  #problem: WireError | undefined;

  constructor(parts: FillParts) {
    this.#parts = parts;
    this.#clock = parts.clock ?? systemClock;
  }

  /** Does nothing before. Where it was begun already, it begins anew. */
  begin({ bytesPerSecond: perSecond }: FillOptions): void {
    this.#bucket =
      perSecond === undefined
        ? undefined
        : new TokenBucket({ perSecond, size: perSecond * limits.capBurstSeconds, clock: this.#clock });
    this.#isWanted = true;
    this.#start();
  }

  /** Undefined unless it was begun. */
  status(): FillStatus | undefined {
    if (!this.#isWanted) return undefined;
    return {
      state: this.#state,
      chunks: this.#total?.chunks,
      bytes: this.#total?.bytes,
      doneChunks: this.#done.chunks,
      doneBytes: this.#done.bytes,
      fetchedBytes: this.#fetchedBytes,
      problem: this.#problem,
    };
  }

  /** Until `goOn`, nothing is fetched. Does not wait for the store: what is under way is cancelled. */
  async pause(): Promise<void> {
    this.#pauses += 1;
    this.#stop.abort();
    await this.#running;
  }

  /** Ends a pause; after the last, with the version that is mounted then. Where that was filled already, this only looks. */
  goOn(): void {
    this.#pauses -= 1;
    if (this.#isWanted) this.#start();
  }

  /** Nothing begins any more. Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.pause();
  }

  #start(): void {
    this.#stop.abort();
    if (this.#pauses > 0) return;
    this.#stop = new AbortController();
    const { signal } = this.#stop;
    this.#running = this.#running.then(() => this.#run(signal));
  }

  /** Never rejects. */
  async #run(signal: AbortSignal): Promise<void> {
    let pauseMs: number = limits.fillRetryMs.first;
    let fetchedBefore = this.#fetchedBytes;
    while ((this.#state = await this.#attempt(signal)) === 'filling') {
      if (this.#fetchedBytes > fetchedBefore) pauseMs = limits.fillRetryMs.first;
      fetchedBefore = this.#fetchedBytes;
      await this.#clock.delay(pauseMs, signal).catch(() => undefined);
      pauseMs = Math.min(2 * pauseMs, limits.fillRetryMs.most);
    }
  }

  /** How that ended; `filling`: it is to be tried again. Never rejects. */
  async #attempt(signal: AbortSignal): Promise<FillStatus['state']> {
    try {
      await this.#fill(signal);
      this.#problem = undefined;
      return 'complete';
    } catch (error) {
      if (signal.aborted) return 'waiting';
      debug('a fill of %s: %o', this.#parts.vmName, error);
      this.#problem = toWire(error);
      return mayPass(error) ? 'filling' : 'stopped';
    }
  }

  /** Resolves when all is here. */
  async #fill(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.#state = 'waiting';
    await this.#parts.replay.whenOver(signal);
    this.#state = 'counting';
    const source = this.#parts.version();
    const version = await source.describe({ signal });
    const room = await this.#count(source, version, signal);
    this.#state = 'filling';
    this.#done = { chunks: 0, bytes: 0 };
    await this.#bring(version, likeliestFirst(version, signal), room, signal, (reference) => {
      this.#done.chunks += 1;
      this.#done.bytes += reference.sealedBytes;
    });
    for (let look = 1; look <= limits.fillChecks; look += 1) {
      const chunks = chunksOf(this.#blobsOf(source, version, signal));
      if ((await this.#bring(version, chunks, room, signal)) === 0) return;
    }
    throw new CacheContended(this.#parts.vmName);
  }

  /** What there is, and that the cache can hold it. Brings what leads to the chunks. */
  async #count(source: FilledVersion, version: WarmVersion, signal: AbortSignal): Promise<CacheRoom> {
    const { cachePath, limitBytes } = this.#parts;
    const total = { chunks: 0, bytes: 0 };
    const room = new CacheRoom(cachePath);
    const keptBytes = room.keptBytes(limitBytes());
    for await (const blob of this.#blobsOf(source, version, signal)) {
      room.add(blob);
      // At once: what is counted must fit into memory.
      if (room.wantedBytes > keptBytes) throw this.#tooSmall(room);
      if (blob.kind !== 'chunk') continue;
      total.chunks += 1;
      total.bytes += blob.reference.sealedBytes;
    }
    this.#total = total;
    return room;
  }

  /** All that the version needs. Map nodes are read, and so are in the cache afterwards. */
  async *#blobsOf(
    { manifestReference: reference }: FilledVersion,
    { manifest, fetcher }: WarmVersion,
    signal: AbortSignal,
  ): AsyncGenerator<VersionBlob, void> {
    const options = { fetchClass: 'background', signal } as const;
    await fetcher.readBlob(reference, 'manifest', options);
    yield* versionBlobs({ manifest, reference }, fetcher, options);
  }

  /** Answers how many chunks were not here. */
  async #bring(
    { fetcher }: WarmVersion,
    chunks: AsyncIterable<BlobReference>,
    room: CacheRoom,
    signal: AbortSignal,
    onHere: (reference: BlobReference) => void = () => undefined,
  ): Promise<number> {
    const noRoom = new AbortController();
    try {
      const { fetchedChunks } = await fetcher.warmChunks(chunks, {
        fetchClass: 'background',
        signal: AbortSignal.any([signal, noRoom.signal]),
        turn: async (over, sealedBytes) => {
          // The limit may have become smaller.
          if (!this.#isRoomFor(room)) noRoom.abort();
          await this.#turn(over, sealedBytes);
        },
        onChunk: (reference, fetched) => {
          if (fetched) {
            this.#fetchedBytes += reference.sealedBytes;
            this.#problem = undefined;
          }
          onHere(reference);
        },
      });
      return fetchedChunks;
    } catch (error) {
      throw noRoom.signal.aborted && !signal.aborted ? this.#tooSmall(room) : error;
    }
  }

  /** After replays, and no faster than is wanted. */
  async #turn(signal: AbortSignal, sealedBytes: number): Promise<void> {
    const { replay } = this.#parts;
    const bucket = this.#bucket;
    while (!signal.aborted) {
      const waitMs = bucket?.waitMs ?? 0;
      if (replay.isUnderWay()) await replay.whenOver(signal);
      else if (waitMs > 0) await this.#clock.delay(waitMs, signal).catch(() => undefined);
      else break;
    }
    bucket?.take(sealedBytes);
  }

  #isRoomFor(room: CacheRoom): boolean {
    return room.wantedBytes <= room.keptBytes(this.#parts.limitBytes());
  }

  #tooSmall(room: CacheRoom): CacheTooSmall {
    const { wantedBytes } = room;
    const keptBytes = room.keptBytes(this.#parts.limitBytes());
    return new CacheTooSmall(this.#parts.vmName, { wantedBytes, keptBytes });
  }
}

/**
 * What somebody can mend, or comes back by itself. A full disk is neither: what is freed there is for the guest's writes, and not for
 * a fill to take again.
 */
function mayPass(error: unknown): boolean {
  return [StoreUnreachable, StoreRefused, ObjectChanged].some((kind) => error instanceof kind);
}

async function* chunksOf(blobs: AsyncIterable<VersionBlob>): AsyncGenerator<BlobReference, void> {
  for await (const { reference, kind } of blobs) if (kind === 'chunk') yield reference;
}

/** What the version before was like only helps to order: whatever is wrong with that, all of it comes. */
async function* likeliestFirst(
  version: WarmVersion,
  signal: AbortSignal,
): AsyncGenerator<BlobReference, void> {
  // The store may not answer for long, and a publish waits until the fill has paused.
  const earlier = (): ReturnType<WarmVersion['earlier']> =>
    untilAborted(version.earlier(), signal, 'Filling').catch(() => undefined);
  const options = { fetchClass: 'background', signal } as const;
  for await (const { reference } of warmOrder({ ...version, earlier }, { kind: 'all' }, options))
    yield reference;
}
