import { Cancelled, limits } from '../base/index.js';
import type { BlobReference } from '../repo/index.js';
import { AbortScope } from './abort-scope.js';
import type { Flights } from './flights.js';
import type { LocalCache } from './local-cache.js';
import type { StoreAccess } from './store-access.js';
import { Turnstile } from './turnstile.js';
import { UpcomingBlobs } from './upcoming-blobs.js';
import type { FetchOptions, WarmOptions, WarmResult } from './types.js';

export interface WarmingOptions {
  readonly flights: Flights;
  readonly access: StoreAccess;
  readonly localCache: LocalCache;
  /** Throws when the local cache did not take a chunk. */
  readonly requireKept: (isKept: boolean) => void;
}

type Note = (reference: BlobReference, fetched: boolean) => void;

/** Makes many chunks local, neighbours with one request. */
export class Warming {
  readonly #flights: Flights;
  readonly #access: StoreAccess;
  readonly #localCache: LocalCache;
  readonly #requireKept: (isKept: boolean) => void;
  readonly #ranges = new Turnstile(limits.warmRangesInFlight);

  constructor(options: WarmingOptions) {
    this.#flights = options.flights;
    this.#access = options.access;
    this.#localCache = options.localCache;
    this.#requireKept = options.requireKept;
  }

  async warm(
    references: Iterable<BlobReference> | AsyncIterable<BlobReference>,
    options: WarmOptions,
  ): Promise<WarmResult> {
    const result = { chunks: 0, fetchedChunks: 0, fetchedBytes: 0 };
    const note: Note = (reference, fetched) => {
      result.chunks += 1;
      if (fetched) result.fetchedChunks += 1;
      if (fetched) result.fetchedBytes += reference.sealedBytes;
      options.onChunk?.(reference, fetched);
    };
    const scope = new AbortScope(options.signal);
    const upcoming = this.#upcoming(references, { ...options, signal: scope.signal }, note);
    const lane = async (): Promise<void> => {
      for (let group = await upcoming.next(); group !== undefined; group = await upcoming.next()) {
        const blobs = group;
        await this.#ranges.run(async () => {
          if (scope.signal.aborted) throw new Cancelled('Warming');
          await this.#warmGroup(blobs, { fetchClass: options.fetchClass, signal: scope.signal }, note);
        });
      }
    };
    const lanes = Array.from({ length: limits.warmRangesInFlight }, lane);
    try {
      await Promise.all(lanes);
      return result;
    } finally {
      scope.end();
      await Promise.allSettled(lanes);
      await upcoming.close();
    }
  }

  /** The groups that are not local, each decided on when there is room for it. */
  #upcoming(
    references: Iterable<BlobReference> | AsyncIterable<BlobReference>,
    options: WarmOptions,
    note: Note,
  ): Groups {
    const { link } = this.#access;
    return new Groups(
      references,
      () => (options.fetchClass === 'background' ? link.rangeBytes : link.replayRangeBytes),
      async (reference) => {
        const isLocal = await this.#localCache.holds(reference, 'chunk');
        if (isLocal) note(reference, false);
        return !isLocal;
      },
      options.signal,
    );
  }

  /** Brings what is not local of a group with one request, and whatever is under way already with its own. */
  async #warmGroup(group: readonly BlobReference[], options: FetchOptions, note: Note): Promise<void> {
    const absent: BlobReference[] = [];
    const isHere = await Promise.all(group.map((reference) => this.#localCache.holds(reference, 'chunk')));
    for (const [position, reference] of group.entries()) {
      if (isHere[position] === true) note(reference, false);
      else absent.push(reference);
    }
    const flights = this.#flights.boardTogether(absent, options.fetchClass);
    await Promise.all(
      absent.map(async (reference, position) => {
        this.#requireKept((await flights[position]?.kept(options.signal)) ?? false);
        note(reference, true);
      }),
    );
  }
}

/** Blobs that are looked for in the local cache at once. */
const blobsPerLook = 16;

/** What of a stream of blobs goes with the next request. */
class Groups {
  readonly #blobs: Iterator<BlobReference> | AsyncIterator<BlobReference>;
  readonly #rangeBytes: () => number;
  readonly #isWanted: (reference: BlobReference) => Promise<boolean>;
  readonly #signal: AbortSignal | undefined;
  readonly #upcoming = new UpcomingBlobs();
  #isAtEnd = false;
  /** Callers take turns: the stream has one reader. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(
    blobs: Iterable<BlobReference> | AsyncIterable<BlobReference>,
    rangeBytes: () => number,
    isWanted: (reference: BlobReference) => Promise<boolean>,
    signal: AbortSignal | undefined,
  ) {
    this.#blobs = Symbol.asyncIterator in blobs ? blobs[Symbol.asyncIterator]() : blobs[Symbol.iterator]();
    this.#rangeBytes = rangeBytes;
    this.#isWanted = isWanted;
    this.#signal = signal;
  }

  next(): Promise<readonly BlobReference[] | undefined> {
    const group = this.#last.then(async () => {
      while (!this.#isAtEnd && this.#upcoming.wantsMore(this.#rangeBytes())) {
        const blobs = await this.#look();
        if (this.#signal?.aborted === true) throw new Cancelled('Warming');
        for (const { blob, isWanted } of await Promise.all(blobs)) if (isWanted) this.#upcoming.add(blob);
      }
      return this.#upcoming.take(this.#rangeBytes());
    });
    this.#last = group.catch(() => undefined);
    return group;
  }

  /** The next blobs of the stream, each being looked for; `isWanted` must not fail. */
  async #look(): Promise<Promise<{ readonly blob: BlobReference; readonly isWanted: boolean }>[]> {
    const looks: Promise<{ readonly blob: BlobReference; readonly isWanted: boolean }>[] = [];
    while (looks.length < blobsPerLook) {
      const next = await this.#blobs.next();
      this.#isAtEnd = next.done === true;
      if (next.done === true) break;
      const blob = next.value;
      looks.push(this.#isWanted(blob).then((isWanted) => ({ blob, isWanted })));
    }
    return looks;
  }

  /** Ends the stream, when nobody waits for it any more. */
  async close(): Promise<void> {
    await this.#last;
    if (!this.#isAtEnd) await this.#blobs.return?.();
  }
}
