import type { Clock } from '../../base/index.js';
import { localDirectoryOf, openStore } from '../../store/index.js';
import { CacheTier } from './cache-tier.js';
import { cacheAt } from './lookaside-directory.js';
import { StoreTier } from './store-tier.js';
import { Tier, type TierSource } from './tier.js';

/**
 * Opens a lookaside place: the directory of a local cache (or a home of isr with one in it), or a copy of the repository by
 * URL or path. One that is not there now is looked for again when it is asked.
 */
export function openTier(place: string, clock: Clock): Tier {
  return new Tier(place, new LateSource(place), clock);
}

/** Opens the place when it is first asked, again and again until that succeeds. */
class LateSource implements TierSource {
  readonly #place: string;
  #source: Promise<TierSource> | undefined;

  constructor(place: string) {
    this.#place = place;
  }

  async find(...parameters: Parameters<TierSource['find']>): ReturnType<TierSource['find']> {
    this.#source ??= openSource(this.#place).catch((error: unknown) => {
      this.#source = undefined;
      throw error;
    });
    return (await this.#source).find(...parameters);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const source = await this.#source?.catch(() => undefined);
    await source?.[Symbol.asyncDispose]();
  }
}

async function openSource(place: string): Promise<TierSource> {
  const directory = localDirectoryOf(place);
  if (directory !== undefined) {
    const cache = cacheAt(directory);
    if (cache !== undefined) return new CacheTier(cache);
  }
  return new StoreTier(await openStore(place));
}
