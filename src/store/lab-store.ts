import { Cancelled, type Clock } from '../base/index.js';
import { ObjectMissing, ObjectTruncated, StoreRefused, StoreUnreachable } from './errors.js';
import type { LabConditions } from './lab-store/conditions.js';
import { drawFate, type Fate, type LabFailure } from './lab-store/fate.js';
import { Link } from './lab-store/link.js';
import { OutagePlan } from './lab-store/outage-plan.js';
import { seededRandom } from './lab-store/seeded-random.js';
import type {
  ByteRange,
  ObjectInfo,
  ObjectKey,
  ObjectStore,
  RequestOptions,
  StoreCapabilities,
} from './object-store.js';
import { RequestGate, requirePrefix, throwIfCancelled } from './request.js';

/** Keys that one answer to a listing holds, as in S3; each answer costs a round trip. */
const keysPerListAnswer = 1000;

/**
 * Imitates a network link and faults in front of any store, which it owns. What happens to a request is drawn when it
 * starts: the same seed and the same order of requests give the same faults.
 */
export class LabStore implements ObjectStore {
  readonly description: string;
  readonly #inner: ObjectStore;
  readonly #conditions: LabConditions;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #upload: Link;
  readonly #download: Link;
  readonly #gate = new RequestGate();
  readonly #lost = new Set<ObjectKey>();
  readonly #outages: OutagePlan;
  readonly #openedMs: number;
  #isOut = false;

  /** @param random Numbers in [0, 1). */
  constructor(inner: ObjectStore, conditions: LabConditions, clock: Clock, random: () => number) {
    this.description = `lab+${inner.description}`;
    this.#inner = inner;
    this.#conditions = conditions;
    this.#clock = clock;
    this.#random = random;
    this.#upload = new Link(clock, conditions.megabitsPerSecond);
    this.#download = new Link(clock, conditions.megabitsPerSecond);
    // Of their own: how often it is asked must not move the faults of requests.
    this.#outages = new OutagePlan(conditions, seededRandom(Math.floor(random() * 2 ** 32)));
    this.#openedMs = clock.now();
  }

  get capabilities(): StoreCapabilities {
    return this.#inner.capabilities;
  }

  /** During an outage every request, also one that is under way, fails with `StoreUnreachable`. */
  setOutage(isOut: boolean): void {
    this.#isOut = isOut;
  }

  /** From now on the object is missing, until it is put again. The wrapped store keeps it. */
  loseObject(key: ObjectKey): void {
    this.#lost.add(key);
  }

  async get(key: ObjectKey, range?: ByteRange, options: RequestOptions = {}): Promise<Uint8Array> {
    return this.#request(key, options.signal, async (fate, signal) => {
      if (this.#lost.has(key)) throw new ObjectMissing({ store: this.description, key });
      const shift = shiftOf(fate, range);
      const bytes = await this.#inner.get(key, shifted(range, shift), options);
      if (fate.isTruncated && bytes.length > 0)
        throw this.#truncated(key, range, bytes.length, fate.position);
      const arrivesBytes = fate.isCut ? Math.floor(bytes.length * fate.position) : bytes.length;
      await this.#download.transfer(arrivesBytes, signal);
      if (fate.isCut) throw this.#cut(key, arrivesBytes, bytes.length);
      if (fate.isStalled) await this.#clock.delay(this.#conditions.stallMs, signal);
      if (isCorrupted(fate, shift)) flipBit(bytes, fate.position);
      return bytes;
    });
  }

  async *read(
    key: ObjectKey,
    range: ByteRange,
    options: RequestOptions = {},
  ): AsyncGenerator<Uint8Array, void, undefined> {
    yield* this.#gate.stream(() => this.#readPieces(key, range, options));
  }

  async put(key: ObjectKey, parts: readonly Uint8Array[], options: RequestOptions = {}): Promise<void> {
    await this.#write(key, parts, options, () => this.#inner.put(key, parts, options));
  }

  async putIfAbsent(
    key: ObjectKey,
    parts: readonly Uint8Array[],
    options: RequestOptions = {},
  ): Promise<'created' | 'exists'> {
    return this.#write(key, parts, options, async () => {
      if (this.#lost.has(key)) await this.#inner.delete(key, options);
      return this.#inner.putIfAbsent(key, parts, options);
    });
  }

  async *list(
    prefix: string,
    options: RequestOptions & { readonly after?: ObjectKey } = {},
  ): AsyncGenerator<ObjectInfo, void, undefined> {
    requirePrefix(prefix);
    const answerArrives = () => this.#request(undefined, options.signal, () => Promise.resolve());
    let keys = 0;
    await answerArrives();
    for await (const info of this.#inner.list(prefix, options)) {
      if (this.#lost.has(info.key)) continue;
      if (keys > 0 && keys % keysPerListAnswer === 0) await answerArrives();
      keys += 1;
      yield info;
    }
  }

  async stat(key: ObjectKey, options: RequestOptions = {}): Promise<ObjectInfo | undefined> {
    return this.#request(key, options.signal, async () =>
      this.#lost.has(key) ? undefined : this.#inner.stat(key, options),
    );
  }

  async delete(keys: ObjectKey | readonly ObjectKey[], options: RequestOptions = {}): Promise<void> {
    const key = typeof keys === 'string' ? keys : undefined;
    await this.#request(key, options.signal, () => this.#inner.delete(keys, options));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#gate.close();
    await this.#inner[Symbol.asyncDispose]();
  }

  async #write<T>(
    key: ObjectKey,
    parts: readonly Uint8Array[],
    options: RequestOptions,
    write: () => Promise<T>,
  ): Promise<T> {
    return this.#request(key, options.signal, async (_fate, signal) => {
      await this.#upload.transfer(
        parts.reduce((sum, part) => sum + part.length, 0),
        signal,
      );
      this.#requireNoOutage(key);
      const result = await write();
      this.#lost.delete(key);
      return result;
    });
  }

  /** Faults happen where in the answer they strike: what comes before has arrived. */
  async *#readPieces(
    key: ObjectKey,
    range: ByteRange,
    options: RequestOptions,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const what = `The request for ${key}`;
    const signal = options.signal ?? new AbortController().signal;
    const fate = drawFate(this.#conditions, this.#random);
    throwIfCancelled(signal, what);
    try {
      if (fate.latencyMs > 0) await this.#clock.delay(fate.latencyMs, signal);
      this.#requireNoOutage(key);
      if (fate.failure?.isCarriedOut === false) throw this.#failed(key, fate.failure);
      if (this.#lost.has(key)) throw new ObjectMissing({ store: this.description, key });
      const shift = shiftOf(fate, range);
      const faultAtBytes = Math.floor(range.lengthBytes * fate.position);
      let doneBytes = 0;
      for await (const piece of turnsOf(
        this.#inner.read(key, shifted(range, shift), options),
        this.#download.turnBytes,
      )) {
        await this.#download.transfer(piece.length, signal);
        this.#requireNoOutage(key);
        if (doneBytes + piece.length > faultAtBytes && doneBytes <= faultAtBytes) {
          if (fate.isTruncated) throw this.#truncated(key, range, range.lengthBytes, fate.position);
          if (fate.failure !== undefined) throw this.#failed(key, fate.failure);
          if (fate.isCut) throw this.#cut(key, faultAtBytes, range.lengthBytes);
          if (fate.isStalled) await this.#clock.delay(this.#conditions.stallMs, signal);
          if (isCorrupted(fate, shift)) flipBit(piece, (faultAtBytes - doneBytes) / piece.length);
        }
        doneBytes += piece.length;
        yield piece;
      }
      if (fate.failure !== undefined) throw this.#failed(key, fate.failure);
    } catch (error) {
      if (error instanceof Error && error.name === 'AbortError') throw new Cancelled(what);
      throw error;
    }
  }

  async #request<T>(
    key: ObjectKey | undefined,
    signal = new AbortController().signal,
    request: (fate: Fate, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const what = key === undefined ? `A request to ${this.description}` : `The request for ${key}`;
    return this.#gate.run(async () => {
      const fate = drawFate(this.#conditions, this.#random);
      throwIfCancelled(signal, what);
      try {
        if (fate.latencyMs > 0) await this.#clock.delay(fate.latencyMs, signal);
        this.#requireNoOutage(key);
        if (fate.failure?.isCarriedOut === false) throw this.#failed(key, fate.failure);
        const answer = request(fate, signal);
        await Promise.allSettled([answer]);
        throwIfCancelled(signal, what);
        this.#requireNoOutage(key);
        if (fate.failure !== undefined) throw this.#failed(key, fate.failure);
        return await answer;
      } catch (error) {
        if (error instanceof Error && error.name === 'AbortError') throw new Cancelled(what);
        throw error;
      }
    });
  }

  #requireNoOutage(key: ObjectKey | undefined): void {
    if (this.#isOut || this.#outages.isOut(this.#clock.now() - this.#openedMs))
      throw this.#unreachable(key, 'there is an outage');
  }

  #unreachable(key: ObjectKey | undefined, reason: string): StoreUnreachable {
    return new StoreUnreachable({ store: this.description, key, reason });
  }

  #failed(key: ObjectKey | undefined, { reason, isRefusal }: LabFailure): StoreRefused | StoreUnreachable {
    if (!isRefusal) return this.#unreachable(key, reason);
    const remedy = 'The lab says so; others would look at permissions.';
    return new StoreRefused({ store: this.description, key, reason, remedy });
  }

  #cut(key: ObjectKey, foundBytes: number, lengthBytes: number): StoreUnreachable {
    return this.#unreachable(key, `its answer broke off after ${foundBytes} of ${lengthBytes} bytes`);
  }

  #truncated(
    key: ObjectKey,
    range: ByteRange | undefined,
    lengthBytes: number,
    position: number,
  ): ObjectTruncated {
    const offsetBytes = range?.offsetBytes ?? 0;
    return new ObjectTruncated({
      store: this.description,
      key,
      expectedBytes: offsetBytes + lengthBytes,
      foundBytes: offsetBytes + Math.floor(lengthBytes * position),
    });
  }
}

/** Cuts what arrives into what one turn of the link carries. */
async function* turnsOf(
  pieces: AsyncIterable<Uint8Array>,
  turnBytes: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const piece of pieces) {
    for (let at = 0; at < piece.length; at += turnBytes) yield piece.slice(at, at + turnBytes);
  }
}

/** How far before the range an answer begins. */
function shiftOf(fate: Fate, range: ByteRange | undefined): number {
  if (!fate.isWrongRange || range === undefined) return 0;
  return Math.min(range.offsetBytes, range.lengthBytes);
}

function shifted<R extends ByteRange | undefined>(range: R, shiftBytes: number): R {
  return range === undefined ? range : { ...range, offsetBytes: range.offsetBytes - shiftBytes };
}

function isCorrupted(fate: Fate, shiftBytes: number): boolean {
  return fate.isCorrupted || (fate.isWrongRange && shiftBytes === 0);
}

function flipBit(bytes: Uint8Array, position: number): void {
  const bit = Math.floor(position * bytes.length * 8);
  const index = bit >> 3;
  const byte = bytes[index];
  if (byte !== undefined) bytes[index] = byte ^ (1 << (bit & 7));
}
