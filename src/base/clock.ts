import { setTimeout as sleep } from 'node:timers/promises';

/** Time as something that a test can hold in its hand. */
export interface Clock {
  /** Milliseconds since 1970, as `Date.now()`. */
  now(): number;
  /** Resolves after a while; rejects as soon as the signal fires. */
  delay(milliseconds: number, signal: AbortSignal): Promise<void>;
}

/** The real time. */
export const systemClock: Clock = {
  now: () => Date.now(),
  delay: (milliseconds, signal) => sleep(milliseconds, undefined, { signal }),
};
