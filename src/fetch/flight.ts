import type { BlobKind, BlobReference } from '../repo/index.js';
import { untilAborted } from './until-aborted.js';
import type { FetchClass } from './types.js';
import type { RangeFetch } from './range-fetch.js';

const urgency: Readonly<Record<FetchClass, number>> = { demand: 2, replay: 1, background: 0 };

export function isMoreUrgent(one: FetchClass, other: FetchClass): boolean {
  return urgency[one] > urgency[other];
}

/**
 * One fetch of one blob, however many wait for it. It is cancelled when the last of them gives up before the
 * plaintext is there; its class is that of the most urgent who ever waited.
 */
export class Flight {
  readonly reference: BlobReference;
  readonly kind: BlobKind;
  fetchClass: FetchClass;
  /** The request that brings this blob, perhaps with neighbours; undefined before there is one. */
  carrier: RangeFetch | undefined;
  /** Answers that did not verify or ended early. */
  damagedAnswers = 0;
  /** Lookaside places whose copy did not verify. */
  readonly badTiers = new Set<object>();

  readonly #plaintext = new Outcome<Uint8Array>();
  readonly #kept = new Outcome<boolean>();
  readonly #giveUp = new AbortController();
  #waiters = 0;

  constructor(reference: BlobReference, kind: BlobKind, fetchClass: FetchClass) {
    this.reference = reference;
    this.kind = kind;
    this.fetchClass = fetchClass;
  }

  /** Fires when nobody waits any more and there is no plaintext yet. */
  get signal(): AbortSignal {
    return this.#giveUp.signal;
  }

  /** Resolves to the verified plaintext; `Cancelled` as soon as the waiter's own signal fires. */
  plaintext(signal: AbortSignal | undefined): Promise<Uint8Array> {
    return this.#wait(this.#plaintext, signal);
  }

  /** Resolves when the blob is verified and in the local cache; to false when the cache did not take it. */
  kept(signal: AbortSignal | undefined): Promise<boolean> {
    return this.#wait(this.#kept, signal);
  }

  deliver(plaintext: Uint8Array): void {
    this.#plaintext.resolve(plaintext);
  }

  noteKept(isKept: boolean): void {
    this.#kept.resolve(isKept);
  }

  fail(error: unknown): void {
    this.#plaintext.reject(error);
    this.#kept.reject(error);
  }

  cancel(): void {
    if (!this.#plaintext.isSettled) this.#giveUp.abort();
  }

  async #wait<T>(outcome: Outcome<T>, signal: AbortSignal | undefined): Promise<T> {
    this.#waiters += 1;
    try {
      return await untilAborted(outcome.promise, signal, 'Reading');
    } finally {
      this.#waiters -= 1;
      if (this.#waiters === 0) this.cancel();
    }
  }
}

/** A promise that is settled from outside, and that nobody need wait for. */
class Outcome<T> {
  readonly promise: Promise<T>;
  isSettled = false;
  #resolve: (value: T) => void = () => undefined;
  #reject: (error: unknown) => void = () => undefined;

  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.promise.catch(() => undefined);
  }

  resolve(value: T): void {
    this.isSettled = true;
    this.#resolve(value);
  }

  reject(error: unknown): void {
    this.isSettled = true;
    this.#reject(error);
  }
}
