import { Cancelled, type Clock } from '../base/index.js';
import type { TokenBucket } from './token-bucket.js';
import type { FetchClass } from './types.js';

/** Somebody who wants to make a store request. The class may be raised while it waits: see `reconsider`. */
export interface SlotClaim {
  readonly fetchClass: FetchClass;
  readonly signal: AbortSignal;
  /** What it will ask for, as far as is known. */
  readonly spanBytes: number;
}

export interface SlotLimits {
  readonly total: number;
  /** Of `total`, never used by anything but demand. */
  readonly reservedForDemand: number;
  /** At most so many background requests at once, while no demand is waiting or running. */
  readonly background: number;
  readonly backgroundDuringDemand: number;
  /** How long after the last demand another is expected, as if it were waiting. */
  readonly demandLingerMs: number;
  /**
   * Bytes of requests other than demand that may be on their way before another is begun. One always may, so that a
   * window which is smaller than a request does not end everything.
   */
  readonly windowBytes: (isDemandExpected: boolean) => number;
  /** Caps on bandwidth. */
  readonly buckets: { readonly all: TokenBucket | undefined; readonly background: TokenBucket | undefined };
  readonly clock: Clock;
}

/** A turn that was granted. */
export class Turn {
  readonly countedAs: FetchClass;
  /** Still to come. */
  leftBytes: number;
  readonly #onArrival: (lengthBytes: number) => void;

  constructor(claim: SlotClaim, onArrival: (lengthBytes: number) => void) {
    this.countedAs = claim.fetchClass;
    this.leftBytes = claim.spanBytes;
    this.#onArrival = onArrival;
  }

  /** So many bytes of it have come. */
  arrived(lengthBytes: number): void {
    const counted = Math.min(lengthBytes, this.leftBytes);
    this.leftBytes -= counted;
    this.#onArrival(counted);
  }
}

/** Highest priority first. */
const classes: readonly FetchClass[] = ['demand', 'around', 'replay', 'background'];

interface Waiter {
  readonly claim: SlotClaim;
  start(): void;
}

/**
 * Who may ask the store next: demand, then what is around it, then replay, then background; and by order of arrival within a class.
 *
 * What is not demand asks for no more than keeps the link busy, and background requests step back to a few while there
 * is demand: a demand shares the link with little else. Bandwidth is capped where somebody wants that.
 */
export class RequestSlots implements Disposable {
  readonly #limits: SlotLimits;
  /** In order of arrival. */
  readonly #waiting = new Set<Waiter>();
  readonly #running: Record<FetchClass, number> = { demand: 0, around: 0, replay: 0, background: 0 };
  readonly #closing = new AbortController();
  /** Of requests that are not demand: still to come. */
  #bulkBytes = 0;
  #demandEndedAt = -Infinity;
  #wakesAt = Infinity;

  constructor(limits: SlotLimits) {
    this.#limits = limits;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  get running(): number {
    return this.#running.demand + this.#bulkRunning;
  }

  /** Runs `task` when it is the claim's turn. `Cancelled` when its signal fires before that; later it is the task's business. */
  async run<T>(claim: SlotClaim, task: (turn: Turn) => Promise<T>): Promise<T> {
    const turn = await this.#turn(claim);
    return this.#during(turn, task);
  }

  /** Runs `task` if there is a slot now that nobody waits for; undefined if not. */
  runIfFree<T>(claim: SlotClaim, task: (turn: Turn) => Promise<T>): Promise<T> | undefined {
    if (this.#waiting.size > 0 || !this.#mayStart(claim.fetchClass)) return undefined;
    return this.#during(this.#grant(claim), task);
  }

  /** To be called when the class of a waiting claim was raised. */
  reconsider(): void {
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      this.#waiting.delete(next);
      next.start();
    }
    this.#wakeLater();
  }

  /** Nobody is woken by the clock any more. */
  [Symbol.dispose](): void {
    this.#closing.abort();
  }

  async #during<T>(turn: Turn, task: (turn: Turn) => Promise<T>): Promise<T> {
    try {
      return await task(turn);
    } finally {
      turn.arrived(turn.leftBytes);
      this.#running[turn.countedAs] -= 1;
      if (turn.countedAs === 'demand') this.#demandEndedAt = this.#limits.clock.now();
      this.reconsider();
    }
  }

  /** Resolves with a slot taken. */
  async #turn(claim: SlotClaim): Promise<Turn> {
    if (claim.signal.aborted) throw new Cancelled('A store request');
    return new Promise((resolve, reject) => {
      const cancel = (): void => {
        this.#waiting.delete(waiter);
        reject(new Cancelled('A store request'));
      };
      const waiter: Waiter = {
        claim,
        start: () => {
          claim.signal.removeEventListener('abort', cancel);
          resolve(this.#grant(claim));
        },
      };
      claim.signal.addEventListener('abort', cancel, { once: true });
      this.#waiting.add(waiter);
      this.reconsider();
    });
  }

  #grant(claim: SlotClaim): Turn {
    const { buckets } = this.#limits;
    const isBulk = claim.fetchClass !== 'demand';
    this.#running[claim.fetchClass] += 1;
    buckets.all?.take(claim.spanBytes);
    if (isBulk) buckets.background?.take(claim.spanBytes);
    if (isBulk) this.#bulkBytes += claim.spanBytes;
    return new Turn(claim, (lengthBytes) => {
      if (!isBulk) return;
      const wasFull = !this.#isWindowOpen();
      this.#bulkBytes -= lengthBytes;
      if (wasFull && this.#isWindowOpen()) this.reconsider();
    });
  }

  #next(): Waiter | undefined {
    if (this.#waiting.size === 0) return undefined;
    for (const fetchClass of classes) {
      if (!this.#mayStart(fetchClass)) continue;
      const waiter = this.#firstOf(fetchClass);
      if (waiter !== undefined) return waiter;
    }
    return undefined;
  }

  #mayStart(fetchClass: FetchClass): boolean {
    const limit = this.#limits;
    if (this.running >= limit.total || (limit.buckets.all?.waitMs ?? 0) > 0) return false;
    if (fetchClass === 'demand') return true;
    const { background } = this.#running;
    if (this.#bulkRunning >= limit.total - limit.reservedForDemand) return false;
    if (!this.#isWindowOpen() || (limit.buckets.background?.waitMs ?? 0) > 0) return false;
    if (fetchClass !== 'background') return true;
    return background < (this.#isDemandExpected() ? limit.backgroundDuringDemand : limit.background);
  }

  get #bulkRunning(): number {
    const { around, replay, background } = this.#running;
    return around + replay + background;
  }

  #isWindowOpen(): boolean {
    return this.#bulkBytes < this.#limits.windowBytes(this.#isDemandExpected()) || this.#bulkRunning === 0;
  }

  #isDemandExpected(): boolean {
    const { clock, demandLingerMs } = this.#limits;
    return (
      this.#running.demand > 0 ||
      clock.now() - this.#demandEndedAt < demandLingerMs ||
      this.#firstOf('demand') !== undefined
    );
  }

  #firstOf(fetchClass: FetchClass): Waiter | undefined {
    for (const waiter of this.#waiting) if (waiter.claim.fetchClass === fetchClass) return waiter;
    return undefined;
  }

  /** Time alone may let a waiter start: when a bucket has filled, or when no demand is expected any more. */
  #wakeLater(): void {
    if (this.#waiting.size === 0 || this.#closing.signal.aborted) return;
    const { clock, buckets, demandLingerMs } = this.#limits;
    const lingerMs = this.#demandEndedAt + demandLingerMs - clock.now();
    const waits = [buckets.all?.waitMs ?? 0, buckets.background?.waitMs ?? 0, lingerMs];
    const nextMs = Math.min(...waits.filter((ms) => ms > 0));
    if (nextMs === Infinity || clock.now() + nextMs >= this.#wakesAt) return;
    const wakesAt = (this.#wakesAt = clock.now() + nextMs);
    const wake = (): void => {
      if (this.#wakesAt === wakesAt) this.#wakesAt = Infinity;
      this.reconsider();
    };
    clock.delay(nextMs, this.#closing.signal).then(wake, () => undefined);
  }
}
