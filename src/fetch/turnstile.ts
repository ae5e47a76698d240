import { Cancelled } from '../base/index.js';

/** Lets so many tasks run at once; the others wait in order of arrival. */
export class Turnstile {
  readonly #size: number;
  readonly #waiting = new Set<() => void>();
  #running = 0;

  constructor(size: number) {
    this.#size = size;
  }

  /** `Cancelled` as soon as the signal fires before it is the task's turn; later it is the task's business. */
  async run<T>(task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    // Whoever leaves hands its place over: `#running` stays as it is.
    if (this.#running >= this.#size) await this.#turn(signal);
    else this.#running += 1;
    try {
      return await task();
    } finally {
      const [next] = this.#waiting;
      if (next === undefined) this.#running -= 1;
      else next();
    }
  }

  #turn(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#waiting.delete(enter);
        reject(new Cancelled('Waiting for a turn'));
      };
      const enter = (): void => {
        this.#waiting.delete(enter);
        signal?.removeEventListener('abort', leave);
        resolve();
      };
      if (signal?.aborted === true) {
        leave();
        return;
      }
      this.#waiting.add(enter);
      signal?.addEventListener('abort', leave, { once: true });
    });
  }
}
