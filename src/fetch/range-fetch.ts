import { isMoreUrgent, type Flight } from './flight.js';
import { spanOf, type PackRange } from './pack-range.js';
import type { StoreClaim } from './store-access.js';
import type { FetchClass } from './types.js';
import type { WaitPart } from './wait-clock.js';

/**
 * One request that brings one or several neighbours. Until it is made, a member that somebody needs urgently can leave and
 * go its own way: it should not wait for a megabyte of others.
 */
export class RangeFetch implements StoreClaim {
  fetchClass: FetchClass;
  readonly #members = new Set<Flight>();
  readonly #giveUp = new AbortController();
  #isBegun = false;

  constructor(fetchClass: FetchClass, members: readonly Flight[] = []) {
    this.fetchClass = fetchClass;
    for (const flight of members) this.add(flight);
  }

  /** Fires when no member is wanted any more. */
  get signal(): AbortSignal {
    return this.#giveUp.signal;
  }

  /** Those that are wanted and not here yet. */
  get members(): readonly Flight[] {
    return [...this.#members];
  }

  get isBegun(): boolean {
    return this.#isBegun;
  }

  get spanBytes(): number {
    return this.span?.lengthBytes ?? 0;
  }

  /** What to ask for: undefined when there is nothing left. */
  get span(): PackRange | undefined {
    return spanOf(this.members.map(({ reference }) => reference));
  }

  add(flight: Flight): void {
    if (flight.signal.aborted) return;
    this.#members.add(flight);
    flight.carrier = this;
    flight.signal.addEventListener('abort', () => {
      if (flight.carrier === this) this.#leave(flight);
    });
  }

  /** The flight has its bytes, or goes another way. */
  remove(flight: Flight): void {
    this.#members.delete(flight);
    if (flight.carrier === this) flight.carrier = undefined;
  }

  /** One of its members is wanted so urgently, and need not go its own way. */
  raise(fetchClass: FetchClass): void {
    if (isMoreUrgent(fetchClass, this.fetchClass)) this.fetchClass = fetchClass;
  }

  /** Lets an urgent member go its own way, and says whether it did; too late, the whole range becomes as urgent. */
  release(flight: Flight): boolean {
    if (this.#isBegun || this.#members.size === 1) {
      this.raise(flight.fetchClass);
      return false;
    }
    this.remove(flight);
    return true;
  }

  /** Takes the members of a range that has not begun, and leaves it empty. */
  absorb(other: RangeFetch): void {
    for (const flight of other.members) {
      other.remove(flight);
      this.add(flight);
    }
  }

  begin(): void {
    this.#isBegun = true;
  }

  enter(part: WaitPart): void {
    for (const flight of this.#members) flight.enter(part);
  }

  wasted(): void {
    for (const flight of this.#members) flight.wasted();
  }

  cancel(): void {
    this.#giveUp.abort();
  }

  #leave(flight: Flight): void {
    this.#members.delete(flight);
    if (this.#members.size === 0) this.#giveUp.abort();
  }
}
