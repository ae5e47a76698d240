import { limits } from '../base/index.js';
import { DamagedObject, type BlobReference, type CodecPool } from '../repo/index.js';
import type { Flight } from './flight.js';
import type { LocalCache } from './local-cache.js';
import { Turnstile } from './turnstile.js';
import type { FetchClass } from './types.js';

export type WantedBlob = Pick<Flight, 'reference' | 'kind' | 'fetchClass'>;

/** Blobs out of the local cache, verified. */
export class LocalReads {
  readonly #codec: Pick<CodecPool, 'open' | 'openFile' | 'look'>;
  readonly #localCache: LocalCache;
  readonly #turns = new Turnstile(limits.localReadsInFlight);
  #hits = 0;

  constructor(options: {
    readonly codec: Pick<CodecPool, 'open' | 'openFile' | 'look'>;
    readonly localCache: LocalCache;
  }) {
    this.#codec = options.codec;
    this.#localCache = options.localCache;
  }

  get hits(): number {
    return this.#hits;
  }

  /** Which of the chunks are here, without keeping this thread. */
  held(references: readonly BlobReference[], fetchClass: FetchClass): Promise<readonly boolean[]> {
    const paths = references.map((reference) => this.#localCache.pathOf(reference, 'chunk'));
    return this.#codec.look(paths, { priority: fetchClass });
  }

  /** The plaintext, or undefined when it is not here; an entry that does not open is deleted. */
  async read(wanted: WantedBlob): Promise<Uint8Array | undefined> {
    if (!this.#localCache.has(wanted.reference, wanted.kind)) return undefined;
    return this.#turns.run(async () => {
      const plaintext = (await this.#openEntry(wanted)) ?? (await this.#openForeignEntry(wanted));
      if (plaintext !== undefined) this.#hits += 1;
      return plaintext;
    });
  }

  /**
   * The short way: a codec thread reads and opens the entry. Undefined where that did not come to anything; the long way
   * then tells an entry of another pack, which is as good, from one that is damaged or gone.
   */
  async #openEntry({ reference, kind, fetchClass }: WantedBlob): Promise<Uint8Array | undefined> {
    const place = kind === 'chunk' ? this.#localCache.place(reference, kind) : undefined;
    if (place === undefined) return undefined;
    return this.#codec.openFile({ ...place, reference, kind }, { priority: fetchClass });
  }

  async #openForeignEntry({ reference, kind, fetchClass }: WantedBlob): Promise<Uint8Array | undefined> {
    const cached = await this.#localCache.get(reference, kind);
    if (cached === undefined) return undefined;
    try {
      return await this.#codec.open(cached.sealed, cached.reference, kind, { priority: fetchClass });
    } catch (error) {
      if (!(error instanceof DamagedObject)) throw error;
      await this.#localCache.discardDamaged(reference, kind);
      return undefined;
    }
  }
}
