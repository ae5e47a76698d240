import { limits, type Clock } from '../../base/index.js';
import type { BlobKind, BlobReference } from '../../repo/index.js';
import { AbortScope } from '../abort-scope.js';
import type { TierStatus } from '../types.js';

/** Sealed bytes as a tier has them, and the reference that they claim to open under. Not verified. */
export interface TierBlob {
  readonly reference: BlobReference;
  readonly sealed: Uint8Array;
}

/** A place that may have a blob. Undefined is a miss; whatever it throws is a failure of the place. */
export interface TierSource extends AsyncDisposable {
  find(reference: BlobReference, kind: BlobKind, signal: AbortSignal): Promise<TierBlob | undefined>;
}

/**
 * A lookaside place that is asked before the store, and left alone for a while when asking it costs more than it saves, or
 * it fails. Never an error: what it does not give comes from elsewhere.
 */
export class Tier implements AsyncDisposable {
  readonly #place: string;
  readonly #source: TierSource;
  readonly #clock: Clock;
  readonly #counts = { hits: 0, misses: 0, damaged: 0, failures: 0, bytes: 0 };
  /** Of the look-ups since it was last taken up: how many, and what they saved in all. */
  #lookUps = 0;
  #savedMs = 0;
  #skip: { readonly untilMs: number; readonly reason: string } | undefined;

  constructor(place: string, source: TierSource, clock: Clock) {
    this.#place = place;
    this.#source = source;
    this.#clock = clock;
  }

  get isSkipped(): boolean {
    if (this.#skip === undefined || this.#clock.now() < this.#skip.untilMs) return this.#skip !== undefined;
    this.#skip = undefined;
    return false;
  }

  /** @param storeMs what the store would take for it; undefined when that is not known */
  async find(
    reference: BlobReference,
    kind: BlobKind,
    { storeMs, signal }: { readonly storeMs: number | undefined; readonly signal: AbortSignal },
  ): Promise<TierBlob | undefined> {
    const startedAt = this.#clock.now();
    const scope = new AbortScope(signal);
    try {
      const late = this.#clock.delay(limits.tierTryMs, scope.signal).then(() => {
        throw new Error(`it did not answer within ${limits.tierTryMs} ms`);
      });
      late.catch(() => undefined);
      const blob = await Promise.race([this.#source.find(reference, kind, scope.signal), late]);
      this.#note(blob, this.#clock.now() - startedAt, storeMs);
      return blob;
    } catch (error) {
      if (signal.aborted) return undefined;
      this.#counts.failures += 1;
      this.#leaveAlone(error instanceof Error ? error.message : String(error));
      return undefined;
    } finally {
      scope.end();
    }
  }

  /** What it gave did not open. */
  noteDamaged(): void {
    this.#counts.damaged += 1;
  }

  status(): TierStatus {
    const skipped = this.isSkipped ? this.#skip : undefined;
    return {
      place: this.#place,
      ...this.#counts,
      skipped:
        skipped === undefined ? undefined : { until: new Date(skipped.untilMs), reason: skipped.reason },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#source[Symbol.asyncDispose]();
  }

  #note(blob: TierBlob | undefined, tookMs: number, storeMs: number | undefined): void {
    if (blob === undefined) this.#counts.misses += 1;
    else {
      this.#counts.hits += 1;
      this.#counts.bytes += blob.sealed.length;
    }
    if (storeMs === undefined) return;
    this.#lookUps += 1;
    this.#savedMs += (blob === undefined ? 0 : storeMs) - tookMs;
    if (this.#lookUps < limits.tierLookUpsJudged) return;
    if (this.#savedMs < 0) this.#leaveAlone('looking there costs more time than it saves');
    this.#lookUps = 0;
    this.#savedMs = 0;
  }

  #leaveAlone(reason: string): void {
    this.#skip = { untilMs: this.#clock.now() + limits.tierPauseMs, reason };
  }
}
