import type { LabConditions } from './conditions.js';

/** When the store is away: at planned times, and at times that are drawn. Time counts from when it was opened. */
export class OutagePlan {
  readonly #conditions: Pick<LabConditions, 'outageEveryMs' | 'outageMs' | 'outages'>;
  readonly #random: () => number;
  /** The drawn outage that has not ended yet, as far as anybody asked. */
  #fromMs: number;

  constructor(
    conditions: Pick<LabConditions, 'outageEveryMs' | 'outageMs' | 'outages'>,
    random: () => number,
  ) {
    this.#conditions = conditions;
    this.#random = random;
    this.#fromMs = this.#gapMs();
  }

  /** `elapsedMs` never goes back. */
  isOut(elapsedMs: number): boolean {
    const { outageMs, outages } = this.#conditions;
    const seconds = elapsedMs / 1000;
    if (outages.some(({ fromSeconds, toSeconds }) => seconds >= fromSeconds && seconds < toSeconds))
      return true;
    while (elapsedMs >= this.#fromMs + outageMs) this.#fromMs += outageMs + this.#gapMs();
    return elapsedMs >= this.#fromMs;
  }

  #gapMs(): number {
    const { outageEveryMs } = this.#conditions;
    return outageEveryMs === 0 ? Infinity : outageEveryMs * (0.5 + this.#random());
  }
}
