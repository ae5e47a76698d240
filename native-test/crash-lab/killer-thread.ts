import { readFileSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { isProcessAlive } from '../../src/system/index.js';
import { killerWords, type KillerOrder } from './killer.js';

/* The thread of `Killer`. */

const words = workerData as Int32Array;

/** Nobody wakes whoever waits for it. */
const idle = new Int32Array(new SharedArrayBuffer(4));

parentPort?.on('message', (order: KillerOrder) => {
  Atomics.store(words, killerWords.armed, 1);
  Atomics.notify(words, killerWords.armed);
  for (;;) {
    const operation = Atomics.load(words, killerWords.operation);
    if (operation >= order.atOperation) break;
    Atomics.wait(words, killerWords.operation, operation);
  }
  Atomics.store(words, killerWords.struck, 1);
  try {
    strikeAll(order);
  } finally {
    Atomics.store(words, killerWords.finished, 1);
    Atomics.notify(words, killerWords.finished);
  }
});

function strikeAll(order: KillerOrder): void {
  const struck = new Set<number>();
  for (const { victim, delayMicroseconds } of order.strikes) {
    const pid = victim === 'supervisor' ? order.supervisorPid : workerNow(order, struck);
    pause(delayMicroseconds);
    struck.add(pid);
    kill(pid);
  }
  // SIGKILL takes its time; whoever comes next must not meet the dying.
  for (const pid of struck) for (let wait = 0; isProcessAlive(pid) && wait < deathWaitsMax; wait++) rest();
}

const deathWaitsMax = 5000;

/** A millisecond. */
function rest(): void {
  Atomics.wait(idle, 0, 0, 1);
}

/** Exact where it is short. */
function pause(microseconds: number): void {
  const endMs = performance.now() + microseconds / 1000;
  if (microseconds > 5000) Atomics.wait(idle, 0, 0, microseconds / 1000);
  while (performance.now() < endMs);
}

/** The supervisor's child, once it has one that is not dead yet. */
function workerNow(order: KillerOrder, struck: ReadonlySet<number>): number {
  if (!struck.has(order.workerPid)) return order.workerPid;
  for (;;) {
    rest();
    const children = readFileSync(
      `/proc/${order.supervisorPid}/task/${order.supervisorPid}/children`,
      'utf8',
    );
    const next = children
      .split(' ')
      .map(Number)
      .find((pid) => pid > 0 && !struck.has(pid));
    if (next !== undefined) return next;
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    // It may have ended by itself, as a worker does that has lost its supervisor.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
