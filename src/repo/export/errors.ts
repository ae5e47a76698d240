import { IsrError } from '../../base/index.js';

/** The directory to export to holds something. */
export class TargetNotEmpty extends IsrError {
  override readonly code = 'TARGET_NOT_EMPTY';

  constructor(path: string) {
    super(`${path} is not an empty directory; nothing was written.`, {
      facts: { path },
      remedy: 'Name a directory that does not exist yet.',
    });
  }
}

/** The local file system refused something that an export needs. */
export class ExportFailed extends IsrError {
  override readonly code = 'EXPORT_FAILED';

  constructor(path: string, cause: Error) {
    super(`The version could not be written to ${path}: ${cause.message}.`, {
      facts: { path },
      remedy: 'Check that the parent directory exists and may be written to, and that its disk has space.',
      cause,
    });
  }
}
