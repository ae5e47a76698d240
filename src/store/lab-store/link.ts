import type { Clock } from '../../base/index.js';

/** A turn is what the link carries in so long, within bounds: on a slow link bytes come in small pieces, as they do on a real one. */
const turnMs = 10;
const turnBytesMin = 4 * 1024;
const turnBytesMax = 64 * 1024;

/**
 * One direction of an imitated network link. The transfers under way share its bandwidth, turn by turn.
 *
 * A turn is booked when the one before it ends by the book, not when a late timer fires: so a link delivers its full
 * bandwidth whatever the timers do.
 */
export class Link {
  readonly #clock: Clock;
  /** Transfers take turns after so many bytes, so that a small one is not stuck behind a large one. */
  readonly turnBytes: number;
  readonly #bytesPerMs: number;
  /** When the last turn that was booked ends. */
  #freeAtMs = 0;

  /** @param megabitsPerSecond `Infinity` for a link that costs nothing. */
  constructor(clock: Clock, megabitsPerSecond: number) {
    this.#clock = clock;
    this.#bytesPerMs = (megabitsPerSecond * 1e6) / 8 / 1000;
    const bytes = Math.floor(this.#bytesPerMs * turnMs);
    this.turnBytes = Math.min(turnBytesMax, Math.max(turnBytesMin, bytes));
  }

  /** Resolves when the last byte has arrived. */
  async transfer(lengthBytes: number, signal: AbortSignal): Promise<void> {
    let readyAtMs = this.#clock.now();
    for (let leftBytes = lengthBytes; leftBytes > 0; leftBytes -= this.turnBytes) {
      const startMs = Math.max(this.#freeAtMs, readyAtMs);
      readyAtMs = startMs + Math.min(leftBytes, this.turnBytes) / this.#bytesPerMs;
      this.#freeAtMs = readyAtMs;
      const waitMs = readyAtMs - this.#clock.now();
      if (waitMs > 0) await this.#clock.delay(waitMs, signal);
    }
  }
}
