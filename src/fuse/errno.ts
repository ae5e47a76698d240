import { constants } from 'node:os';
import { FileSystemError, type ErrnoName } from '../fs/index.js';

/** The numbers of this platform, positive as in errno(3). */
export const errnoNumbers: Readonly<Record<ErrnoName, number>> = constants.errno;

/** `ENOTCONN`: what a mount without its file system answers. */
export const notConnected = constants.errno.ENOTCONN;

const seriousErrors: ReadonlySet<ErrnoName> = new Set<ErrnoName>([
  ...(['EIO', 'ENOSPC', 'EDQUOT'] as const),
  ...(['EMFILE', 'ENFILE', 'ENOMEM'] as const),
]);

export interface Failure {
  /** Positive. */
  readonly errno: number;
  /** Something is wrong, as opposed to an ordinary answer such as ENOENT. */
  readonly serious: boolean;
  /** The file system did not mean to fail this way: its error belongs in the log. */
  readonly unexpected: boolean;
}

/** What the kernel is told about an error: its errno, or EIO for anything that is not a `FileSystemError`. */
export function failureOf(error: unknown): Failure {
  if (!(error instanceof FileSystemError)) {
    return { errno: errnoNumbers.EIO, serious: true, unexpected: true };
  }
  return { errno: errnoNumbers[error.errno], serious: seriousErrors.has(error.errno), unexpected: false };
}
