import type { BlobKind, BlobReference } from '../repo/index.js';
import type { AbortScope } from './abort-scope.js';
import { untilAborted } from './until-aborted.js';
import type { FetchClass } from './types.js';
import type { RangeFetch } from './range-fetch.js';
import type { WaitClock, WaitPart } from './wait-clock.js';

const urgency: Readonly<Record<FetchClass, number>> = { demand: 3, around: 2, replay: 1, background: 0 };

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
  /** While the chunk is being made out of an earlier one: ends that. */
  making: AbortScope | undefined;
  /** Answers that did not verify or ended early. */
  damagedAnswers = 0;
  /** Lookaside places whose copy did not verify. */
  readonly badTiers = new Set<object>();

  readonly #plaintext = new Outcome<Uint8Array>();
  readonly #kept = new Outcome<boolean>();
  readonly #giveUp = new AbortController();
  #waiters = 0;
  #plaintextWaiters = 0;
  /** What it waits for itself, and those who want to know. */
  #part: WaitPart = 'daemon';
  readonly #clocks = new Set<WaitClock>();

  constructor(reference: BlobReference, kind: BlobKind, fetchClass: FetchClass) {
    this.reference = reference;
    this.kind = kind;
    this.fetchClass = fetchClass;
  }

  /** Whether anybody waits for the plaintext, and not just for the blob to be on this host. */
  get isPlaintextWanted(): boolean {
    return this.#plaintextWaiters > 0;
  }

  /** Fires when nobody waits any more and there is no plaintext yet. */
  get signal(): AbortSignal {
    return this.#giveUp.signal;
  }

  /** Resolves to the verified plaintext; `Cancelled` as soon as the waiter's own signal fires. `clock` runs meanwhile. */
  async plaintext(signal: AbortSignal | undefined, clock?: WaitClock): Promise<Uint8Array> {
    this.#plaintextWaiters += 1;
    try {
      return await this.#wait(this.#plaintext, signal);
    } finally {
      this.#plaintextWaiters -= 1;
      if (clock !== undefined) {
        this.#clocks.delete(clock);
        clock.leave();
      }
    }
  }

  /** To be called before `plaintext`, which ends it. `joined`: its class until now, where it was under way. */
  board(clock: WaitClock | undefined, joined: FetchClass | undefined): void {
    if (clock === undefined) return;
    this.#clocks.add(clock);
    clock.board(this.#part, this.kind !== 'chunk', joined);
  }

  /** What it waits for from now on. */
  enter(part: WaitPart): void {
    this.#part = part;
    for (const clock of this.#clocks) clock.enter(part);
  }

  /** The present try to get it came to nothing. */
  wasted(): void {
    this.#part = 'retry';
    for (const clock of this.#clocks) clock.wasted();
  }

  /** Resolves when the blob is verified and in the local cache; to false when the cache did not take it. */
  kept(signal: AbortSignal | undefined): Promise<boolean> {
    return this.#wait(this.#kept, signal);
  }

  deliver(plaintext: Uint8Array): void {
    this.enter('daemon');
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
    const isOver = this.#plaintext.isSettled || (this.#kept.isSettled && !this.isPlaintextWanted);
    if (!isOver) this.#giveUp.abort();
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
