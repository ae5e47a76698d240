import { setTimeout as sleep } from 'node:timers/promises';
import { systemErrorCode } from '../../base/index.js';
import { abortError } from './deadline.js';

/** QEMU takes some 30 ms until it listens and some 10 ms to end: this adds a tenth to that, at no cost. */
const pauseMs = 2;

/** Waits for somebody to listen on a Unix socket: repeats `connect` while nobody does. */
export async function retryWhileAbsent<T>(connect: () => Promise<T>, signal: AbortSignal): Promise<T> {
  for (;;) {
    if (signal.aborted) throw abortError(signal, 'Connecting to QEMU');
    try {
      return await connect();
    } catch (error) {
      if (!isNobodyListening(error)) throw error;
    }
    await sleep(pauseMs);
  }
}

/** Waits until a condition holds; false when the signal fired first. */
export async function waitUntil(holds: () => boolean, signal: AbortSignal): Promise<boolean> {
  while (!holds()) {
    if (signal.aborted) return false;
    await sleep(pauseMs);
  }
  return true;
}

/** Whether connecting to a Unix socket failed because no process listens on it. */
export function isNobodyListening(error: unknown): boolean {
  return ['ENOENT', 'ECONNREFUSED'].includes(systemErrorCode(error) ?? '');
}
