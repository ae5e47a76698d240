import { limits } from '../base/index.js';

/**
 * What the link to the store is like, learned from the answers that came over it: round trip, how far that strays,
 * bandwidth, and how long a demand takes. Everything that must fit the link (the length of ranges, how much is asked for
 * at once, how long to be patient, when a second request is worth its cost) is worked out here.
 */
export class LinkEstimate {
  readonly #firstByteMs = new Recent(limits.linkSamples);
  readonly #rates = new Recent(limits.linkSamples);
  readonly #demandMs = new Recent(limits.linkDemandSamples);
  #smoothedMs: number | undefined;
  #deviationMs = 0;

  /** From sending a request to the first piece of its answer. `bytesPerMs`: of what came after it, if anything did. */
  noteFirstPiece(latencyMs: number, pieceBytes: number, bytesPerMs?: number): void {
    const rate = this.bytesPerMs ?? bytesPerMs;
    const ms = Math.max(0, rate === undefined ? latencyMs : latencyMs - pieceBytes / rate);
    this.#firstByteMs.add(ms);
    // As TCP smooths its round trip (RFC 6298).
    if (this.#smoothedMs === undefined) {
      this.#smoothedMs = ms;
      this.#deviationMs = ms / 2;
      return;
    }
    this.#deviationMs += (Math.abs(this.#smoothedMs - ms) - this.#deviationMs) / 4;
    this.#smoothedMs += (ms - this.#smoothedMs) / 8;
  }

  /**
   * What all requests together brought while one of them was being answered. A short answer says something about
   * bandwidth only where it took long.
   */
  noteTransfer(lengthBytes: number, elapsedMs: number): void {
    const { bytesMin, shortBytesMin, shortMsMin } = limits.linkRateSample;
    const wasSlow = elapsedMs >= Math.max(shortMsMin, 5 * (this.roundTripMs ?? 0));
    const isTelling = lengthBytes >= bytesMin || (lengthBytes >= shortBytesMin && wasSlow);
    if (isTelling && elapsedMs > 0) this.#rates.add(lengthBytes / elapsedMs);
  }

  /** From sending a demand of so many bytes until they were here. */
  noteDemand(elapsedMs: number, lengthBytes: number): void {
    this.#demandMs.add(Math.max(0, elapsedMs - this.#transferMs(lengthBytes)));
  }

  /** An unhurried round trip; undefined before the first answer. */
  get roundTripMs(): number | undefined {
    return this.#firstByteMs.quantile(0.1);
  }

  /** What the link carries when it is busy; undefined while too little was seen. */
  get bytesPerMs(): number | undefined {
    return this.#rates.quantile(0.75);
  }

  /** What an unhurried request of this length takes; undefined before the first answer. */
  requestMs(lengthBytes: number): number | undefined {
    return this.roundTripMs === undefined ? undefined : this.roundTripMs + this.#transferMs(lengthBytes);
  }

  /**
   * How long a request may bring next to nothing before it is given up, with so many bytes to come before and with it.
   * Doubled for each try that ended so, because the link may have become slower than anything that was seen.
   */
  patienceMs(bytesToCome: number, timeouts: number): number {
    const { tryMs, tryMsMax, tryMsLongest } = limits.storePatience;
    const patience =
      this.#smoothedMs === undefined
        ? tryMsMax
        : 4 * (this.#smoothedMs + 4 * this.#deviationMs + this.#transferMs(bytesToCome));
    return Math.min(tryMsLongest, Math.min(tryMsMax, Math.max(tryMs, patience)) * 2 ** timeouts);
  }

  /** How long a demand takes that is slower than nearly all; undefined while too few were seen to tell. */
  slowDemandMs(lengthBytes: number): number | undefined {
    if (this.#demandMs.count < limits.linkDemandSamplesMin) return undefined;
    const usualMs = (this.#demandMs.quantile(0.95) ?? Infinity) + this.#transferMs(lengthBytes);
    return Math.max(limits.hedgeDelayMsMin, usualMs * limits.hedgeDelayFactor);
  }

  /** The length of a range that is not demand: long enough that its round trip is a small part of its time. */
  get rangeBytes(): number {
    const bytes = this.#bytesIn(4 * (this.roundTripMs ?? 0), limits.warmRangeMsMin);
    if (bytes === undefined) return limits.warmRangeBytes;
    return Math.min(limits.warmRangeBytesMax, Math.max(limits.warmRangeBytesMin, bytes));
  }

  /**
   * The length of a range that is replayed: a guest is about to want something that nobody foresaw, which then waits behind it. Two
   * of these keep the link busy.
   */
  get replayRangeBytes(): number {
    const { bytesUnknown, bytesMin, msMin } = limits.replayRange;
    const bytes = this.#bytesIn((this.roundTripMs ?? 0) / 2, msMin) ?? bytesUnknown;
    return Math.min(limits.warmRangeBytesMax, Math.max(bytesMin, bytes));
  }

  /** Bytes of ranges to have on their way while a guest waits: what the link holds, so that little queues up before its demand. */
  get windowBesideDemandBytes(): number {
    const { bytesUnknown, bytesMin, msMin } = limits.replayRange;
    return Math.max(bytesMin, this.#bytesIn(1.25 * (this.roundTripMs ?? 0), msMin) ?? 2 * bytesUnknown);
  }

  /** Bytes of ranges to have on their way: what keeps the link busy, and no more, since a demand waits behind them. */
  get windowBytes(): number {
    const bytes = this.#bytesIn(2 * (this.roundTripMs ?? 0), limits.warmRangeMsMin / 2);
    return bytes === undefined ? Infinity : Math.max(limits.warmRangeBytesMin, bytes);
  }

  /**
   * What may come along with something that is waited for, because it may be wanted soon: what the link carries in so many
   * round trips, which on a slow one is next to nothing. Undefined while that is not known.
   */
  spareBytes(roundTrips: number): number | undefined {
    const bytes = this.#bytesIn(roundTrips * (this.roundTripMs ?? 0), 0);
    return bytes === undefined ? undefined : Math.floor(bytes);
  }

  #transferMs(lengthBytes: number): number {
    return lengthBytes / (this.bytesPerMs ?? Infinity);
  }

  /** What the link carries in a time; undefined while that is not known. */
  #bytesIn(ms: number, msMin: number): number | undefined {
    return this.bytesPerMs === undefined ? undefined : this.bytesPerMs * Math.max(ms, msMin);
  }
}

/** The last so many numbers. */
class Recent {
  readonly #size: number;
  readonly #values: number[] = [];
  #next = 0;
  /** In ascending order, made when it is asked for. */
  #sorted: readonly number[] | undefined;

  constructor(size: number) {
    this.#size = size;
  }

  get count(): number {
    return this.#values.length;
  }

  add(value: number): void {
    this.#values[this.#next] = value;
    this.#next = (this.#next + 1) % this.#size;
    this.#sorted = undefined;
  }

  quantile(share: number): number | undefined {
    this.#sorted ??= this.#values.toSorted((a, b) => a - b);
    return this.#sorted[Math.min(this.#sorted.length - 1, Math.floor(share * this.#sorted.length))];
  }
}
