import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { programPath } from '../../base/index.js';
import type { SweepResult } from './sweep.js';
import type { SweepTask } from './sweep-worker.js';

/** Runs sweeps in a thread of their own: looking at hundreds of thousands of files must not delay a read. */
export class Sweeper implements AsyncDisposable {
  readonly #cachePath: string;
  readonly #stop = new SharedArrayBuffer(4);
  #running: Promise<SweepResult> | undefined;

  constructor(cachePath: string) {
    this.#cachePath = cachePath;
  }

  /** The sweep that is under way, or a new one. Rejects with what the disk said. */
  sweep(now: number, limitBytes: number): Promise<SweepResult> {
    this.#running ??= this.#start(now, limitBytes).finally(() => (this.#running = undefined));
    return this.#running;
  }

  async #start(now: number, limitBytes: number): Promise<SweepResult> {
    const workerData: SweepTask = {
      cachePath: this.#cachePath,
      limitBytes,
      now,
      stop: this.#stop,
    };
    const worker = new Worker(programPath('sweep-thread'), { workerData });
    const [result] = (await once(worker, 'message')) as [SweepResult];
    return result;
  }

  /** Ends a running sweep at its next directory, and waits for it. */
  async [Symbol.asyncDispose](): Promise<void> {
    Atomics.store(new Int32Array(this.#stop), 0, 1);
    await this.#running?.catch(() => undefined);
  }
}
