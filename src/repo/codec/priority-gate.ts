import { LimitExceeded } from '../../base/index.js';

/** Most urgent first. */
const priorities = ['demand', 'around', 'replay', 'background'] as const;

export type CodecPriority = (typeof priorities)[number];

/** Lets a bounded number of jobs run at once; of those that wait, the most urgent goes next, then the oldest. */
export class PriorityGate {
  readonly #width: number;
  readonly #waitingMax: number;
  readonly #waiting: Readonly<Record<CodecPriority, (() => void)[]>> = {
    demand: [],
    around: [],
    replay: [],
    background: [],
  };
  #waitingCount = 0;
  #running = 0;
  #onIdle: (() => void)[] = [];

  constructor(options: { readonly width: number; readonly waitingMax: number }) {
    this.#width = options.width;
    this.#waitingMax = options.waitingMax;
  }

  /** Rejects with `LimitExceeded` when too many wait already, else as `job` does. */
  async run<T>(priority: CodecPriority, job: () => Promise<T>): Promise<T> {
    if (this.#running < this.#width) this.#running += 1;
    else await this.#turn(priority);
    try {
      return await job();
    } finally {
      this.#leave();
    }
  }

  /** Resolves when nothing runs or waits. */
  async idle(): Promise<void> {
    if (this.#running > 0) await new Promise<void>((resolve) => this.#onIdle.push(resolve));
  }

  /** Resolves when a job that ended hands its place over. */
  async #turn(priority: CodecPriority): Promise<void> {
    if (this.#waitingCount >= this.#waitingMax) {
      throw new LimitExceeded(`More than ${this.#waitingMax} blobs wait for a codec thread.`);
    }
    this.#waitingCount += 1;
    await new Promise<void>((resolve) => this.#waiting[priority].push(resolve));
  }

  #leave(): void {
    for (const priority of priorities) {
      const next = this.#waiting[priority].shift();
      if (next !== undefined) {
        this.#waitingCount -= 1;
        next();
        return;
      }
    }
    this.#running -= 1;
    if (this.#running > 0) return;
    for (const resolve of this.#onIdle.splice(0)) resolve();
  }
}
