import { Cancelled, limits, type Clock } from '../base/index.js';
import {
  DamagedObject,
  type BlobKind,
  type BlobReference,
  type CodecPool,
  type KeepOutcome,
  type PackId,
} from '../repo/index.js';
import { ObjectTruncated } from '../store/index.js';
import { AbortScope } from './abort-scope.js';
import { BlobAssembly, type Intake } from './blob-intake.js';
import { Flight, isMoreUrgent } from './flight.js';
import { Deltas } from './deltas.js';
import type { EntryFile, LocalCache } from './local-cache.js';
import { LocalReads } from './local-reads.js';
import { PackNeighbourhood, rangeAround } from './pack-neighbourhood.js';
import { exactRange, groupNeighbours, sliceOf, type PackRange } from './pack-range.js';
import { RangeFetch } from './range-fetch.js';
import type { StoreAccess, StoreClaim } from './store-access.js';
import type { Tier } from './tiers/tier.js';
import { Turnstile } from './turnstile.js';
import type { FetchClass } from './types.js';
import type { WaitClock } from './wait-clock.js';

/** What fetches need of a codec. */
export type FlightCodec = Pick<CodecPool, 'open' | 'openFile' | 'keep' | 'look' | 'seal'>;

export interface FlightsOptions {
  readonly codec: FlightCodec;
  readonly access: StoreAccess;
  readonly localCache: LocalCache;
  readonly clock: Clock;
  /** In the order in which they are asked. The flights' owner closes them. */
  readonly tiers: readonly Tier[];
}

/** A blob that came and that nobody waits for. */
interface Arrival {
  readonly flight: Flight;
  readonly sealed: Uint8Array;
  readonly entry: EntryFile;
}

/**
 * All fetches of blobs that are under way: one a blob, however many wait for it. Local cache, then tiers, then deltas, then store. Nothing is given
 * to anyone before it has opened, and nothing put into the cache before it was found authentic.
 */
export class Flights implements AsyncDisposable {
  readonly #codec: FlightCodec;
  readonly #access: StoreAccess;
  readonly #localCache: LocalCache;
  readonly #localReads: LocalReads;
  readonly #tiers: readonly Tier[];
  readonly #deltas: Deltas;
  readonly #tierTurns = new Turnstile(limits.tierLookUpsInFlight);
  readonly #localWrites = new Turnstile(limits.localWritesInFlight);
  /** Of two codec threads or more, one is left to demand, whatever the disk does to those that write. */
  readonly #keeps = new Turnstile(Math.max(1, limits.codecThreads - 1));
  /** A fill by deltas must not push out what lies around map nodes. */
  readonly #neighbourhoods = { nodes: new PackNeighbourhood(), deltas: new PackNeighbourhood() };

  /** By where the sealed blob lies. */
  readonly #flights = new Map<string, Flight>();
  /** Urgent ones that were not asked for yet: neighbours among them go together. */
  readonly #waitingDemands = new Map<PackId, Set<RangeFetch>>();
  /** Requests may go on for a while after everybody has what they waited for. */
  readonly #requests = new Set<{ cancel(): void }>();
  readonly #underWay = new Set<Promise<void>>();
  #errors = 0;
  #lastError: string | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: FlightsOptions) {
    this.#codec = options.codec;
    this.#access = options.access;
    this.#localCache = options.localCache;
    this.#localReads = new LocalReads(options);
    this.#tiers = options.tiers;
    this.#deltas = new Deltas({
      ...{ codec: options.codec, localReads: this.#localReads, tiers: options.tiers },
      ...{ link: options.access.link, clock: options.clock, isHeld: (reference) => this.isHeld(reference) },
      readBlob: (reference, kind, fetchClass, signal) =>
        this.board(reference, kind, fetchClass).plaintext(signal),
    });
  }

  get deltas(): Deltas {
    return this.#deltas;
  }

  get count(): number {
    return this.#flights.size;
  }

  get localHits(): number {
    return this.#localReads.hits;
  }

  /** Which of the chunks are on this host. */
  held(references: readonly BlobReference[], fetchClass: FetchClass): Promise<readonly boolean[]> {
    return this.#localReads.held(references, fetchClass);
  }

  /** Whether the chunk is on this host: a look at the directory, for one that was looked for a while ago. */
  isHeld(reference: BlobReference): boolean {
    return this.#localCache.has(reference, 'chunk');
  }

  /** The plaintext of a chunk that is on this host. Never rejects. */
  readHeld(reference: BlobReference): Promise<Uint8Array | undefined> {
    const wanted = { reference, kind: 'chunk', fetchClass: 'background' } as const;
    return this.#localReads.read(wanted).catch(() => undefined);
  }

  /** Fetches that failed for good, cancelled ones not counted. */
  get errors(): { readonly count: number; readonly last: string | undefined } {
    return { count: this.#errors, last: this.#lastError };
  }

  /** The fetch of a blob that is under way, now at least of this class, or a new one. `clock`: of who waits for it next. */
  board(reference: BlobReference, kind: BlobKind, fetchClass: FetchClass, clock?: WaitClock): Flight {
    const known = this.#join(reference, kind, fetchClass, clock);
    if (known !== undefined) return known;
    const flight = this.#add(reference, kind, fetchClass);
    flight.board(clock, undefined);
    this.#track(this.#fly(flight));
    return flight;
  }

  /**
   * The fetches of chunks that are close together in one pack and not local: with one request, but for those that are
   * under way already.
   */
  boardTogether(references: readonly BlobReference[], fetchClass: FetchClass): Flight[] {
    const added: Flight[] = [];
    const flights = references.map((reference) => {
      const known = this.#join(reference, 'chunk', fetchClass);
      if (known !== undefined) return known;
      const flight = this.#add(reference, 'chunk', fetchClass);
      added.push(flight);
      return flight;
    });
    if (added.length > 0) this.#track(this.#flyTogether(added));
    return flights;
  }

  /** Adds what was just sealed to the local cache. */
  async keep(reference: BlobReference, kind: BlobKind, sealed: Uint8Array): Promise<boolean> {
    return this.#localWrites.run(() => this.#localCache.put(reference, kind, sealed));
  }

  /** Cancels what is under way and waits for it. Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async #close(): Promise<void> {
    for (const flight of this.#flights.values()) flight.cancel();
    for (const request of this.#requests) request.cancel();
    while (this.#underWay.size > 0) await Promise.all(this.#underWay);
  }

  #join(
    reference: BlobReference,
    kind: BlobKind,
    fetchClass: FetchClass,
    clock?: WaitClock,
  ): Flight | undefined {
    const flight = this.#flights.get(flightKey(reference, kind));
    if (flight === undefined || flight.signal.aborted) return undefined;
    flight.board(clock, flight.fetchClass);
    if (isMoreUrgent(fetchClass, flight.fetchClass)) {
      flight.fetchClass = fetchClass;
      // It is begun again, as urgent as it is now.
      flight.making?.end();
      if (fetchClass !== 'demand') flight.carrier?.raise(fetchClass);
      else if (flight.carrier?.release(flight) === true) this.#track(this.#fly(flight));
      this.#access.reconsider();
    }
    return flight;
  }

  #add(reference: BlobReference, kind: BlobKind, fetchClass: FetchClass): Flight {
    if (this.#closing !== undefined) throw new Error('the fetcher is closed');
    const flight = new Flight(reference, kind, fetchClass);
    this.#flights.set(flightKey(reference, kind), flight);
    flight.signal.addEventListener('abort', () => this.#fail(flight, new Cancelled('Reading')));
    return flight;
  }

  /** Fetches one blob on its own. Never rejects: the flight carries the error. */
  async #fly(flight: Flight): Promise<void> {
    flight.enter('disk');
    try {
      const local = await this.#localReads.read(flight);
      if (local !== undefined) this.#arrive(flight, local, true);
      else if ((await this.#foundInTier(flight)) || (await this.#made(flight))) return;
      else if (flight.kind === 'chunk') await this.#flyRange(new RangeFetch(flight.fetchClass, [flight]));
      else await this.#flyWithNeighbours(flight, flight.kind);
    } catch (error) {
      this.#countDamage(error);
      this.#failOrRepeat(flight, error);
    }
  }

  /** With one request, but for what a tier has, or can be made. Never rejects. */
  async #flyTogether(flights: readonly Flight[]): Promise<void> {
    let absent = flights;
    if (this.#activeTiers.length > 0) {
      const isFound = await Promise.all(flights.map((flight) => this.#foundInTier(flight)));
      absent = flights.filter((_flight, position) => isFound[position] === false);
    }
    const areKnown = await Promise.all(absent.map(({ reference }) => this.#deltas.knows(reference)));
    for (const [position, flight] of absent.entries())
      if (areKnown[position] === true) this.#track(this.#flyMade(flight));
    absent = absent.filter((_flight, position) => areKnown[position] === false);
    const [first] = absent;
    if (first === undefined) return;
    // Somebody may have come to wait for one of them meanwhile.
    const range = new RangeFetch(
      absent.reduce((most, flight) => moreUrgent(most, flight.fetchClass), first.fetchClass),
    );
    for (const flight of absent) range.add(flight);
    await this.#flyRange(range);
  }

  get #activeTiers(): readonly Tier[] {
    return this.#tiers.filter((tier) => !tier.isSkipped);
  }

  /** Asks the lookaside places; what one has and does not verify is looked for in the next. Never rejects. */
  async #foundInTier(flight: Flight): Promise<boolean> {
    const { reference, kind, signal } = flight;
    for (const tier of this.#activeTiers) {
      flight.enter('tier');
      if (flight.badTiers.has(tier) || signal.aborted) continue;
      const storeMs = this.#access.link.requestMs(reference.sealedBytes);
      const isHere = await this.#tierTurns.run(async () => {
        const blob = await tier.find(reference, kind, { storeMs, signal });
        if (blob === undefined) return false;
        try {
          await this.#openAndArrive(flight, blob.sealed, blob.reference);
          return true;
        } catch {
          flight.badTiers.add(tier);
          tier.noteDamaged();
          return false;
        }
      });
      if (isHere) return true;
    }
    return false;
  }

  /** A chunk that there is a delta for. Never rejects. */
  async #flyMade(flight: Flight): Promise<void> {
    if (!(await this.#made(flight))) await this.#flyRange(new RangeFetch(flight.fetchClass, [flight]));
  }

  /** Makes a chunk out of an earlier one that is at hand. Never rejects: what cannot be made is fetched. */
  async #made(flight: Flight): Promise<boolean> {
    const { reference, kind, signal } = flight;
    if (kind !== 'chunk' || flight.damagedAnswers > 0) return false;
    while ((await this.#deltas.knows(reference)) && !signal.aborted) {
      flight.enter('tier');
      const making = new AbortScope(signal);
      flight.making = making;
      try {
        const blob = await this.#deltas.make(reference, flight.fetchClass, making.signal);
        if (blob === undefined) return false;
        flight.making = undefined;
        await this.#openAndArrive(flight, blob.sealed, blob.reference);
        return true;
      } catch {
        // It became more urgent meanwhile, or nobody wants it any more; nothing else rejects.
        if (!making.signal.aborted) return false;
      } finally {
        flight.making = undefined;
        making.end();
      }
    }
    return false;
  }

  /** Fetches the members of a range. Never rejects: the flights carry the error. */
  async #flyRange(range: RangeFetch): Promise<void> {
    // They may have been cancelled before there was a range.
    if (range.members.every(({ signal }) => signal.aborted)) return;
    const stopWaiting = this.#awaitNeighbours(range);
    this.#requests.add(range);
    try {
      await this.#access.fetch(range, () => {
        stopWaiting();
        return this.#beginRange(range);
      });
    } catch (error) {
      this.#countDamage(error);
      for (const flight of range.members) {
        range.remove(flight);
        this.#failOrRepeat(flight, error);
      }
    } finally {
      stopWaiting();
      this.#requests.delete(range);
    }
  }

  #beginRange(range: RangeFetch): Intake | undefined {
    if (!range.isBegun && range.fetchClass === 'demand') this.#absorbNeighbours(range);
    range.begin();
    const span = range.span;
    if (span === undefined) return undefined;
    const landings: Promise<void>[] = [];
    // Where the request ends early nobody asks for its end, and what came is dealt with all the same.
    const land = (landing: Promise<void>): void => {
      landings.push(landing);
      this.#track(landing);
    };
    let unhurried: Arrival[] = [];
    const assembly = new BlobAssembly(span, range.members, (flight, sealed) => {
      // Another try may have been faster.
      if (flight.carrier !== range) return;
      range.remove(flight);
      const entry = flight.isPlaintextWanted
        ? undefined
        : this.#localCache.newEntry(flight.reference, flight.kind);
      if (entry === undefined) land(this.#land(flight, sealed));
      else unhurried.push({ flight, sealed, entry });
    });
    return {
      range: span,
      add: (piece) => {
        assembly.add(piece);
        if (unhurried.length > 0) land(this.#landTogether(unhurried));
        unhurried = [];
      },
      end: async () => {
        await Promise.all(landings);
      },
    };
  }

  /** Until the range is begun, urgent neighbours may take its members along. */
  #awaitNeighbours(range: RangeFetch): () => void {
    const [first] = range.members;
    if (first === undefined || range.fetchClass !== 'demand') return () => undefined;
    const { packId } = first.reference;
    const waiting = this.#waitingDemands.get(packId) ?? new Set();
    this.#waitingDemands.set(packId, waiting.add(range));
    return () => {
      waiting.delete(range);
      if (waiting.size === 0 && this.#waitingDemands.get(packId) === waiting)
        this.#waitingDemands.delete(packId);
    };
  }

  #absorbNeighbours(range: RangeFetch): void {
    const [first] = range.members;
    if (first === undefined) return;
    const others = [...(this.#waitingDemands.get(first.reference.packId) ?? [])].filter(
      (other) => other !== range && !other.isBegun && other.members.length > 0,
    );
    if (others.length === 0) return;
    const rangeOf = new Map(
      [range, ...others].flatMap((each) => each.members.map((flight) => [flight.reference, each])),
    );
    const groups = groupNeighbours([...rangeOf.keys()], {
      gapBytes: limits.demandGapBytes,
      rangeBytes: limits.demandRangeBytes,
    });
    const group = groups.find((references) => references.includes(first.reference)) ?? [];
    for (const reference of group) {
      const other = rangeOf.get(reference);
      if (other !== undefined && other !== range) range.absorb(other);
    }
  }

  /** Opens what came, and wakes those who wait; the rest of its range may still be on its way. Never rejects. */
  async #land(flight: Flight, sealed: Uint8Array): Promise<void> {
    try {
      await this.#openAndArrive(flight, sealed);
    } catch (error) {
      this.#countDamage(error);
      this.#failOrRepeat(flight, error);
    }
  }

  /** Wakes those who wait for the plaintext as soon as there is room to write; then, on its own, keeps the sealed bytes. */
  async #openAndArrive(flight: Flight, sealed: Uint8Array, reference = flight.reference): Promise<void> {
    const { kind, fetchClass } = flight;
    flight.enter('decode');
    const plaintext = await this.#codec.open(sealed, reference, kind, { priority: fetchClass });
    flight.enter('disk');
    await new Promise<void>((resolve) => {
      const keeping = this.#localWrites.run(async () => {
        flight.deliver(plaintext);
        resolve();
        flight.noteKept(await this.#localCache.put(reference, kind, sealed));
        this.#remove(flight);
      });
      this.#track(keeping);
    });
  }

  /**
   * Keeps what came and nobody waits for: with one message to another thread, and not opened. Whoever comes to wait for the
   * plaintext meanwhile gets it out of the local cache. Never rejects.
   */
  async #landTogether(arrivals: readonly Arrival[]): Promise<void> {
    const [{ flight: first } = { flight: undefined }] = arrivals;
    for (const { flight } of arrivals) flight.enter('disk');
    try {
      const outcomes = await this.#keeps.run(() =>
        this.#codec.keep(
          arrivals.map(({ flight: { reference, kind }, sealed, entry }) => ({
            ...entry,
            ...{ reference, kind, sealed },
          })),
          first === undefined ? {} : { priority: first.fetchClass },
        ),
      );
      for (const [position, { flight }] of arrivals.entries()) this.#settle(flight, outcomes[position]);
    } catch (error) {
      for (const { flight } of arrivals) this.#failOrRepeat(flight, error);
    }
  }

  #settle(flight: Flight, result: KeepOutcome | undefined): void {
    switch (result?.outcome) {
      case undefined:
        this.#failOrRepeat(flight, new Error('a blob was handed over and nothing said of it'));
        return;
      case 'damaged': {
        const error = new DamagedObject(result.key, result.what);
        this.#countDamage(error);
        this.#failOrRepeat(flight, error);
        return;
      }
      case 'unwritable':
        // The disk has failed or is full, or somebody deleted the cache: the long way tells.
        this.#track(this.#land(flight, result.sealed));
        return;
      case 'kept':
        this.#localCache.added(flight.reference, flight.kind);
        break;
      case 'there':
        break;
    }
    flight.noteKept(true);
    if (flight.isPlaintextWanted) this.#track(this.#fly(flight));
    else this.#remove(flight);
  }

  #arrive(flight: Flight, plaintext: Uint8Array, isKept: boolean): void {
    flight.deliver(plaintext);
    flight.noteKept(isKept);
    this.#remove(flight);
  }

  /** What was damaged may have been so on its way: it is asked for again, some times. */
  #failOrRepeat(flight: Flight, error: unknown): void {
    const isDamage = error instanceof DamagedObject || error instanceof ObjectTruncated;
    if (isDamage) flight.damagedAnswers += 1;
    const isHopeless = !isDamage || flight.damagedAnswers >= limits.damagedAnswersMax;
    flight.wasted();
    if (isHopeless || flight.signal.aborted) this.#fail(flight, error);
    else this.#track(this.#fly(flight));
  }

  #countDamage(error: unknown): void {
    const { trouble } = this.#access.counts;
    if (error instanceof DamagedObject) trouble.damaged += 1;
    if (error instanceof ObjectTruncated) trouble.truncated += 1;
  }

  #fail(flight: Flight, error: unknown): void {
    this.#remove(flight);
    // Of what is only a shorter way nobody is told.
    if (!isOfDeltas(flight.kind) && !(error instanceof Cancelled)) {
      this.#errors += 1;
      this.#lastError = error instanceof Error ? error.message : String(error);
    }
    flight.fail(error);
  }

  #remove(flight: Flight): void {
    const key = flightKey(flight.reference, flight.kind);
    if (this.#flights.get(key) === flight) this.#flights.delete(key);
  }

  /** A blob that is no chunk, with what lies around it; exactly, when that went wrong before. */
  async #flyWithNeighbours(flight: Flight, kind: Exclude<BlobKind, 'chunk'>): Promise<void> {
    const { reference } = flight;
    const neighbourhood = this.#neighbourhood(kind);
    const near = neighbourhood.find(reference);
    try {
      if (near !== undefined) {
        await this.#openAndArrive(flight, near);
        return;
      }
      const isFirstTry = flight.damagedAnswers === 0;
      await this.#fetchWhole(flight, isFirstTry ? this.#rangeAround(reference, kind) : exactRange(reference));
    } catch (error) {
      neighbourhood.forget(reference);
      const wasWide = near === undefined && flight.damagedAnswers === 0;
      // The pack may end before the range around does, which says nothing of the blob.
      if (!(wasWide && error instanceof ObjectTruncated)) throw error;
      await this.#fetchWhole(flight, exactRange(reference));
    }
  }

  #neighbourhood(kind: BlobKind): PackNeighbourhood {
    return this.#neighbourhoods[isOfDeltas(kind) ? 'deltas' : 'nodes'];
  }

  /** Nodes are wanted by nearly all that follows; of deltas, only those of chunks that are. */
  #rangeAround(reference: BlobReference, kind: Exclude<BlobKind, 'chunk'>): PackRange {
    const { link } = this.#access;
    const { bytesMax, bytesUnknown } = limits.deltaSpare;
    return rangeAround(reference, kind, {
      spareBytesMax: isOfDeltas(kind)
        ? Math.min(bytesMax, link.spareBytes(1) ?? bytesUnknown)
        : (link.spareBytes(4) ?? Infinity),
      endBytes: this.#deltas.packEnd(reference.packId),
    });
  }

  async #fetchWhole(flight: Flight, range: PackRange): Promise<void> {
    const scope = new AbortScope(flight.signal);
    const request = { cancel: () => scope.end() };
    const claim: StoreClaim = {
      get fetchClass() {
        return flight.fetchClass;
      },
      signal: scope.signal,
      spanBytes: range.lengthBytes,
      enter: (part) => flight.enter(part),
      wasted: () => flight.wasted(),
    };
    this.#requests.add(request);
    try {
      await this.#access.fetch(claim, () => this.#beginWhole(flight, range));
    } finally {
      this.#requests.delete(request);
      scope.end();
    }
  }

  #beginWhole(flight: Flight, range: PackRange): Intake {
    const { reference } = flight;
    const bytes = new Uint8Array(range.lengthBytes);
    let doneBytes = 0;
    return {
      range,
      add: (piece) => {
        bytes.set(piece, doneBytes);
        doneBytes += piece.length;
      },
      end: async () => {
        if (range.lengthBytes > reference.sealedBytes) this.#neighbourhood(flight.kind).add(range, bytes);
        await this.#openAndArrive(flight, sliceOf(bytes, range, reference));
      },
    };
  }

  #track(work: Promise<void>): void {
    this.#underWay.add(work);
    void work.finally(() => this.#underWay.delete(work));
  }
}

function isOfDeltas(kind: BlobKind): boolean {
  return kind === 'delta' || kind === 'delta-index';
}

function moreUrgent(one: FetchClass, other: FetchClass): FetchClass {
  return isMoreUrgent(one, other) ? one : other;
}

function flightKey(reference: BlobReference, kind: BlobKind): string {
  return `${kind} ${reference.packId} ${reference.counter}`;
}
