import { randomBytes } from 'node:crypto';
import createDebug from 'debug';
import { limits } from '../base/index.js';
import {
  applyDelta,
  decodeDelta,
  decodeDeltaIndex,
  firstBlobCounter,
  packKey,
  type BlobId,
  type BlobReference,
  type ChunkDelta,
  type CodecPool,
  type PackId,
} from '../repo/index.js';
import type { LinkEstimate } from './link-estimate.js';
import { endOf } from './pack-range.js';
import type { LocalReads } from './local-reads.js';
import type { Tier, TierBlob } from './tiers/tier.js';
import { Turnstile } from './turnstile.js';
import type { DeltaStatus, FetchClass } from './types.js';

const debug = createDebug('isr:fetch:deltas');

export interface DeltasOptions {
  readonly codec: Pick<CodecPool, 'open' | 'seal'>;
  readonly localReads: LocalReads;
  /** In the order in which they are asked. */
  readonly tiers: readonly Tier[];
  readonly link: LinkEstimate;
  /** Verified plaintext, from wherever it is. */
  readonly readBlob: (
    reference: BlobReference,
    kind: 'delta' | 'delta-index',
    fetchClass: FetchClass,
    signal: AbortSignal | undefined,
  ) => Promise<Uint8Array>;
}

/** Who wants a chunk. */
export interface DeltaClaim {
  readonly reference: BlobReference;
  readonly fetchClass: FetchClass;
  readonly signal: AbortSignal;
  /** The delta that is being fetched for it. */
  madeWith: BlobReference | undefined;
}

/**
 * Makes chunks out of earlier ones that are at hand (in the local cache, or at a lookaside place) and deltas, which are fetched
 * instead: after a few pages of a chunk changed, a small part of it crosses the link. What is made counts only if its id is
 * that of the chunk, so that neither a delta nor a base need be believed.
 */
export class Deltas {
  readonly #options: DeltasOptions;
  readonly #turns = new Turnstile(limits.deltasInFlight);
  #loading: Promise<void> | undefined;
  #index: ReadonlyMap<BlobId, ChunkDelta> = new Map();
  /** Of packs with deltas: where the last of them ends. */
  readonly #packEnds = new Map<PackId, number>();
  /** Chunks that were not what they were to be. */
  readonly #wrong = new Set<BlobId>();
  #chunks = 0;
  #savedBytes = 0;

  constructor(options: DeltasOptions) {
    this.#options = options;
  }

  status(): DeltaStatus {
    return { chunks: this.#chunks, savedBytes: this.#savedBytes };
  }

  /** Loads an index; until that has ended, chunks wait to learn whether they are in it. Never fails: without one there are no deltas. */
  use(index: BlobReference): void {
    this.#loading ??= this.#load(index);
  }

  /** Whether the index may name a delta for the chunk; false where it is known not to. */
  async names({ reference }: Pick<DeltaClaim, 'reference'>): Promise<boolean> {
    if (this.#loading !== undefined) await this.#loading;
    return this.#index.has(reference.id) && !this.#wrong.has(reference.id);
  }

  /** Up to where a pack has deltas; undefined where that is not known. */
  endOf(packId: PackId): number | undefined {
    return this.#packEnds.get(packId);
  }

  /**
   * The chunk, sealed for a pack of its own that never leaves this host; undefined where that cannot be done, or does not pay.
   * Rejects as reading a delta does.
   */
  async make(claim: DeltaClaim): Promise<TierBlob | undefined> {
    const { reference, signal } = claim;
    const known = this.#index.get(reference.id);
    if (known === undefined || !this.#pays(reference, known.delta)) return undefined;
    return this.#turns.run(async () => {
      const plaintext = await this.#chunk(known, claim, limits.deltaChainMax);
      if (plaintext === undefined || signal.aborted) return undefined;
      const packId = randomBytes(16).toString('hex') as PackId;
      const counter = firstBlobCounter;
      const sealing = { plaintext, kind: 'chunk', packId, counter } as const;
      const outcome = await this.#options.codec.seal(sealing, { priority: claim.fetchClass });
      if (outcome.outcome !== 'sealed' || outcome.id !== reference.id) {
        debug('the delta %s does not make the chunk %s', known.delta.id, reference.id);
        this.#wrong.add(reference.id);
        return undefined;
      }
      this.#chunks += 1;
      this.#savedBytes += reference.sealedBytes - known.delta.sealedBytes;
      const { sealed } = outcome;
      return { reference: { ...reference, packId, counter, sealedBytes: sealed.length }, sealed };
    }, signal);
  }

  async #load(index: BlobReference): Promise<void> {
    try {
      const plaintext = await this.#options.readBlob(index, 'delta-index', 'demand', undefined);
      const deltas = decodeDeltaIndex(plaintext, packKey(index.packId));
      this.#index = new Map(deltas.map((delta) => [delta.chunkId, delta]));
      for (const { delta } of deltas)
        this.#packEnds.set(delta.packId, Math.max(endOf(delta), this.#packEnds.get(delta.packId) ?? 0));
    } catch (error) {
      debug('without deltas: %o', error);
    } finally {
      this.#loading = undefined;
    }
  }

  /** Both cost a round trip. */
  #pays(chunk: BlobReference, delta: BlobReference): boolean {
    const { bytesPerMs } = this.#options.link;
    if (bytesPerMs === undefined) return true;
    return (chunk.sealedBytes - delta.sealedBytes) / bytesPerMs > limits.deltaMs;
  }

  async #chunk(
    { base, delta }: ChunkDelta,
    claim: DeltaClaim,
    chainMax: number,
  ): Promise<Uint8Array | undefined> {
    const before = await this.#base(base, claim, chainMax);
    if (before === undefined) return undefined;
    claim.madeWith = delta;
    try {
      const plaintext = await this.#options.readBlob(delta, 'delta', claim.fetchClass, claim.signal);
      const change = decodeDelta(plaintext, before.length, packKey(delta.packId));
      return change.baseId === base.id ? applyDelta(change, before) : undefined;
    } finally {
      claim.madeWith = undefined;
    }
  }

  /** The plaintext of an earlier chunk, where that needs nothing of the store but deltas. */
  async #base(base: BlobReference, claim: DeltaClaim, chainMax: number): Promise<Uint8Array | undefined> {
    const { localReads, tiers, codec, link } = this.#options;
    const { fetchClass, signal } = claim;
    const local = await localReads.read({ reference: base, kind: 'chunk', fetchClass });
    if (local !== undefined) return local;
    for (const tier of tiers) {
      if (tier.isSkipped || signal.aborted) continue;
      const storeMs = link.requestMs(base.sealedBytes);
      const found = await tier.find(base, 'chunk', { storeMs, signal });
      if (found === undefined) continue;
      try {
        return await codec.open(found.sealed, found.reference, 'chunk', { priority: fetchClass });
      } catch {
        tier.noteDamaged();
      }
    }
    const earlier = chainMax > 1 ? this.#index.get(base.id) : undefined;
    return earlier === undefined ? undefined : this.#chunk(earlier, claim, chainMax - 1);
  }
}
