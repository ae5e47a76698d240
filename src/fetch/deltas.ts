import { randomBytes } from 'node:crypto';
import createDebug from 'debug';
import { LRUCache } from 'lru-cache';
import { Cancelled, limits, type Clock } from '../base/index.js';
import {
  applyDelta,
  decodeDeltaIndex,
  firstBlobCounter,
  packKey,
  type BlobId,
  type BlobReference,
  type ChunkDelta,
  type CodecPool,
  type PackId,
} from '../repo/index.js';
import { AbortScope } from './abort-scope.js';
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
  /** Whether a chunk is in the local cache. */
  readonly isHeld: (reference: BlobReference) => boolean;
  /** In the order in which they are asked. */
  readonly tiers: readonly Tier[];
  readonly link: LinkEstimate;
  readonly clock: Clock;
  /** Verified plaintext, from wherever it is. */
  readonly readBlob: (
    reference: BlobReference,
    kind: 'delta' | 'delta-index',
    fetchClass: FetchClass,
    signal: AbortSignal | undefined,
  ) => Promise<Uint8Array>;
}

/** How a chunk can be made: of a base that is here, by deltas that are applied one after the other. */
interface Recipe {
  readonly base: BlobReference;
  readonly plaintext: Promise<Uint8Array | undefined>;
  readonly deltas: readonly ChunkDelta[];
}

/**
 * Makes chunks out of earlier ones that are at hand (in the local cache, or at a lookaside place) and deltas, which are fetched
 * instead: of a chunk that changed a little, a small part crosses the link. What is made counts only if its id is that of the
 * chunk, so that neither a delta nor a base need be believed. Nobody depends on it: what cannot be made soon is fetched.
 */
export class Deltas {
  readonly #options: DeltasOptions;
  /** For all but demand. */
  readonly #turns = new Turnstile(limits.deltasInFlight);
  #index: ReadonlyMap<BlobId, ChunkDelta> = new Map();
  /** Of packs with deltas: where the last of them ends. */
  readonly #packEnds = new Map<PackId, number>();
  /** Chunks that could not be made a while ago. */
  readonly #unmade = new LRUCache<BlobId, true>({
    max: limits.deltaIndexEntries,
    ttl: limits.tierMemoryMs,
  });
  /** Resolves when the index is there, or was waited for long enough. */
  #patience: Promise<void> | undefined;
  #chunks = 0;
  #savedBytes = 0;

  constructor(options: DeltasOptions) {
    this.#options = options;
  }

  status(): DeltaStatus {
    return { known: this.#index.size, chunks: this.#chunks, savedBytes: this.#savedBytes };
  }

  /** Loads an index. Never fails: while it is not there, there are no deltas. */
  use(index: BlobReference): void {
    const scope = new AbortScope(undefined);
    const late = this.#options.clock.delay(limits.deltaIndexMs, scope.signal).catch(() => undefined);
    this.#patience = Promise.race([this.#load(index), late]).finally(() => {
      this.#patience = undefined;
      scope.end();
    });
  }

  /** Whether there is a delta for the chunk. An index that is on its way is waited for, a little. */
  async knows({ id }: BlobReference): Promise<boolean> {
    if (this.#patience !== undefined) await this.#patience;
    return this.#index.has(id) && !this.#unmade.has(id);
  }

  /** Up to where a pack has deltas; undefined where that is not known. */
  packEnd(packId: PackId): number | undefined {
    return this.#packEnds.get(packId);
  }

  /**
   * The chunk, sealed for a pack of its own that is nowhere; undefined where that cannot be done in time, or does not pay.
   * `Cancelled` when the signal fires. Only demand does not wait for a turn.
   */
  async make(
    reference: BlobReference,
    fetchClass: FetchClass,
    signal: AbortSignal,
  ): Promise<TierBlob | undefined> {
    if (fetchClass === 'demand') return this.#makeInTime(reference, fetchClass, signal);
    return this.#turns.run(() => this.#makeInTime(reference, fetchClass, signal), signal);
  }

  async #load(index: BlobReference): Promise<void> {
    try {
      const plaintext = await this.#options.readBlob(index, 'delta-index', 'around', undefined);
      const deltas = decodeDeltaIndex(plaintext, packKey(index.packId));
      this.#index = new Map(deltas.map((delta) => [delta.chunkId, delta]));
      for (const { delta } of deltas)
        this.#packEnds.set(delta.packId, Math.max(endOf(delta), this.#packEnds.get(delta.packId) ?? 0));
    } catch (error) {
      debug('without deltas: %o', error);
    }
  }

  async #makeInTime(
    reference: BlobReference,
    fetchClass: FetchClass,
    signal: AbortSignal,
  ): Promise<TierBlob | undefined> {
    const scope = new AbortScope(signal);
    const { clock } = this.#options;
    try {
      const late = clock.delay(limits.deltaTryMs, scope.signal).then(() => {
        throw new Error(`it took more than ${limits.deltaTryMs} ms`);
      });
      late.catch(() => undefined);
      return await Promise.race([this.#make(reference, fetchClass, scope.signal), late]);
    } catch (error) {
      if (signal.aborted) throw new Cancelled('Making a chunk');
      debug('the chunk %s cannot be made: %o', reference.id, error);
      this.#unmade.set(reference.id, true);
      return undefined;
    } finally {
      scope.end();
    }
  }

  async #make(
    reference: BlobReference,
    fetchClass: FetchClass,
    signal: AbortSignal,
  ): Promise<TierBlob | undefined> {
    const recipe = await this.#recipe(reference, fetchClass, signal);
    if (recipe === undefined) return undefined;
    const { base, deltas } = recipe;
    const [before, ...changes] = await Promise.all([
      recipe.plaintext,
      ...deltas.map(({ delta }) => this.#options.readBlob(delta, 'delta', fetchClass, signal)),
    ]);
    if (before === undefined) return undefined;
    let chunk = before;
    let baseId = base.id;
    for (const [position, { chunkId, delta }] of deltas.entries()) {
      const change = changes[position];
      if (change !== undefined) chunk = applyDelta(change, baseId, chunk, packKey(delta.packId));
      baseId = chunkId;
    }
    const packId = randomBytes(16).toString('hex') as PackId;
    const sealing = { plaintext: chunk, kind: 'chunk', packId, counter: firstBlobCounter } as const;
    const outcome = await this.#options.codec.seal(sealing, { priority: fetchClass });
    if (outcome.outcome !== 'sealed' || outcome.id !== reference.id)
      throw new Error('what its deltas make is something else');
    // It is begun again.
    if (signal.aborted) throw new Cancelled('Making a chunk');
    this.#chunks += 1;
    this.#savedBytes += reference.sealedBytes - sealedBytesOf(deltas);
    const { sealed } = outcome;
    const place = { packId, counter: firstBlobCounter, sealedBytes: sealed.length };
    return { reference: { ...reference, ...place }, sealed };
  }

  /** Of the nearest base that is here; lookaside places are asked for where the local cache has none. */
  async #recipe(
    { id, sealedBytes }: BlobReference,
    fetchClass: FetchClass,
    signal: AbortSignal,
  ): Promise<Recipe | undefined> {
    const { isHeld, localReads } = this.#options;
    // From the chunk back to ever earlier ones.
    const way: ChunkDelta[] = [];
    for (let step = this.#index.get(id); step !== undefined; step = this.#index.get(step.base.id)) {
      const { base } = step;
      const isCircle = base.id === id || way.some(({ chunkId }) => chunkId === base.id);
      if (isCircle || way.length === limits.deltaChainMax) break;
      way.push(step);
      if (!this.#pays(sealedBytes, way)) break;
      if (!isHeld(base)) continue;
      const plaintext = localReads.read({ reference: base, kind: 'chunk', fetchClass });
      return { base, plaintext, deltas: way.toReversed() };
    }
    for (const [position, { base }] of way.entries()) {
      const deltas = way.slice(0, position + 1);
      if (!this.#pays(sealedBytes, deltas)) return undefined;
      const plaintext = await this.#atTier(base, fetchClass, signal);
      if (plaintext !== undefined)
        return { base, plaintext: Promise.resolve(plaintext), deltas: deltas.toReversed() };
    }
    return undefined;
  }

  /** They are asked for at once, so that all ways cost a round trip. */
  #pays(chunkBytes: number, deltas: readonly ChunkDelta[]): boolean {
    const { bytesPerMs } = this.#options.link;
    const savedBytes = chunkBytes - sealedBytesOf(deltas);
    return savedBytes > 0 && (bytesPerMs === undefined || savedBytes / bytesPerMs > limits.deltaMs);
  }

  /** A miss says nothing of whether the place pays: nobody asked it for what is wanted. */
  async #atTier(
    base: BlobReference,
    fetchClass: FetchClass,
    signal: AbortSignal,
  ): Promise<Uint8Array | undefined> {
    const { tiers, codec } = this.#options;
    for (const tier of tiers) {
      if (tier.isSkipped) continue;
      const found = await tier.find(base, 'chunk', { storeMs: undefined, signal });
      if (found === undefined) continue;
      try {
        return await codec.open(found.sealed, found.reference, 'chunk', { priority: fetchClass });
      } catch {
        tier.noteDamaged();
      }
    }
    return undefined;
  }
}

function sealedBytesOf(deltas: readonly ChunkDelta[]): number {
  return deltas.reduce((sum, { delta }) => sum + delta.sealedBytes, 0);
}
