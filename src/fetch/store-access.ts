import { limits, type Clock } from '../base/index.js';
import { packKey } from '../repo/index.js';
import {
  ObjectChanged,
  StoreRefused,
  StoreUnreachable,
  type ObjectKey,
  type ObjectStore,
} from '../store/index.js';
import { AbortScope } from './abort-scope.js';
import type { Intake } from './blob-intake.js';
import { FetchCounts } from './fetch-counts.js';
import { LinkEstimate } from './link-estimate.js';
import { RequestSlots, type SlotClaim, type Turn } from './request-slots.js';
import { StoreGate, type Outage } from './store-gate.js';
import { readInTime, TryTimedOut, type Delivered } from './store-try.js';
import { HedgeBudget, TokenBucket } from './token-bucket.js';
import type { LinkCaps } from './types.js';
import type { WaitPart } from './wait-clock.js';

export interface StoreAccessOptions {
  readonly store: ObjectStore;
  readonly clock: Clock;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  readonly caps: LinkCaps;
}

/** Who wants something of the store, and is told what it waits for. */
export interface StoreClaim extends SlotClaim {
  enter(part: WaitPart): void;
  /** What was asked for last did not come. */
  wasted(): void;
}

/**
 * The store as fetches see it: requests wait for their turn, and for the store while it does not answer; they are made
 * again when an answer is lost or stands still, and a second time beside the first when a demand is slow. A request keeps
 * its turn until its answer has been dealt with, so that turns bound memory as well as connections.
 */
export class StoreAccess implements AsyncDisposable {
  readonly link = new LinkEstimate();
  readonly counts = new FetchCounts();
  readonly #store: ObjectStore;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #gate: StoreGate;
  readonly #slots: RequestSlots;
  readonly #hedges = new HedgeBudget({ share: limits.hedgeShare, size: limits.hedgesSaved });
  readonly #delivered: Delivered = { bytes: 0 };
  #bytesInFlight = 0;
  #bytesToCome = 0;

  constructor(options: StoreAccessOptions) {
    this.#store = options.store;
    this.#clock = options.clock;
    this.#random = options.random;
    this.#gate = new StoreGate(options);
    this.#slots = slotsFor(options, this.link);
  }

  get outage(): Outage | undefined {
    return this.#gate.outage;
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

  /** To be called when the class of a waiting claim was raised. */
  reconsider(): void {
    this.#slots.reconsider();
  }

  /**
   * Asks the store for what `begin` says when it is the claim's turn, once a try, and gives it what comes; when it says
   * nothing, there is nothing left to do. There may be two tries at once, of which the first to end in order decides. Waits
   * for a store that is unreachable or stands still (for demand also one that refuses); rejects with every other error of
   * the store, of the intake, and `Cancelled` when the claim's signal fires.
   */
  async fetch(claim: StoreClaim, begin: () => Intake | undefined): Promise<void> {
    const startedAt = this.#clock.now();
    const request: Request = { claim, begin, timeouts: 0, failures: 0 };
    try {
      for (;;) {
        if (this.#gate.outage !== undefined) claim.enter('retry');
        await this.#gate.whenOpen(claim.signal);
        claim.enter('queue');
        const outcome = await this.#slots.run(claim, (turn) => this.#serve(request, turn));
        if (outcome === 'done') return;
        if (outcome === 'failed') await this.#pause(request);
      }
    } finally {
      this.counts.waited(claim.fetchClass, this.#clock.now() - startedAt);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#slots[Symbol.dispose]();
    await this.#gate[Symbol.asyncDispose]();
  }

  async #serve(request: Request, turn: Turn): Promise<'done' | 'failed' | 'shut'> {
    // It may have been a while since the gate was open.
    if (this.#gate.outage !== undefined) return 'shut';
    const intake = request.begin();
    if (intake === undefined) return 'done';
    if (request.failures > 0) this.counts.trouble.retries += 1;
    request.claim.enter('roundTrip');
    try {
      await this.#raced(request, turn, intake);
      return 'done';
    } catch (error) {
      request.claim.wasted();
      if (!this.#isWorthAnotherTry(request, error, packKey(intake.range.packId))) throw error;
      return 'failed';
    }
  }

  /** One try, for a demand that is slow a second one. Whichever ends in order ends the other. */
  async #raced(request: Request, turn: Turn, intake: Intake): Promise<void> {
    const scope = new AbortScope(request.claim.signal);
    try {
      const first = this.#try(request, turn, intake, scope.signal);
      if (request.claim.fetchClass !== 'demand') {
        await first;
        return;
      }
      this.#hedges.earn();
      const second = this.#second(request, intake.range.lengthBytes, first, scope.signal);
      await firstToSucceed([first, second]);
    } finally {
      scope.end();
    }
  }

  /** Settles as the first try does, unless that is slow, a second one may be made, and that one succeeds. */
  async #second(
    request: Request,
    lengthBytes: number,
    first: Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    const slowMs = this.link.slowDemandMs(lengthBytes);
    if (slowMs === undefined) return first;
    const timer = new AbortScope(signal);
    const isOver = first.then(
      () => true,
      () => true,
    );
    const isSlow = this.#clock.delay(slowMs, timer.signal).then(
      () => false,
      () => true,
    );
    const wasInTime = await Promise.race([isOver, isSlow]);
    timer.end();
    if (wasInTime || this.#gate.outage !== undefined) return first;
    const hedge = this.#slots.runIfFree(request.claim, async (turn) => {
      const intake = request.begin();
      if (intake === undefined || !this.#hedges.spend()) return first;
      this.counts.trouble.hedges += 1;
      await this.#try(request, turn, intake, signal);
      this.counts.trouble.hedgesWon += 1;
    });
    return hedge ?? first;
  }

  async #try(request: Request, turn: Turn, intake: Intake, signal: AbortSignal): Promise<void> {
    const { fetchClass } = request.claim;
    const { lengthBytes, packId } = intake.range;
    const startedAt = this.#clock.now();
    let leftBytes = lengthBytes;
    this.counts.requested(fetchClass);
    this.#bytesInFlight += lengthBytes;
    this.#bytesToCome += lengthBytes;
    try {
      await readInTime({
        ...{ store: this.#store, clock: this.#clock, link: this.link, delivered: this.#delivered },
        ...{ key: packKey(packId), range: intake.range, signal },
        patienceMs: () => this.link.patienceMs(this.#bytesToCome, request.timeouts),
        onPiece: (piece) => {
          if (leftBytes === lengthBytes) request.claim.enter('transfer');
          leftBytes -= piece.length;
          this.#bytesToCome -= piece.length;
          turn.arrived(piece.length);
          this.counts.received(fetchClass, piece.length);
          intake.add(piece);
        },
      });
      this.#gate.succeeded();
      if (fetchClass === 'demand') this.link.noteDemand(this.#clock.now() - startedAt, lengthBytes);
      await intake.end();
    } finally {
      this.#bytesToCome -= leftBytes;
      this.#bytesInFlight -= lengthBytes;
    }
  }

  /** Notes a failure that may pass. A store that refuses does so until somebody acts: only a guest waits for that. */
  #isWorthAnotherTry(request: Request, error: unknown, key: ObjectKey): boolean {
    const { trouble } = this.counts;
    const probe = (signal: AbortSignal): Promise<Error | undefined> => this.#probe(key, signal);
    if (error instanceof StoreRefused) {
      trouble.refused += 1;
      if (request.claim.fetchClass !== 'demand') return false;
      this.#gate.shut(error, probe);
    } else if (error instanceof StoreUnreachable) {
      trouble.unreachable += 1;
      this.#gate.failed(error, probe);
    } else if (error instanceof ObjectChanged) {
      // A copy made anew has other validators and the same content, or does not open.
      trouble.changed += 1;
      this.#gate.failed(error, probe);
    } else if (error instanceof TryTimedOut) {
      trouble.timeouts += 1;
      request.timeouts += 1;
      this.#gate.failed(error, probe);
    } else return false;
    request.failures += 1;
    return true;
  }

  /** Anything but silence and refusal is an answer: what it means is for the requests to find out. */
  async #probe(key: ObjectKey, signal: AbortSignal): Promise<Error | undefined> {
    const scope = new AbortScope(signal);
    const ms = limits.storePatience.tryMsMax;
    const silence = this.#clock.delay(ms, scope.signal).then(
      () => new TryTimedOut(ms),
      () => undefined,
    );
    const answer = this.#store.stat(key, { signal: scope.signal }).then(
      () => undefined,
      (error: unknown) =>
        error instanceof StoreUnreachable || error instanceof StoreRefused ? error : undefined,
    );
    try {
      return await Promise.race([answer, silence]);
    } finally {
      scope.end();
    }
  }

  /** Before a request is made again: longer each time, and never at the same moment as others. */
  async #pause({ claim, failures }: Request): Promise<void> {
    if (this.#gate.outage !== undefined) return;
    const fullMs = Math.min(limits.requestRetryMsMax, limits.requestRetryMs * 2 ** (failures - 1));
    // Whoever gives up is told so by what comes next.
    await this.#clock.delay(fullMs * (0.5 + this.#random() / 2), claim.signal).catch(() => undefined);
  }
}

/** A request until it has its answer, over all its tries. */
interface Request {
  readonly claim: StoreClaim;
  readonly begin: () => Intake | undefined;
  timeouts: number;
  failures: number;
}

function slotsFor({ clock, caps }: StoreAccessOptions, link: LinkEstimate): RequestSlots {
  const total = caps.requestsInFlight ?? limits.storeRequestsInFlight;
  const bucket = (bytesPerSecond: number | undefined): TokenBucket | undefined =>
    bytesPerSecond === undefined
      ? undefined
      : new TokenBucket({ perSecond: bytesPerSecond, size: bytesPerSecond * limits.capBurstSeconds, clock });
  return new RequestSlots({
    total,
    reservedForDemand: Math.min(limits.storeRequestsReservedForDemand, total - 1),
    background: limits.storeRequestsBackground,
    backgroundDuringDemand: limits.storeRequestsBackgroundDuringDemand,
    demandLingerMs: limits.demandLingerMs,
    windowBytes: (isDemandExpected) => (isDemandExpected ? link.windowBesideDemandBytes : link.windowBytes),
    buckets: { all: bucket(caps.bytesPerSecond), background: bucket(caps.backgroundBytesPerSecond) },
    clock,
  });
}

/** Settles as the first that succeeds, or as the first of all when none does. */
async function firstToSucceed(attempts: readonly Promise<void>[]): Promise<void> {
  try {
    await Promise.any(attempts);
  } catch (error) {
    throw error instanceof AggregateError ? error.errors[0] : error;
  }
}
