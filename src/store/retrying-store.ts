import { Cancelled, limits, type Clock } from '../base/index.js';
import { StoreUnreachable } from './errors.js';
import type {
  ByteRange,
  ObjectInfo,
  ObjectKey,
  ObjectStore,
  RequestOptions,
  StoreCapabilities,
} from './object-store.js';

/**
 * Repeats requests that a store did not answer, with growing pauses, before it says so: a network loses requests, and a
 * gateway that is started again is away for seconds. Writes are given more time, since somebody's work depends on them, and so
 * are reads once the store has answered anything: then it is there, and its link fails now and then.
 * `read` is for those who go on where it broke off, and is not repeated. Owns the store.
 */
export class RetryingStore implements ObjectStore {
  readonly #inner: ObjectStore;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #closing = new AbortController();
  #hasAnswered = false;

  /** @param random Numbers in [0, 1). */
  constructor(inner: ObjectStore, clock: Clock, random: () => number) {
    this.#inner = inner;
    this.#clock = clock;
    this.#random = random;
  }

  get description(): string {
    return this.#inner.description;
  }

  get capabilities(): StoreCapabilities {
    return this.#inner.capabilities;
  }

  async get(key: ObjectKey, range?: ByteRange, options: RequestOptions = {}): Promise<Uint8Array> {
    return this.#repeat(options, limits.storeReadAttempts, () => this.#inner.get(key, range, options));
  }

  read(key: ObjectKey, range: ByteRange, options?: RequestOptions): AsyncIterable<Uint8Array> {
    return this.#inner.read(key, range, options);
  }

  async put(key: ObjectKey, parts: readonly Uint8Array[], options: RequestOptions = {}): Promise<void> {
    await this.#repeat(options, limits.storeWriteAttempts, () => this.#inner.put(key, parts, options));
  }

  async putIfAbsent(
    key: ObjectKey,
    parts: readonly Uint8Array[],
    options: RequestOptions = {},
  ): Promise<'created' | 'exists'> {
    return this.#repeat(options, limits.storeWriteAttempts, async (attempt) => {
      const outcome = await this.#inner.putIfAbsent(key, parts, options);
      if (outcome === 'created' || attempt === 1) return outcome;
      // The answer to an earlier attempt was lost; what is there may be its work.
      const found = await this.get(key, undefined, options);
      return Buffer.concat(parts).equals(found) ? 'created' : 'exists';
    });
  }

  async *list(
    prefix: string,
    options: RequestOptions & { readonly after?: ObjectKey } = {},
  ): AsyncGenerator<ObjectInfo, void, undefined> {
    let after = options.after;
    const rest = (): AsyncIterator<ObjectInfo> => {
      const list = this.#inner.list(prefix, { ...options, ...(after === undefined ? {} : { after }) });
      return list[Symbol.asyncIterator]();
    };
    let iterator = rest();
    try {
      for (;;) {
        const next = await this.#repeat(options, limits.storeReadAttempts, async (attempt) => {
          if (attempt > 1) iterator = rest();
          return iterator.next();
        });
        if (next.done === true) return;
        after = next.value.key;
        yield next.value;
      }
    } finally {
      await iterator.return?.();
    }
  }

  async stat(key: ObjectKey, options: RequestOptions = {}): Promise<ObjectInfo | undefined> {
    return this.#repeat(options, limits.storeReadAttempts, () => this.#inner.stat(key, options));
  }

  async delete(keys: ObjectKey | readonly ObjectKey[], options: RequestOptions = {}): Promise<void> {
    await this.#repeat(options, limits.storeWriteAttempts, () => this.#inner.delete(keys, options));
  }

  /** What is being repeated is not tried again. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#inner[Symbol.asyncDispose]();
  }

  async #repeat<T>(
    { signal }: RequestOptions,
    attempts: number,
    request: (attempt: number) => Promise<T>,
  ): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        const answer = await request(attempt);
        this.#hasAnswered = true;
        return answer;
      } catch (error) {
        const allowed = this.#hasAnswered ? limits.storeWriteAttempts : attempts;
        if (!(error instanceof StoreUnreachable) || attempt >= allowed) throw error;
        await this.#pause(attempt, signal, error);
      }
    }
  }

  async #pause(attempt: number, signal: AbortSignal | undefined, failure: StoreUnreachable): Promise<void> {
    const fullMs = limits.storeRetryMs * 2 ** (attempt - 1);
    const closing = this.#closing.signal;
    const either = signal === undefined ? closing : AbortSignal.any([signal, closing]);
    try {
      await this.#clock.delay(fullMs * (0.5 + this.#random() / 2), either);
    } catch {
      if (closing.aborted) throw failure;
      throw new Cancelled(`A request to ${this.description}`);
    }
  }
}
