import { parentPort, workerData } from 'node:worker_threads';
import { nextData } from '../../src/system/index.js';

const { fd } = workerData as { readonly fd: number };
parentPort?.postMessage(nextData(fd, 0));
