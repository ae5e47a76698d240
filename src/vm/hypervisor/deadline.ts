import { Cancelled, IsrError } from '../../base/index.js';
import { StepTimedOut } from './errors.js';

/** Fires when the user's signal does, or when the step has taken too long. */
export function stepDeadline(seconds: number, userSignal?: AbortSignal): AbortSignal {
  const timeout = AbortSignal.timeout(seconds * 1000);
  return userSignal === undefined ? timeout : AbortSignal.any([userSignal, timeout]);
}

/** The error for a signal that has fired. `what` begins a sentence: "Saving the guest". */
export function abortError(signal: AbortSignal, what: string): IsrError {
  const reason: unknown = signal.reason;
  if (reason instanceof IsrError) return reason;
  if (!(reason instanceof DOMException && reason.name === 'TimeoutError')) return new Cancelled(what);
  return new StepTimedOut(`${what} took too long.`, {
    remedy: 'Try again; [timeout_seconds] in isr.toml says how long each step may take.',
  });
}
