import { IsrError, systemErrorCode } from '../base/index.js';
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

/** The overlay holds changes to another version than the one that was asked for. */
export class OverlayMismatch extends IsrError {
  override readonly code = 'OVERLAY_MISMATCH';

  constructor(directory: string, found: string, wanted: string) {
    super(`The changes in ${directory} were made to version ${found}, not to version ${wanted}.`, {
      facts: { found, wanted },
      remedy: 'Publish or discard these changes first.',
    });
  }
}

/** The overlay's own records are not what was written: the local disk failed, or somebody changed them. */
export class OverlayDamaged extends IsrError {
  override readonly code = 'OVERLAY_DAMAGED';

  constructor(path: string, what: string, options: { cause?: unknown } = {}) {
    super(`The overlay's records in ${path} are damaged: ${what}.`, {
      remedy:
        'Check the disk. Discarding the overlay gives up its changes; published versions are not affected.',
      ...options,
    });
  }
}

/** The overlay was written by a newer release. */
export class OverlayFormatUnknown extends IsrError {
  override readonly code = 'OVERLAY_FORMAT_UNKNOWN';

  constructor(path: string, format: string) {
    super(`${path} has format ${format}, which this release does not know.`, {
      facts: { format },
      remedy: 'Use the release that wrote it, or a newer one.',
    });
  }
}

/** Files are open for writing, so that their content is not settled. */
export class FileSystemBusy extends IsrError {
  override readonly code = 'FILE_SYSTEM_BUSY';

  constructor(paths: readonly string[]) {
    const shown = paths.slice(0, 5).join(', ') + (paths.length > 5 ? `, and ${paths.length - 5} more` : '');
    super(`Files are open for writing: ${shown}.`, {
      facts: { files: paths.length },
      remedy: 'End the programs that use them (the hypervisor, most likely).',
    });
  }
}

/** Errors of the local disk that a program may see as they are; every other is damage. */
const passedOn: ReadonlySet<string> = new Set<ErrnoName>([
  ...(['ENOSPC', 'EDQUOT', 'EFBIG', 'EROFS'] as const),
  ...(['EMFILE', 'ENFILE', 'ENOMEM'] as const),
]);

/** A failure of the overlay's own disk, as the kernel is told. */
export function localDiskError(error: unknown, what: string): FileSystemError {
  if (error instanceof FileSystemError) return error;
  const code = systemErrorCode(error);
  const errno = code !== undefined && passedOn.has(code) ? (code as ErrnoName) : 'EIO';
  return new FileSystemError(errno, `The overlay's disk failed: ${what} (${code ?? String(error)}).`, {
    cause: error,
  });
}
