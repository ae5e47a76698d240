import { IsrError } from '../base/index.js';
import type { ErrnoName } from './types.js';

/** What the kernel is told, with what a log line needs. */
export class FileSystemError extends IsrError {
  override readonly code = 'FILE_SYSTEM';
  readonly errno: ErrnoName;

  constructor(errno: ErrnoName, message: string, options: { cause?: unknown } = {}) {
    super(message, { facts: { errno }, ...options });
    this.errno = errno;
  }
}
