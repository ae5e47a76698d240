import { limits } from '../base/index.js';
import type { FetchClass } from './types.js';
import {
  monotonicUs,
  noTime,
  WaitClock,
  waitParts,
  type MonotonicUs,
  type WaitPart,
  type WaitParts,
  type WaitSums,
} from './wait-clock.js';

/** What a program asked for, and could not be given at once. */
export interface StalledRequest {
  readonly path: string;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly access: 'read' | 'write' | 'seek';
}

/** One request of a program that waits. */
export interface DemandWait {
  /** A clock for one of the chunks that it waits for; told with `settled` when that is here. */
  chunk(chunkIndex: number): WaitClock;
  /** Whether a replay is going to bring the chunk. */
  isForeseen(chunkIndex: number): boolean;
  settled(chunkIndex: number, clock: WaitClock): void;
  /** It is answered. Once. */
  end(): void;
}

/** Told of requests that have to wait. */
export interface StallListener {
  begin(request: StalledRequest): DemandWait;
}

/** A request that waited, and what for. Of several chunks that it waited for at once, the one that came last counts. */
export interface StallFacts extends StalledRequest {
  /** Of the file: the one that came last. Undefined if none was waited for in the end. */
  readonly chunkIndex: number | undefined;
  /** Since the record began. */
  readonly atMs: number;
  readonly durationMs: number;
  /** Add up to the duration. */
  readonly partsMs: WaitParts;
  /** Of the duration: waiting for nodes of the file's map. */
  readonly mapMs: number;
  /** The class of a fetch of the chunk that was under way already. */
  readonly joined: FetchClass | undefined;
}

export interface Stall<Cause extends string> extends StallFacts {
  readonly cause: Cause;
}

/** Of several requests. Sums count each on its own, however many waited at the same time. */
export interface StallSums {
  readonly stalls: number;
  readonly durationMs: number;
  /** Add up to the duration. */
  readonly partsMs: WaitParts;
}

export interface StallReport<Cause extends string> extends StallSums {
  /** Since the record began, in which at least one request waited. */
  readonly wallMs: number;
  /** How long it has been kept. */
  readonly elapsedMs: number;
  readonly causes: readonly (StallSums & { readonly cause: Cause })[];
  /** Of more than `limits.stallFiles` the rest is under an empty path. */
  readonly files: readonly (StallSums & { readonly path: string })[];
  /** In the order of time: of more than `limits.stallsRecorded` the longest. */
  readonly longest: readonly Stall<Cause>[];
}

interface Sums {
  stalls: number;
  us: number;
  readonly parts: WaitSums;
}

/**
 * What programs waited for, always recorded: sums by cause and by file, and the longest waits one by one. Costs a few
 * microseconds a wait, and a bounded amount of memory (about `limits.stallsRecorded` times 300 bytes).
 */
export class StallRecord<Cause extends string> implements StallListener {
  readonly #causeOf: (facts: StallFacts) => Cause;
  readonly #isForeseen: (path: string, chunkIndex: number) => boolean;
  readonly #now: MonotonicUs;
  readonly #startUs: number;
  readonly #total: Sums = noSums();
  readonly #causes = new Map<Cause, Sums>();
  readonly #files = new Map<string, Sums>();
  /** A heap: the shortest first. */
  readonly #longest: Stall<Cause>[] = [];
  #waiting = 0;
  #waitingSinceUs = 0;
  #wallUs = 0;

  /** `earlier`: what an earlier process has recorded of the same time. `causeOf` must not throw. */
  constructor(options: {
    readonly causeOf: (facts: StallFacts) => Cause;
    readonly isForeseen?: (path: string, chunkIndex: number) => boolean;
    readonly now?: MonotonicUs;
    readonly earlier?: { readonly report: StallReport<Cause>; readonly elapsedMs: number };
  }) {
    this.#causeOf = options.causeOf;
    this.#isForeseen = options.isForeseen ?? (() => false);
    this.#now = options.now ?? monotonicUs;
    const { earlier } = options;
    this.#startUs = this.#now() - toUs(earlier?.elapsedMs ?? 0);
    if (earlier !== undefined) this.#takeOver(earlier.report);
  }

  begin(request: StalledRequest): DemandWait {
    const startUs = this.#now();
    if (this.#waiting === 0) this.#waitingSinceUs = startUs;
    this.#waiting += 1;
    let last: { readonly chunkIndex: number; readonly clock: WaitClock } | undefined;
    return {
      chunk: () => new WaitClock(startUs, this.#now),
      isForeseen: (chunkIndex) => this.#isForeseen(request.path, chunkIndex),
      settled: (chunkIndex, clock) => (last = { chunkIndex, clock }),
      end: () => {
        const clock = last?.clock ?? new WaitClock(startUs, this.#now);
        this.#add(request, last?.chunkIndex, startUs, clock);
      },
    };
  }

  report(): StallReport<Cause> {
    const nowUs = this.#now();
    const openUs = this.#waiting === 0 ? 0 : nowUs - this.#waitingSinceUs;
    return {
      ...asSums(this.#total),
      wallMs: toMs(this.#wallUs + openUs),
      elapsedMs: toMs(nowUs - this.#startUs),
      causes: [...this.#causes].map(([cause, sums]) => ({ cause, ...asSums(sums) })).sort(byDuration),
      files: [...this.#files].map(([path, sums]) => ({ path, ...asSums(sums) })).sort(byDuration),
      longest: this.#longest.toSorted((one, other) => one.atMs - other.atMs),
    };
  }

  #add(request: StalledRequest, chunkIndex: number | undefined, startUs: number, clock: WaitClock): void {
    const { parts, mapUs, joined } = clock.read();
    const endUs = this.#now();
    // Reading the clock and this took a moment that belongs to nobody else.
    const us = endUs - startUs;
    const counted: WaitParts = { ...parts, daemon: parts.daemon + us - totalOf(parts) };
    this.#waiting -= 1;
    if (this.#waiting === 0) this.#wallUs += endUs - this.#waitingSinceUs;
    const facts: StallFacts = {
      ...request,
      chunkIndex,
      atMs: toMs(startUs - this.#startUs),
      durationMs: toMs(us),
      partsMs: inMs(counted),
      mapMs: toMs(mapUs),
      joined,
    };
    const cause = this.#causeOf(facts);
    const isFileKnown = this.#files.has(request.path) || this.#files.size < limits.stallFiles;
    for (const sums of [
      this.#total,
      sumsOf(this.#causes, cause),
      sumsOf(this.#files, isFileKnown ? request.path : ''),
    ]) {
      sums.stalls += 1;
      sums.us += us;
      for (const part of waitParts) sums.parts[part] += counted[part];
    }
    this.#keepIfLong({ ...facts, cause });
  }

  #keepIfLong(stall: Stall<Cause>): void {
    const heap = this.#longest;
    if (heap.length < limits.stallsRecorded) {
      heap.push(stall);
      this.#rise(heap.length - 1);
      return;
    }
    const [shortest] = heap;
    if (shortest === undefined || shortest.durationMs >= stall.durationMs) return;
    heap[0] = stall;
    this.#sink();
  }

  #rise(from: number): void {
    const heap = this.#longest;
    for (let at = from; at > 0;) {
      const above = (at - 1) >> 1;
      if (durationAt(heap, above) <= durationAt(heap, at)) return;
      swap(heap, above, at);
      at = above;
    }
  }

  #sink(): void {
    const heap = this.#longest;
    for (let at = 0; ;) {
      const left = 2 * at + 1;
      const below = durationAt(heap, left + 1) < durationAt(heap, left) ? left + 1 : left;
      if (durationAt(heap, at) <= durationAt(heap, below)) return;
      swap(heap, at, below);
      at = below;
    }
  }

  #takeOver(report: StallReport<Cause>): void {
    this.#wallUs = toUs(report.wallMs);
    const takeOver = (into: Sums, from: StallSums): void => {
      into.stalls = from.stalls;
      into.us = toUs(from.durationMs);
      for (const part of waitParts) into.parts[part] = toUs(from.partsMs[part]);
    };
    takeOver(this.#total, report);
    for (const each of report.causes) takeOver(sumsOf(this.#causes, each.cause), each);
    for (const each of report.files) takeOver(sumsOf(this.#files, each.path), each);
    for (const stall of report.longest) this.#keepIfLong(stall);
  }
}

function noSums(): Sums {
  return { stalls: 0, us: 0, parts: noTime() };
}

function sumsOf<Key>(map: Map<Key, Sums>, key: Key): Sums {
  let sums = map.get(key);
  if (sums === undefined) map.set(key, (sums = noSums()));
  return sums;
}

function asSums({ stalls, us, parts }: Sums): StallSums {
  return { stalls, durationMs: toMs(us), partsMs: inMs(parts) };
}

function totalOf(parts: WaitParts): number {
  return waitParts.reduce((sum, part) => sum + parts[part], 0);
}

function inMs(parts: WaitParts): WaitParts {
  return Object.fromEntries(waitParts.map((part) => [part, toMs(parts[part])])) as Record<WaitPart, number>;
}

function toMs(us: number): number {
  return us / 1000;
}

function toUs(ms: number): number {
  return Math.round(ms * 1000);
}

function byDuration(one: StallSums, other: StallSums): number {
  return other.durationMs - one.durationMs;
}

function durationAt(heap: readonly StallFacts[], at: number): number {
  return heap[at]?.durationMs ?? Infinity;
}

function swap(items: unknown[], one: number, other: number): void {
  const [first, second] = [items[one], items[other]];
  if (first === undefined || second === undefined) throw new Error('no such place in the heap');
  items[one] = second;
  items[other] = first;
}
