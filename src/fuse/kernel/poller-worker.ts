import { workerData } from 'node:worker_threads';
import { WaitSet } from '../../system/index.js';
import { wake, type PollerData } from './poller.js';

/** The thread of a `Poller`. */
const { waitSetFd, deviceFd, mountTableFd, stopFd, wake: shared } = workerData as PollerData;
const waitSet = new WaitSet(waitSetFd);
const word = new Int32Array(shared);

for (;;) {
  const ready = waitSet.wait();
  if (ready.includes(stopFd)) break;
  let bits = 0;
  if (ready.includes(deviceFd)) bits |= wake.request;
  if (ready.includes(mountTableFd)) bits |= wake.mountTable;
  Atomics.or(word, 0, bits);
  Atomics.notify(word, 0);
}
