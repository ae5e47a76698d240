import { Cancelled, limits } from '../base/index.js';
import type { BlobReference } from '../repo/index.js';
import { AbortScope } from './abort-scope.js';
import type { Flights } from './flights.js';
import type { StoreAccess } from './store-access.js';
import { Turnstile } from './turnstile.js';
import { UpcomingBlobs } from './upcoming-blobs.js';
import type { FetchClass, FetchOptions, WarmOptions, WarmResult } from './types.js';

export interface WarmingOptions {
  readonly flights: Flights;
  readonly access: StoreAccess;
  /** Throws when the local cache did not take a chunk. */
  readonly requireKept: (isKept: boolean) => void;
}

type Note = (reference: BlobReference, fetched: boolean) => void;

/** Makes many chunks local, neighbours with one request. */
export class Warming {
  readonly #flights: Flights;
  readonly #access: StoreAccess;
  readonly #requireKept: (isKept: boolean) => void;
  /** What is less urgent must not keep what is more so from asking. */
  readonly #ranges: Readonly<Record<FetchClass, Turnstile>> = {
    demand: new Turnstile(limits.warmRangesInFlight),
    around: new Turnstile(limits.warmRangesInFlight),
    replay: new Turnstile(limits.warmRangesInFlight),
    background: new Turnstile(limits.warmRangesInFlight),
  };
  /** Lanes of replays; and those that are held back. */
  #replays = 0;
  #held = 0;

  constructor(options: WarmingOptions) {
    this.#flights = options.flights;
    this.#access = options.access;
    this.#requireKept = options.requireKept;
  }

  /** Whether a replay brings what it foresees, and is not held back. */
  get isReplaying(): boolean {
    return this.#replays > this.#held;
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
    const isReplay = options.fetchClass === 'replay';
    const lane = async (): Promise<void> => {
      for (let group = await upcoming.next(); group !== undefined; group = await upcoming.next()) {
        const blobs = group;
        await this.#turn(options, blobs, scope.signal);
        await this.#ranges[options.fetchClass].run(async () => {
          if (scope.signal.aborted) throw new Cancelled('Warming');
          await this.#warmGroup(blobs, { fetchClass: options.fetchClass, signal: scope.signal }, note);
        }, scope.signal);
      }
    };
    const countedLane = async (): Promise<void> => {
      if (isReplay) this.#replays += 1;
      try {
        await lane();
      } finally {
        if (isReplay) this.#replays -= 1;
      }
    };
    const lanes = Array.from({ length: limits.warmRangesInFlight }, countedLane);
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
      async (blobs) => {
        const areHere = await this.#flights.held(blobs, options.fetchClass);
        if (options.signal?.aborted === true) throw new Cancelled('Warming');
        return blobs.filter((blob, position) => {
          const isHere = areHere[position] === true;
          if (isHere) note(blob, false);
          return !isHere;
        });
      },
    );
  }

  async #turn(
    { turn, fetchClass }: WarmOptions,
    group: readonly BlobReference[],
    signal: AbortSignal,
  ): Promise<void> {
    if (turn === undefined) return;
    const isReplay = fetchClass === 'replay';
    if (isReplay) this.#held += 1;
    try {
      await turn(
        signal,
        group.reduce((sum, { sealedBytes }) => sum + sealedBytes, 0),
      );
    } finally {
      if (isReplay) this.#held -= 1;
    }
  }

  /** Brings what is not local of a group with one request, and whatever is under way already with its own. */
  async #warmGroup(group: readonly BlobReference[], options: FetchOptions, note: Note): Promise<void> {
    // Others may have brought some while the group waited for its turn.
    const absent = group.filter((reference) => {
      const isHere = this.#flights.isHeld(reference);
      if (isHere) note(reference, false);
      return !isHere;
    });
    const flights = this.#flights.boardTogether(absent, options.fetchClass);
    await Promise.all(
      absent.map(async (reference, position) => {
        this.#requireKept((await flights[position]?.kept(options.signal)) ?? false);
        note(reference, true);
      }),
    );
  }
}

/** Blobs that are looked for in the local cache at once: few at first, when somebody waits for just these. */
const blobsPerLook = { first: 4, most: 64 };

/** What of a stream of blobs goes with the next request. */
class Groups {
  readonly #blobs: Iterator<BlobReference> | AsyncIterator<BlobReference>;
  readonly #rangeBytes: () => number;
  readonly #absentOf: (blobs: readonly BlobReference[]) => Promise<readonly BlobReference[]>;
  readonly #upcoming = new UpcomingBlobs();
  #isAtEnd = false;
  #blobsPerLook = blobsPerLook.first;
  /** Callers take turns: the stream has one reader. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(
    blobs: Iterable<BlobReference> | AsyncIterable<BlobReference>,
    rangeBytes: () => number,
    absentOf: (blobs: readonly BlobReference[]) => Promise<readonly BlobReference[]>,
  ) {
    this.#blobs = Symbol.asyncIterator in blobs ? blobs[Symbol.asyncIterator]() : blobs[Symbol.iterator]();
    this.#rangeBytes = rangeBytes;
    this.#absentOf = absentOf;
  }

  next(): Promise<readonly BlobReference[] | undefined> {
    const group = this.#last.then(async () => {
      while (!this.#isAtEnd && this.#upcoming.wantsMore(this.#rangeBytes())) {
        for (const blob of await this.#absentOf(await this.#some())) this.#upcoming.add(blob);
      }
      return this.#upcoming.take(this.#rangeBytes());
    });
    this.#last = group.catch(() => undefined);
    return group;
  }

  /** The next blobs of the stream. */
  async #some(): Promise<readonly BlobReference[]> {
    const blobs: BlobReference[] = [];
    while (blobs.length < this.#blobsPerLook) {
      const next = await this.#blobs.next();
      this.#isAtEnd = next.done === true;
      if (next.done === true) break;
      blobs.push(next.value);
    }
    this.#blobsPerLook = Math.min(2 * this.#blobsPerLook, blobsPerLook.most);
    return blobs;
  }

  /** Ends the stream, when nobody waits for it any more. */
  async close(): Promise<void> {
    await this.#last;
    if (!this.#isAtEnd) await this.#blobs.return?.();
  }
}
