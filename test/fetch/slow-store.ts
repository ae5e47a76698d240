import type { ByteRange, ObjectKey, RequestOptions } from '../../src/store/index.js';
import { Cancelled } from '../../src/base/index.js';
import { MemoryStore } from '../support/memory-store.js';
import type { VirtualClock } from '../store/virtual-clock.js';

/** What becomes of one answer. */
export interface AnswerPlan {
  /** Until its first byte. */
  readonly latencyMs: number;
  /** The body stands still after so many bytes, until the request is cancelled. */
  readonly stallsAfterBytes?: number;
  readonly error?: Error;
}

/** A store whose answers come in pieces when and as a test plans them, on a clock that the test holds. */
export class SlowStore extends MemoryStore {
  readonly ranges: ByteRange[] = [];
  cancelled = 0;
  plan: (request: number, range: ByteRange) => AnswerPlan = () => ({ latencyMs: 10 });
  readonly #clock: VirtualClock;
  readonly #pieceBytes: number;

  constructor(clock: VirtualClock, pieceBytes: number) {
    super();
    this.#clock = clock;
    this.#pieceBytes = pieceBytes;
  }

  override async *read(
    key: ObjectKey,
    range: ByteRange,
    options: RequestOptions = {},
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const { latencyMs, stallsAfterBytes, error } = this.plan(this.ranges.length, range);
    this.ranges.push(range);
    const signal = options.signal ?? new AbortController().signal;
    try {
      await this.#clock.delay(latencyMs, signal);
      if (error !== undefined) throw error;
      const bytes = await this.get(key, range);
      for (let at = 0; at < bytes.length; at += this.#pieceBytes) {
        if (stallsAfterBytes !== undefined && at >= stallsAfterBytes) await this.#standStill(signal);
        yield bytes.slice(at, at + this.#pieceBytes);
        await this.#clock.delay(1, signal);
      }
    } catch (cause) {
      if (!signal.aborted) throw cause;
      this.cancelled += 1;
      throw new Cancelled('The request');
    }
  }

  #standStill(signal: AbortSignal): Promise<never> {
    return new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(new Cancelled('The request')));
    });
  }
}
