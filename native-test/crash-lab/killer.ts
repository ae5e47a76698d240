import { Worker } from 'node:worker_threads';
import type { Strike } from './crash-plan.js';

export interface KillerOrder {
  readonly atOperation: number;
  readonly strikes: readonly Strike[];
  readonly workerPid: number;
  readonly supervisorPid: number;
}

/** Places in the memory that the killer and the program share. */
export const killerWords = { operation: 0, armed: 1, struck: 2, finished: 3 } as const;

/** Kills processes while this thread makes operations, which block it. In a thread of its own. */
export class Killer {
  readonly #words = new Int32Array(new SharedArrayBuffer(4 * Int32Array.BYTES_PER_ELEMENT));
  readonly #worker: Worker;

  constructor() {
    this.#worker = new Worker(new URL('./killer-thread.js', import.meta.url), { workerData: this.#words });
    this.#worker.unref();
  }

  /** Returns when the order is heard. */
  arm(order: KillerOrder): void {
    Atomics.store(this.#words, killerWords.armed, 0);
    Atomics.store(this.#words, killerWords.struck, 0);
    Atomics.store(this.#words, killerWords.finished, 0);
    this.#worker.postMessage(order);
    Atomics.wait(this.#words, killerWords.armed, 0);
  }

  /** An operation begins. */
  readonly onOperation = (number: number): void => {
    Atomics.store(this.#words, killerWords.operation, number);
    Atomics.notify(this.#words, killerWords.operation);
  };

  /** Whether something may have been killed. */
  get hasStruck(): boolean {
    return Atomics.load(this.#words, killerWords.struck) === 1;
  }

  /** Returns when all are dead. */
  awaitEnd(): void {
    Atomics.wait(this.#words, killerWords.finished, 0);
  }
}
