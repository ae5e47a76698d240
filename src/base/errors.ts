/** Facts of an error as data, for `--json` and logs. Never holds keys, credentials or VM content. */
export type ErrorFacts = Readonly<Record<string, string | number | boolean | null>>;

/**
 * The base of every operating error: something outside the program is wrong (bad input, a damaged object, a lost
 * lease) and a user can act on it. Each subclass has one meaning; `code` is its API and never changes.
 * Programming errors are plain `Error`s and are not caught.
 *
 * The message is one clear sentence that says what is wrong; `remedy` says what to do about it.
 * Translation to an errno or an exit code happens once, at the edge.
 */
export abstract class IsrError extends Error {
  abstract readonly code: string;
  readonly facts: ErrorFacts;
  readonly remedy: string | undefined;

  constructor(message: string, options: { facts?: ErrorFacts; remedy?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.facts = options.facts ?? {};
    this.remedy = options.remedy;
  }
}

/** An argument, a name, a URL or a configuration value that cannot be used. */
export class InvalidInput extends IsrError {
  override readonly code = 'INVALID_INPUT';
}

/** A limit of `base/limits.ts` (or of the user's configuration) would be exceeded. */
export class LimitExceeded extends IsrError {
  override readonly code = 'LIMIT_EXCEEDED';
}

/** The operation was cancelled through its AbortSignal. */
export class Cancelled extends IsrError {
  override readonly code = 'CANCELLED';
  constructor(what: string) {
    super(`${what} was cancelled.`);
  }
}

/** The `code` of a Node.js system error (`ENOENT`, `ENOSPC`, …), or undefined for anything else. */
export function systemErrorCode(error: unknown): string | undefined {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string' && 'syscall' in error) {
    return error.code;
  }
  return undefined;
}
