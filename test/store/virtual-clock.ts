import type { Clock } from '../../src/base/index.js';

interface Sleeper {
  readonly wakeAtMs: number;
  readonly wake: () => void;
}

/** Time that passes only when everybody waits for it. For code that waits for nothing but promises and this clock. */
export class VirtualClock implements Clock {
  #nowMs = 0;
  readonly #sleepers = new Set<Sleeper>();

  now(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#nowMs;
  }

  async delay(milliseconds: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const cancel = () => {
        this.#sleepers.delete(sleeper);
        reject(new DOMException('The delay was cancelled', 'AbortError'));
      };
      const wake = () => {
        signal.removeEventListener('abort', cancel);
        resolve();
      };
      const sleeper = { wakeAtMs: this.#nowMs + milliseconds, wake };
      this.#sleepers.add(sleeper);
      signal.addEventListener('abort', cancel, { once: true });
    });
  }

  /** Lets time pass until `outcome` settles. */
  async run<T>(outcome: Promise<T>): Promise<T> {
    const settled = { yet: false };
    const settle = () => (settled.yet = true);
    outcome.then(settle, settle);
    for (;;) {
      await new Promise(setImmediate);
      if (settled.yet) return outcome;
      this.#wakeNext();
    }
  }

  #wakeNext(): void {
    const [first, ...others] = this.#sleepers;
    if (first === undefined) throw new Error('everybody waits, but nobody for the clock');
    const next = others.reduce((left, right) => (right.wakeAtMs < left.wakeAtMs ? right : left), first);
    this.#sleepers.delete(next);
    this.#nowMs = next.wakeAtMs;
    next.wake();
  }
}
