import { setTimeout as sleep } from 'node:timers/promises';

/** Time as something that a test can hold in its hand. */
export interface Clock {
  /**
   * Milliseconds since some moment of this process's life: for spans of time. Setting the host's clock does not change it, and it stands
   * still while the host is suspended, as all timers do.
   */
  now(): number;
  /** Milliseconds since 1970, as `Date.now()`: for what people and files are told. May jump. */
  wallMs(): number;
  /** Resolves after a while; rejects as soon as the signal fires. */
  delay(milliseconds: number, signal: AbortSignal): Promise<void>;
}

/** The real time. */
export const systemClock: Clock = {
  now: () => performance.now(),
  wallMs: () => Date.now(),
  delay: (milliseconds, signal) => sleep(milliseconds, undefined, { signal }),
};
