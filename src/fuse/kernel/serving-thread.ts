import { constants } from 'node:os';
import { workerData } from 'node:worker_threads';
import { LocalReader } from '../../resident/index.js';
import { readDescriptor, WaitSet, writeDescriptor } from '../../system/index.js';
import { ReadInPlace } from './read-in-place.js';
import type { ServingThreadData } from './serving-threads.js';
import { crowdRequests, spinMilliseconds } from './timing.js';
import { Turns, wake } from './turns.js';

/* A thread that takes requests from the device, answers reads of local data in place and hands the rest over. */

const { EAGAIN, EINTR, ENOENT } = constants.errno;
const data = workerData as ServingThreadData;
const { thread, deviceFd, waiting } = data;
const turns = new Turns(data.turns);
const reads = data.reads === undefined ? undefined : new ReadInPlace(new LocalReader(data.reads));
const { buffer, byteOffset, length } = data.memory;
const request = { bytes: data.memory, view: new DataView(buffer, byteOffset, length) };
const waitSet = waiting === undefined ? undefined : new WaitSet(waiting.waitSetFd);

while (turns.waitForTurn(thread) && serve());

/** Serves until it is another thread's turn. False: to end. */
function serve(): boolean {
  let spinEndsMs = 0;
  let inARow = 0;
  while (!turns.isEnding(thread)) {
    const lengthBytes = readDescriptor(deviceFd, request.bytes);
    if (lengthBytes >= 0) {
      inARow += 1;
      if (inARow % crowdRequests === 0) callHelp();
      if (answerInPlace(lengthBytes)) {
        turns.countAnswer(thread);
        spinEndsMs = performance.now() + spinMilliseconds;
        continue;
      }
      if (waitSet === undefined) {
        turns.handOver(thread, lengthBytes);
        turns.waitUntilTaken(thread);
        continue;
      }
      turns.rest(thread);
      turns.handOver(thread, lengthBytes);
      turns.waitUntilTaken(thread);
      return true;
    }
    if (lengthBytes === -EAGAIN) {
      inARow = 0;
      // Who helps has nothing left to do: were it to wait for more, it would share the work of one thread.
      if (waitSet === undefined) {
        turns.rest(thread);
        return true;
      }
      if (performance.now() < spinEndsMs) continue;
      if (!waitForRequest(waitSet)) return false;
    } else if (lengthBytes !== -EINTR && lengthBytes !== -ENOENT) {
      // The mount is gone: the main thread will see the same.
      turns.rest(thread);
      turns.wakeMain(wake.turn);
      return true;
    }
  }
  return false;
}

/** Sets a thread that rests to work, or has the main thread start one. */
function callHelp(): void {
  if (turns.callHelper() === 'absent') turns.wakeMain(wake.crowd);
}

/** Blocks until the device has something. False: to end. */
function waitForRequest(set: WaitSet): boolean {
  const ready = set.wait();
  if (waiting === undefined || ready.includes(waiting.stopFd)) return false;
  if (ready.includes(waiting.mountTableFd)) turns.wakeMain(wake.mountTable);
  return true;
}

/** False, and nothing done, unless the request is to read data that is known to be local. */
function answerInPlace(lengthBytes: number): boolean {
  const answerBytes = reads?.answer(request.view, lengthBytes) ?? 0;
  if (reads === undefined || answerBytes === 0) return false;
  // What the kernel says to it is of no use: it fails where the requester or the mount has gone.
  writeDescriptor(deviceFd, reads.bytes, answerBytes);
  return true;
}
