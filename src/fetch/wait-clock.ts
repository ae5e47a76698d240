import type { FetchClass } from './types.js';

/**
 * What a demand waits for; at each moment exactly one of these:
 *
 * - `daemon`: this process, before it asks anybody and after it has what it asked for
 * - `disk`: the local cache, reading and opening what is there, or room to write what came
 * - `tier`: lookaside places
 * - `queue`: the turn to ask the store, behind other requests or a cap
 * - `retry`: a request that came to nothing, and everything until the next was allowed: pauses, a store that is away
 * - `roundTrip`: the first byte of the answer
 * - `transfer`: the rest of it, what lies before the wanted bytes in the same answer included
 * - `decode`: a codec thread, and its work
 */
export const waitParts = [
  'daemon',
  'disk',
  'tier',
  'queue',
  'retry',
  'roundTrip',
  'transfer',
  'decode',
] as const;

export type WaitPart = (typeof waitParts)[number];

/** Time by what it went into. */
export type WaitParts = Readonly<Record<WaitPart, number>>;

/** Time by what it went into, to be added to. */
export type WaitSums = Record<WaitPart, number>;

export function noTime(): WaitSums {
  return { daemon: 0, disk: 0, tier: 0, queue: 0, retry: 0, roundTrip: 0, transfer: 0, decode: 0 };
}

/** Parts of a try that was for nothing if the try fails. */
const triedParts = ['roundTrip', 'transfer', 'decode'] as const;

/** Microseconds that no change of the host's clock disturbs, as whole numbers: sums of them are exact. */
export type MonotonicUs = () => number;

export const monotonicUs: MonotonicUs = () => Math.round(performance.now() * 1000);

/**
 * Where the time goes while one chunk is waited for, and the nodes of the map that lead to it. It is always in exactly one
 * part, so that the parts add up to the time between its beginning and its end.
 */
export class WaitClock {
  readonly #now: MonotonicUs;
  readonly #sums = noTime();
  /** Of `#sums`: what the present try to get the blob has taken. */
  #tried = noTime();
  #part: WaitPart = 'daemon';
  #sinceUs: number;
  #isForMap = false;
  #mapUs = 0;
  #joined: FetchClass | undefined;

  constructor(startUs: number, now: MonotonicUs = monotonicUs) {
    this.#sinceUs = startUs;
    this.#now = now;
  }

  /** From now on time goes into this part. */
  enter(part: WaitPart): void {
    this.#credit();
    if (part === 'roundTrip') this.#tried = noTime();
    this.#part = part;
  }

  /** A blob is waited for from now on: a node of the map, or the chunk. `joined`: the class of a fetch that was under way. */
  board(part: WaitPart, isForMap: boolean, joined: FetchClass | undefined): void {
    this.enter(part);
    this.#tried = noTime();
    this.#isForMap = isForMap;
    if (!isForMap) this.#joined = joined;
  }

  /** What the present try has taken until now came to nothing. */
  wasted(): void {
    this.#credit();
    for (const part of triedParts) {
      this.#sums[part] -= this.#tried[part];
      this.#sums.retry += this.#tried[part];
    }
    this.#tried = noTime();
    this.#part = 'retry';
  }

  /** The blob is here, or nobody waits for it any more. */
  leave(): void {
    this.enter('daemon');
    this.#isForMap = false;
  }

  /** Up to now, in microseconds. */
  read(): { readonly parts: WaitParts; readonly mapUs: number; readonly joined: FetchClass | undefined } {
    this.#credit();
    return { parts: { ...this.#sums }, mapUs: this.#mapUs, joined: this.#joined };
  }

  #credit(): void {
    const nowUs = this.#now();
    const spentUs = nowUs - this.#sinceUs;
    this.#sinceUs = nowUs;
    this.#sums[this.#part] += spentUs;
    this.#tried[this.#part] += spentUs;
    if (this.#isForMap) this.#mapUs += spentUs;
  }
}
