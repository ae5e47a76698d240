import type { Clock } from '../base/index.js';

/**
 * Lets so much through a second, and a little at once. Whoever finds something in the bucket may take more than there is:
 * the next then wait until the debt is paid, so that a request of any length is possible and the rate holds.
 */
export class TokenBucket {
  readonly #perMs: number;
  readonly #size: number;
  readonly #clock: Clock;
  #level: number;
  #filledAt: number;

  constructor(options: { readonly perSecond: number; readonly size: number; readonly clock: Clock }) {
    this.#perMs = options.perSecond / 1000;
    this.#size = options.size;
    this.#clock = options.clock;
    this.#level = options.size;
    this.#filledAt = options.clock.now();
  }

  /** How long until something may be taken; 0 for now. */
  get waitMs(): number {
    this.#fill();
    return this.#level > 0 ? 0 : Math.max(1, Math.ceil(-this.#level / this.#perMs));
  }

  take(count: number): void {
    this.#fill();
    this.#level -= count;
  }

  #fill(): void {
    const now = this.#clock.now();
    this.#level = Math.min(this.#size, this.#level + Math.max(0, now - this.#filledAt) * this.#perMs);
    this.#filledAt = now;
  }
}

/** What second requests may cost: a share of the first ones, and a few before there were many. */
export class HedgeBudget {
  readonly #share: number;
  readonly #size: number;
  #level: number;

  constructor(options: { readonly share: number; readonly size: number }) {
    this.#share = options.share;
    this.#size = options.size;
    this.#level = options.size;
  }

  /** A first request was made. */
  earn(): void {
    this.#level = Math.min(this.#size, this.#level + this.#share);
  }

  /** Whether a second one may be made now. */
  spend(): boolean {
    if (this.#level < 1) return false;
    this.#level -= 1;
    return true;
  }
}
