import { Cancelled, type Clock } from '../base/index.js';
import { ObjectMissing, ObjectTruncated, StoreUnreachable } from './errors.js';
import { Link, turnBytes } from './lab-store/link.js';
import type {
  ByteRange,
  ObjectInfo,
  ObjectKey,
  ObjectStore,
  RequestOptions,
  StoreCapabilities,
} from './object-store.js';
import { RequestGate, requirePrefix, throwIfCancelled } from './request.js';

/** What the imitated network and its faults are like. Rates are probabilities of one request, 0 to 1. */
export interface LabConditions {
  /** Bandwidth of each direction, shared by all requests under way; `Infinity` for none to wait for. */
  readonly megabitsPerSecond: number;
  /** From sending a request to the first byte of its answer. */
  readonly roundTripMs: number;
  /** Added to the round trip: evenly distributed between 0 and this. */
  readonly jitterMs: number;
  /** `StoreUnreachable`; half of the requests that fail so were carried out, and only the answer was lost. */
  readonly errorRate: number;
  /** One bit of what `get` returns is wrong. */
  readonly corruptRate: number;
  /** `get` finds the object shorter than it is: `ObjectTruncated`. */
  readonly truncateRate: number;
}

export const perfectConditions: LabConditions = {
  megabitsPerSecond: Infinity,
  roundTripMs: 0,
  jitterMs: 0,
  errorRate: 0,
  corruptRate: 0,
  truncateRate: 0,
};

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
      const bytes = await this.#inner.get(key, range, options);
      if (fate.isTruncated && bytes.length > 0)
        throw this.#truncated(key, range, bytes.length, fate.position);
      await this.#download.transfer(bytes.length, signal);
      if (fate.isCorrupted) flipBit(bytes, fate.position);
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
    const fate = this.#drawFate();
    throwIfCancelled(signal, what);
    try {
      if (fate.latencyMs > 0) await this.#clock.delay(fate.latencyMs, signal);
      this.#requireNoOutage(key);
      if (fate.isRequestLost) throw this.#unreachable(key, 'the request was lost');
      if (this.#lost.has(key)) throw new ObjectMissing({ store: this.description, key });
      const faultAtBytes = Math.floor(range.lengthBytes * fate.position);
      let doneBytes = 0;
      for await (const piece of turnsOf(this.#inner.read(key, range, options))) {
        await this.#download.transfer(piece.length, signal);
        this.#requireNoOutage(key);
        const isStruck = doneBytes + piece.length > faultAtBytes && doneBytes <= faultAtBytes;
        if (isStruck && fate.isTruncated) throw this.#truncated(key, range, range.lengthBytes, fate.position);
        if (isStruck && fate.isAnswerLost) throw this.#unreachable(key, 'the answer was lost');
        if (isStruck && fate.isCorrupted) flipBit(piece, (faultAtBytes - doneBytes) / piece.length);
        doneBytes += piece.length;
        yield piece;
      }
      if (fate.isAnswerLost) throw this.#unreachable(key, 'the answer was lost');
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
      const fate = this.#drawFate();
      throwIfCancelled(signal, what);
      try {
        if (fate.latencyMs > 0) await this.#clock.delay(fate.latencyMs, signal);
        this.#requireNoOutage(key);
        if (fate.isRequestLost) throw this.#unreachable(key, 'the request was lost');
        const answer = request(fate, signal);
        await Promise.allSettled([answer]);
        throwIfCancelled(signal, what);
        this.#requireNoOutage(key);
        if (fate.isAnswerLost) throw this.#unreachable(key, 'the answer was lost');
        return await answer;
      } catch (error) {
        if (error instanceof Error && error.name === 'AbortError') throw new Cancelled(what);
        throw error;
      }
    });
  }

  /** Always draws the same number of numbers, so that one rate does not move the faults of another. */
  #drawFate(): Fate {
    const { roundTripMs, jitterMs, errorRate, corruptRate, truncateRate } = this.#conditions;
    const error = this.#random();
    return {
      latencyMs: roundTripMs + jitterMs * this.#random(),
      isRequestLost: error < errorRate / 2,
      isAnswerLost: error >= errorRate / 2 && error < errorRate,
      isCorrupted: this.#random() < corruptRate,
      isTruncated: this.#random() < truncateRate,
      position: this.#random(),
    };
  }

  #requireNoOutage(key: ObjectKey | undefined): void {
    if (this.#isOut) throw this.#unreachable(key, 'there is an outage');
  }

  #unreachable(key: ObjectKey | undefined, reason: string): StoreUnreachable {
    return new StoreUnreachable({ store: this.description, key, reason });
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
async function* turnsOf(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const piece of pieces) {
    for (let at = 0; at < piece.length; at += turnBytes) yield piece.slice(at, at + turnBytes);
  }
}

/** What will happen to one request. */
interface Fate {
  readonly latencyMs: number;
  readonly isRequestLost: boolean;
  readonly isAnswerLost: boolean;
  readonly isCorrupted: boolean;
  readonly isTruncated: boolean;
  /** Where in the answer, 0 to 1. */
  readonly position: number;
}

function flipBit(bytes: Uint8Array, position: number): void {
  const bit = Math.floor(position * bytes.length * 8);
  const index = bit >> 3;
  const byte = bytes[index];
  if (byte !== undefined) bytes[index] = byte ^ (1 << (bit & 7));
}
