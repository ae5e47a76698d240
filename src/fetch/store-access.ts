import { limits, type Clock } from '../base/index.js';
import { packKey, type PackId } from '../repo/index.js';
import {
  ObjectChanged,
  StoreRefused,
  StoreUnreachable,
  type ByteRange,
  type ObjectKey,
  type ObjectStore,
} from '../store/index.js';
import { RequestSlots, type SlotClaim } from './request-slots.js';
import { StoreGate, type Outage, type Probe } from './store-gate.js';
import type { FetchClass, FetchClassStatus } from './types.js';

/** Bytes of one pack. */
export interface PackRange extends ByteRange {
  readonly packId: PackId;
}

/**
 * The store as fetches see it: requests wait for their turn, and for the store while it does not answer. A request
 * keeps its turn until its answer has been dealt with, so that turns bound memory as well as connections.
 */
export class StoreAccess implements AsyncDisposable {
  readonly #store: ObjectStore;
  readonly #clock: Clock;
  readonly #gate: StoreGate;
  readonly #slots = new RequestSlots({
    total: limits.storeRequestsInFlight,
    reservedForDemand: limits.storeRequestsReservedForDemand,
    background: limits.storeRequestsBackground,
    backgroundDuringDemand: limits.storeRequestsBackgroundDuringDemand,
  });
  readonly #counts: Record<FetchClass, { requests: number; bytes: number; waitMs: number }> = {
    demand: { requests: 0, bytes: 0, waitMs: 0 },
    replay: { requests: 0, bytes: 0, waitMs: 0 },
    background: { requests: 0, bytes: 0, waitMs: 0 },
  };
  #repeatedRequests = 0;
  #bytesInFlight = 0;

  constructor(options: {
    readonly store: ObjectStore;
    readonly clock: Clock;
    readonly random: () => number;
  }) {
    this.#store = options.store;
    this.#clock = options.clock;
    this.#gate = new StoreGate(options);
  }

  get outage(): Outage | undefined {
    return this.#gate.outage;
  }

  get repeatedRequests(): number {
    return this.#repeatedRequests;
  }

  get requestsInFlight(): number {
    return this.#slots.running;
  }

  get requestsQueued(): number {
    return this.#slots.waiting;
  }

  get bytesInFlight(): number {
    return this.#bytesInFlight;
  }

  counts(): Readonly<Record<FetchClass, FetchClassStatus>> {
    const { demand, replay, background } = this.#counts;
    return { demand: { ...demand }, replay: { ...replay }, background: { ...background } };
  }

  /** To be called when the class of a waiting claim was raised. */
  reconsider(): void {
    this.#slots.reconsider();
  }

  /**
   * Gets a range of a pack and gives it to `take`, whose outcome is the outcome. `choose` is asked when it is the
   * claim's turn, once an attempt; when it chooses nothing, the result is undefined. Waits for a store that is
   * unreachable (for demand also one that refuses); rejects with every other error of the store, of `take`, and
   * `Cancelled` when the claim's signal fires.
   */
  async fetch<T>(
    claim: SlotClaim,
    choose: () => PackRange | undefined,
    take: (bytes: Uint8Array, range: PackRange) => Promise<T>,
  ): Promise<T | undefined> {
    const startedAt = this.#clock.now();
    try {
      for (;;) {
        await this.#gate.whenOpen(claim.signal);
        const attempt = await this.#slots.run(claim, () => this.#attempt(claim, choose, take));
        if (attempt !== 'again') return attempt.taken;
      }
    } finally {
      this.#counts[claim.fetchClass].waitMs += this.#clock.now() - startedAt;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#gate[Symbol.asyncDispose]();
  }

  async #attempt<T>(
    claim: SlotClaim,
    choose: () => PackRange | undefined,
    take: (bytes: Uint8Array, range: PackRange) => Promise<T>,
  ): Promise<{ readonly taken: T | undefined } | 'again'> {
    // It may have been a while since the gate was open.
    if (this.#gate.outage !== undefined) return 'again';
    const range = choose();
    if (range === undefined) return { taken: undefined };
    this.#bytesInFlight += range.lengthBytes;
    try {
      const bytes = await this.#get(claim, range);
      return bytes === undefined ? 'again' : { taken: await take(bytes, range) };
    } finally {
      this.#bytesInFlight -= range.lengthBytes;
    }
  }

  /** The bytes, or undefined when the request is to be made again once the gate is open. */
  async #get(claim: SlotClaim, range: PackRange): Promise<Uint8Array | undefined> {
    const key = packKey(range.packId);
    const counts = this.#counts[claim.fetchClass];
    counts.requests += 1;
    try {
      const bytes = await this.#store.get(key, range, { signal: claim.signal });
      counts.bytes += bytes.length;
      this.#gate.succeeded();
      return bytes;
    } catch (error) {
      if (!isWorthWaiting(error, claim.fetchClass)) throw error;
      this.#repeatedRequests += 1;
      this.#gate.shut(error, this.#probe(key));
      return undefined;
    }
  }

  /** Anything but silence and refusal is an answer: what it means is for the requests to find out. */
  #probe(key: ObjectKey): Probe {
    return async (signal) => {
      try {
        await this.#store.stat(key, { signal });
        return undefined;
      } catch (error) {
        return isWorthWaiting(error, 'demand') ? error : undefined;
      }
    };
  }
}

/**
 * A store that refuses does so until somebody acts: a guest waits for that rather than dying, other fetches say it. An
 * object that changed is asked for again: a copy made anew has other validators and the same content, or does not open.
 */
function isWorthWaiting(
  error: unknown,
  fetchClass: FetchClass,
): error is StoreUnreachable | StoreRefused | ObjectChanged {
  if (error instanceof StoreUnreachable || error instanceof ObjectChanged) return true;
  return error instanceof StoreRefused && fetchClass === 'demand';
}
