import { limits, type Clock } from '../base/index.js';
import { untilAborted } from './until-aborted.js';

export interface Outage {
  readonly since: Date;
  readonly reason: string;
}

/** Asks the store for something small. Says what is wrong while it still does not answer, else undefined. */
export type Probe = (signal: AbortSignal) => Promise<Error | undefined>;

/**
 * Holds store requests back while the store does not answer: a single failure is not that. However many wait, one probe at a time asks, with
 * exponential backoff and jitter; there is no limit of attempts. The backoff only starts again after a request
 * has succeeded, so that a store which answers probes and fails requests is not hammered.
 */
export class StoreGate implements AsyncDisposable {
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #closing = new AbortController();
  #outage: Outage | undefined;
  /** Settles when the last outage is over. */
  #ended: Promise<void> = Promise.resolve();
  #failures = 0;
  /** Requests that failed since one succeeded. */
  #failuresInARow = 0;

  constructor(options: { readonly clock: Clock; readonly random: () => number }) {
    this.#clock = options.clock;
    this.#random = options.random;
  }

  /** Set while the store does not answer. */
  get outage(): Outage | undefined {
    return this.#outage;
  }

  /** Resolves when the store is believed to answer; at once if it is. `Cancelled` when the signal fires. */
  async whenOpen(signal: AbortSignal): Promise<void> {
    while (this.#outage !== undefined) await untilAborted(this.#ended, signal, 'Waiting for the store');
  }

  /** A request failed, as one may now and then; when several do in a row, the store is away. */
  failed(error: Error, probe: Probe): void {
    this.#failuresInARow += 1;
    if (this.#failuresInARow >= limits.storeFailuresBeforeOutage) this.shut(error, probe);
  }

  /** The store does not answer. */
  shut(error: Error, probe: Probe): void {
    if (this.#outage !== undefined || this.#closing.signal.aborted) return;
    this.#outage = { since: new Date(this.#clock.wallMs()), reason: error.message };
    this.#ended = this.#probeUntilBack(probe, this.#outage.since);
  }

  /** A request succeeded. */
  succeeded(): void {
    this.#failures = 0;
    this.#failuresInARow = 0;
  }

  /** Ends probing. Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#ended;
  }

  async #probeUntilBack(probe: Probe, since: Date): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      try {
        await this.#clock.delay(this.#nextDelayMs(), signal);
        const error = await probe(signal);
        if (error === undefined) break;
        this.#outage = { since, reason: error.message };
      } catch {
        // Only closing gets here: it cancels the delay and the probe.
      }
    }
    this.#outage = undefined;
  }

  #nextDelayMs(): number {
    const fullMs = Math.min(limits.storeRetryMsMax, limits.storeRetryMs * 2 ** this.#failures);
    this.#failures = Math.min(this.#failures + 1, 16);
    return fullMs * (0.5 + this.#random() / 2);
  }
}
