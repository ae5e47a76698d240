import { parentPort, workerData } from 'node:worker_threads';
import { sweepCache } from './sweep.js';

/** What the thread is started with. */
export interface SweepTask {
  readonly cachePath: string;
  readonly limitBytes: number;
  readonly now: number;
  /** One 32-bit cell: anything but zero means stop. */
  readonly stop: SharedArrayBuffer;
}

const { stop, ...request } = workerData as SweepTask;
const stopCell = new Int32Array(stop);
parentPort?.postMessage(sweepCache({ ...request, shouldStop: () => Atomics.load(stopCell, 0) !== 0 }));
