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

/** Pins would take more of the local cache than they may: what is not pinned needs room too. Nothing was changed. */
export class CachePinsFull extends IsrError {
  override readonly code = 'CACHE_PINS_FULL';

  private constructor(
    sentence: string,
    remedy: string,
    facts: { readonly wantedBytes: number; readonly maxBytes: number },
  ) {
    super(sentence, { facts: { ...facts }, remedy });
  }

  /** `wantedBytes`: what all pins would take, or how far they were counted. */
  static withPinOf(
    vmName: string,
    facts: { readonly wantedBytes: number; readonly maxBytes: number },
  ): CachePinsFull {
    return new CachePinsFull(
      `With ${vmName}, pins would take ${mebibytes(facts.wantedBytes)} or more of the local cache, and may take ${mebibytes(facts.maxBytes)}.`,
      'Raise the limit with `isr cache limit SIZE`, let go of another pin with `isr cache unpin VM` (`isr cache ls` shows ' +
        'them), or pin only what is here already with `isr cache pin VM --local`.',
      facts,
    );
  }

  static underLimit(facts: {
    readonly limitBytes: number;
    readonly wantedBytes: number;
    readonly maxBytes: number;
  }): CachePinsFull {
    return new CachePinsFull(
      `Pins take ${mebibytes(facts.wantedBytes)}, and may take ${mebibytes(facts.maxBytes)} of a cache of ${mebibytes(facts.limitBytes)}.`,
      'Let go of some with `isr cache unpin VM` first; `isr cache ls` shows them.',
      facts,
    );
  }
}

function mebibytes(bytes: number): string {
  return `${Math.ceil(bytes / 2 ** 20)} MiB`;
}
