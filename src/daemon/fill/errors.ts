import { IsrError } from '../../base/index.js';

/** The local cache cannot keep a whole version at once: what a fill brought would push out what it brought before. */
export class CacheTooSmall extends IsrError {
  override readonly code = 'CACHE_TOO_SMALL';

  /** `wantedBytes`: what the version takes, or how far it was counted. */
  constructor(vmName: string, facts: { readonly wantedBytes: number; readonly keptBytes: number }) {
    super(
      `The local cache cannot hold all of ${vmName}: that takes ${mebibytes(facts.wantedBytes)} or more, and the cache keeps ${mebibytes(facts.keptBytes)} beside what is pinned.`,
      {
        facts: { vm: vmName, ...facts },
        remedy: `Raise the limit with \`isr cache limit SIZE\`, then bring the rest with \`isr warm ${vmName} --all\`.`,
      },
    );
  }
}

/** What a fill brings is evicted again before all of it is here: others use the same cache. */
export class CacheContended extends IsrError {
  override readonly code = 'CACHE_CONTENDED';
  constructor(vmName: string) {
    super(
      `What comes of ${vmName} is evicted again before all of it is here: others fill the same local cache.`,
      {
        facts: { vm: vmName },
        remedy: `Raise the limit with \`isr cache limit SIZE\`, or keep it with \`isr cache pin ${vmName}\`; then \`isr warm ${vmName} --all\`.`,
      },
    );
  }
}

function mebibytes(bytes: number): string {
  return `${Math.ceil(bytes / 2 ** 20)} MiB`;
}
