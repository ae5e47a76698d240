import { Cancelled } from '../base/index.js';
import { allowManyListeners } from './abort-scope.js';

/** Settles as `outcome` does, or rejects with `Cancelled` as soon as the signal fires; `outcome` itself goes on. */
export async function untilAborted<T>(
  outcome: Promise<T>,
  signal: AbortSignal | undefined,
  what: string,
): Promise<T> {
  if (signal === undefined) return outcome;
  allowManyListeners(signal);
  let cancel: (() => void) | undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    cancel = () => reject(new Cancelled(what));
    if (signal.aborted) cancel();
    else signal.addEventListener('abort', cancel, { once: true });
  });
  try {
    return await Promise.race([outcome, aborted]);
  } finally {
    if (cancel !== undefined) signal.removeEventListener('abort', cancel);
  }
}
