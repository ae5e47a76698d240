import type { FetchClass, FetchClassStatus, FetchTrouble } from './types.js';

/** What requests to the store came to. */
export class FetchCounts {
  readonly trouble: { -readonly [Kind in keyof FetchTrouble]: number } = {
    retries: 0,
    timeouts: 0,
    hedges: 0,
    hedgesWon: 0,
    damaged: 0,
    truncated: 0,
    changed: 0,
    unreachable: 0,
    refused: 0,
  };
  /** By requests of all classes. */
  receivedBytes = 0;
  readonly #classes: Record<FetchClass, { requests: number; bytes: number; waitMs: number }> = {
    demand: { requests: 0, bytes: 0, waitMs: 0 },
    around: { requests: 0, bytes: 0, waitMs: 0 },
    replay: { requests: 0, bytes: 0, waitMs: 0 },
    background: { requests: 0, bytes: 0, waitMs: 0 },
  };

  requested(fetchClass: FetchClass): void {
    this.#classes[fetchClass].requests += 1;
  }

  received(fetchClass: FetchClass, lengthBytes: number): void {
    this.receivedBytes += lengthBytes;
    this.#classes[fetchClass].bytes += lengthBytes;
  }

  waited(fetchClass: FetchClass, ms: number): void {
    this.#classes[fetchClass].waitMs += ms;
  }

  byClass(): Readonly<Record<FetchClass, FetchClassStatus>> {
    const { demand, around, replay, background } = this.#classes;
    return {
      demand: { ...demand },
      around: { ...around },
      replay: { ...replay },
      background: { ...background },
    };
  }
}
