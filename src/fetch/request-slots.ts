import { Cancelled } from '../base/index.js';
import type { FetchClass } from './types.js';

/** Somebody who wants to make a store request. The class may be raised while it waits: see `reconsider`. */
export interface SlotClaim {
  readonly fetchClass: FetchClass;
  readonly signal: AbortSignal;
}

export interface SlotLimits {
  readonly total: number;
  /** Of `total`, never used by anything but demand. */
  readonly reservedForDemand: number;
  /** At most so many background requests at once, while no demand is waiting or running. */
  readonly background: number;
  readonly backgroundDuringDemand: number;
}

/** Highest priority first. */
const classes: readonly FetchClass[] = ['demand', 'replay', 'background'];

interface Waiter {
  readonly claim: SlotClaim;
  start(): void;
}

/**
 * Who may ask the store next: demand before replay before background, and by order of arrival within a class.
 * Background requests step back to a few while there is demand, since they share its link.
 */
export class RequestSlots {
  readonly #limits: SlotLimits;
  /** In order of arrival. */
  readonly #waiting = new Set<Waiter>();
  readonly #running: Record<FetchClass, number> = { demand: 0, replay: 0, background: 0 };

  constructor(limits: SlotLimits) {
    this.#limits = limits;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  get running(): number {
    return this.#running.demand + this.#running.replay + this.#running.background;
  }

  /** Runs `task` when it is the claim's turn. `Cancelled` when its signal fires before that; later it is the task's business. */
  async run<T>(claim: SlotClaim, task: () => Promise<T>): Promise<T> {
    const countedAs = await this.#turn(claim);
    try {
      return await task();
    } finally {
      this.#running[countedAs] -= 1;
      this.reconsider();
    }
  }

  /** To be called when the class of a waiting claim was raised. */
  reconsider(): void {
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      this.#waiting.delete(next);
      next.start();
    }
  }

  /** Resolves, with a slot taken, to the class that it was taken as: the claim's class may be raised later. */
  async #turn(claim: SlotClaim): Promise<FetchClass> {
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
          this.#running[claim.fetchClass] += 1;
          resolve(claim.fetchClass);
        },
      };
      claim.signal.addEventListener('abort', cancel, { once: true });
      this.#waiting.add(waiter);
      this.reconsider();
    });
  }

  #next(): Waiter | undefined {
    const isDemandUnderWay = this.#running.demand > 0 || this.#firstOf('demand') !== undefined;
    for (const fetchClass of classes) {
      if (!this.#mayStart(fetchClass, isDemandUnderWay)) continue;
      const waiter = this.#firstOf(fetchClass);
      if (waiter !== undefined) return waiter;
    }
    return undefined;
  }

  #mayStart(fetchClass: FetchClass, isDemandUnderWay: boolean): boolean {
    const limit = this.#limits;
    if (this.running >= limit.total) return false;
    if (fetchClass === 'demand') return true;
    if (this.#running.replay + this.#running.background >= limit.total - limit.reservedForDemand)
      return false;
    if (fetchClass === 'replay') return true;
    return this.#running.background < (isDemandUnderWay ? limit.backgroundDuringDemand : limit.background);
  }

  #firstOf(fetchClass: FetchClass): Waiter | undefined {
    for (const waiter of this.#waiting) if (waiter.claim.fetchClass === fetchClass) return waiter;
    return undefined;
  }
}
