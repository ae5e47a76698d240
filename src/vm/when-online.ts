import { Cancelled, IsrError, limits, systemClock, type Clock } from '../base/index.js';

export interface WhenOnlineOptions {
  readonly signal: AbortSignal;
  /** Called once, when it turns out that there is something to wait for. */
  readonly onWaiting: (error: Error) => void;
  readonly clock?: Clock;
}

/**
 * Does something that needs the store, again and again until the store is there; every other error ends it. For actions
 * that can be repeated and that check anew each time what they may do: a lease that was lost meanwhile is seen.
 */
export async function whenOnline<T>(action: () => Promise<T>, options: WhenOnlineOptions): Promise<T> {
  const clock = options.clock ?? systemClock;
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await action();
    } catch (error) {
      if (!isStoreAway(error)) throw error;
      if (attempt === 0) options.onWaiting(error);
    }
    const pauseMs = Math.min(limits.storeRetryMsMax, limits.storeRetryMs * 2 ** Math.min(attempt, 16));
    await clock.delay(pauseMs, options.signal).catch(() => {
      throw new Cancelled('Waiting for the store');
    });
  }
}

/** Also where a daemon or a suspend says so. */
function isStoreAway(error: unknown): error is Error {
  if (!(error instanceof IsrError)) return false;
  return (
    error.code === 'STORE_UNREACHABLE' || (error.code === 'SUSPEND_NOT_PUBLISHED' && isStoreAway(error.cause))
  );
}
