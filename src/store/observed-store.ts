import type {
  ByteRange,
  ObjectInfo,
  ObjectKey,
  ObjectStore,
  RequestOptions,
  StoreCapabilities,
} from './object-store.js';

export type StoreOperation = 'get' | 'put' | 'putIfAbsent' | 'list' | 'stat' | 'delete';

export interface OperationCounts {
  /** Started, a listing when its first key is asked for. */
  readonly requests: number;
  /** Ended with an error, cancelled ones included. */
  readonly failures: number;
  /** Content that `get` or `read` returned, or that a write which succeeded was given (`exists` included). */
  readonly bytes: number;
}

export type StoreCounts = Readonly<Record<StoreOperation, OperationCounts>>;

/** Counts the requests to any store, which it owns. */
export class ObservedStore implements ObjectStore {
  readonly #inner: ObjectStore;
  readonly #counts = {
    get: new Counter(),
    put: new Counter(),
    putIfAbsent: new Counter(),
    list: new Counter(),
    stat: new Counter(),
    delete: new Counter(),
  } satisfies Record<StoreOperation, Counter>;

  constructor(inner: ObjectStore) {
    this.#inner = inner;
  }

  get description(): string {
    return this.#inner.description;
  }

  get capabilities(): StoreCapabilities {
    return this.#inner.capabilities;
  }

  /** A snapshot; it does not change any more. */
  counts(): StoreCounts {
    const { get, put, putIfAbsent, list, stat, delete: deletion } = this.#counts;
    return {
      get: get.snapshot(),
      put: put.snapshot(),
      putIfAbsent: putIfAbsent.snapshot(),
      list: list.snapshot(),
      stat: stat.snapshot(),
      delete: deletion.snapshot(),
    };
  }

  async get(key: ObjectKey, range?: ByteRange, options?: RequestOptions): Promise<Uint8Array> {
    const bytes = await this.#counts.get.during(() => this.#inner.get(key, range, options));
    this.#counts.get.addBytes(bytes.length);
    return bytes;
  }

  /** Counted as `get`; bytes as they arrive, also those of a request that fails later. */
  async *read(
    key: ObjectKey,
    range: ByteRange,
    options?: RequestOptions,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    this.#counts.get.start();
    try {
      for await (const piece of this.#inner.read(key, range, options)) {
        this.#counts.get.addBytes(piece.length);
        yield piece;
      }
    } catch (error) {
      this.#counts.get.fail();
      throw error;
    }
  }

  async put(key: ObjectKey, parts: readonly Uint8Array[], options?: RequestOptions): Promise<void> {
    await this.#counts.put.during(() => this.#inner.put(key, parts, options));
    this.#counts.put.addBytes(totalBytes(parts));
  }

  async putIfAbsent(
    key: ObjectKey,
    parts: readonly Uint8Array[],
    options?: RequestOptions,
  ): Promise<'created' | 'exists'> {
    const outcome = await this.#counts.putIfAbsent.during(() => this.#inner.putIfAbsent(key, parts, options));
    this.#counts.putIfAbsent.addBytes(totalBytes(parts));
    return outcome;
  }

  async *list(
    prefix: string,
    options?: RequestOptions & { readonly after?: ObjectKey },
  ): AsyncGenerator<ObjectInfo, void, undefined> {
    this.#counts.list.start();
    try {
      yield* this.#inner.list(prefix, options);
    } catch (error) {
      this.#counts.list.fail();
      throw error;
    }
  }

  stat(key: ObjectKey, options?: RequestOptions): Promise<ObjectInfo | undefined> {
    return this.#counts.stat.during(() => this.#inner.stat(key, options));
  }

  delete(keys: ObjectKey | readonly ObjectKey[], options?: RequestOptions): Promise<void> {
    return this.#counts.delete.during(() => this.#inner.delete(keys, options));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#inner[Symbol.asyncDispose]();
  }
}

class Counter {
  #requests = 0;
  #failures = 0;
  #bytes = 0;

  start(): void {
    this.#requests += 1;
  }

  fail(): void {
    this.#failures += 1;
  }

  addBytes(lengthBytes: number): void {
    this.#bytes += lengthBytes;
  }

  async during<T>(request: () => Promise<T>): Promise<T> {
    this.start();
    try {
      return await request();
    } catch (error) {
      this.fail();
      throw error;
    }
  }

  snapshot(): OperationCounts {
    return { requests: this.#requests, failures: this.#failures, bytes: this.#bytes };
  }
}

function totalBytes(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, part) => sum + part.length, 0);
}
