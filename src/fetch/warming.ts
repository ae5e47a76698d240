import { Cancelled, limits } from '../base/index.js';
import type { BlobReference } from '../repo/index.js';
import { AbortScope } from './abort-scope.js';
import type { Flights } from './flights.js';
import type { LocalCache } from './local-cache.js';
import { groupNeighbours } from './pack-range.js';
import type { StoreAccess } from './store-access.js';
import { Turnstile } from './turnstile.js';
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

  async #warmWindow(window: readonly BlobReference[], options: WarmOptions, note: Note): Promise<void> {
    const scope = new AbortScope(options.signal);
    const warmGroup = async (group: readonly BlobReference[]): Promise<void> => {
      if (scope.signal.aborted) throw new Cancelled('Warming');
      await this.#warmGroup(group, { fetchClass: options.fetchClass, signal: scope.signal }, note);
    };
    try {
      const groups = groupNeighbours(window, {
        gapBytes: limits.warmGapBytes,
        rangeBytes: this.#access.link.rangeBytes,
      });
      await Promise.all(groups.map((group) => this.#ranges.run(() => warmGroup(group))));
    } finally {
      scope.end();
    }
  }

  /** Brings what is not local of a group with one request, and whatever is under way already with its own. */
  async #warmGroup(group: readonly BlobReference[], options: FetchOptions, note: Note): Promise<void> {
    const absent: BlobReference[] = [];
    for (const reference of group) {
      if (this.#localCache.has(reference, 'chunk')) note(reference, false);
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
