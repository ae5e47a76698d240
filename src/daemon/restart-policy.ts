/** What to do after the death of a worker. */
export type Verdict = { readonly restartInMs: number } | { readonly giveUp: string };

/** One that dies like so many before it shows that the next will, too. */
const fruitlessDeathsMax = 5;

const firstPauseMs = 50;
const longestPauseMs = 2_000;

/**
 * Tells a crash loop from accidents. A worker that made progress before it died is replaced at once; each one in a
 * row that did not doubles the pause, until there is no point in going on.
 */
export class RestartPolicy {
  #fruitless = 0;

  /** A worker died; `progressed`: it had answered requests, or there were none. */
  died(progressed: boolean): Verdict {
    if (progressed) {
      this.#fruitless = 0;
      return { restartInMs: 0 };
    }
    this.#fruitless += 1;
    if (this.#fruitless > fruitlessDeathsMax) {
      return { giveUp: `${this.#fruitless} workers in a row died before they could answer a request` };
    }
    return { restartInMs: Math.min(firstPauseMs * 2 ** (this.#fruitless - 1), longestPauseMs) };
  }
}
