import { IsrError } from '../base/index.js';

/** Something was to be made local, and the local cache does not take it. Reads are not affected. */
export class LocalCacheUnusable extends IsrError {
  override readonly code = 'LOCAL_CACHE_UNUSABLE';

  /** `reason` continues the sentence "The local cache at PATH takes nothing: ". */
  constructor(path: string, reason: string) {
    super(`The local cache at ${path} takes nothing: ${reason}.`, {
      facts: { path },
      remedy: 'Make room on its disk, or raise its limit; what is local already stays local.',
    });
  }
}
