import { IsrError } from '../../base/index.js';

/** A file that no version can hold. */
export class UnsupportedFile extends IsrError {
  override readonly code = 'UNSUPPORTED_FILE';

  constructor(path: string, what: string) {
    super(`${path} cannot be part of a VM directory: ${what}.`, {
      facts: { path, what },
      remedy: 'Move it elsewhere; a VM directory holds regular files, directories, symbolic links and fifos.',
    });
  }
}

/** The directory to import, or a file in it, cannot be read. */
export class SourceUnreadable extends IsrError {
  override readonly code = 'SOURCE_UNREADABLE';

  constructor(path: string, cause: Error) {
    super(`${path} cannot be read: ${cause.message}.`, {
      facts: { path },
      remedy: 'Check that it exists and that this user may read it.',
      cause,
    });
  }
}

/** A file was written, replaced or cut while it was being read: a version of it would be a mixture. */
export class SourceChanged extends IsrError {
  override readonly code = 'SOURCE_CHANGED';

  constructor(path: string) {
    super(`${path} changed while it was being read; nothing was published.`, {
      facts: { path },
      remedy: 'Stop the VM and everything else that writes there, then try again.',
    });
  }
}
