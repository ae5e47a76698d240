import { Cancelled, LimitExceeded, limits } from '../../base/index.js';
import { ObjectTruncated, StoreRefused, StoreUnreachable, type StoreFailure } from '../errors.js';
import type { ObjectKey } from '../object-store.js';
import { RequestGate, throwIfCancelled } from '../request.js';
import { BodyTooLong, NoAnswer } from './transport.js';

/**
 * What callers ask of a store over HTTP: each request is counted for closing, cancelled by its signal, and its failure is
 * explained as an error of a store.
 */
export class HttpRequests {
  readonly #store: string;
  readonly #gate = new RequestGate();
  readonly #explain: (error: unknown, key: ObjectKey | undefined) => unknown;

  /** `store` is its description. `explain` may know more errors than those of the transport; what it returns is thrown. */
  constructor(
    store: string,
    explain: (error: unknown, key: ObjectKey | undefined) => unknown = (error) => error,
  ) {
    this.#store = store;
    this.#explain = explain;
  }

  during<T>(
    key: ObjectKey | undefined,
    signal: AbortSignal | undefined,
    request: () => Promise<T>,
  ): Promise<T> {
    return this.#gate.run(async () => {
      throwIfCancelled(signal, this.#what(key));
      try {
        return await request();
      } catch (error) {
        throw this.#explained(error, key, signal);
      }
    });
  }

  /** The same for an answer that is taken in pieces. */
  stream<T>(
    key: ObjectKey,
    signal: AbortSignal | undefined,
    pieces: () => AsyncIterable<T>,
  ): AsyncGenerator<T, void, undefined> {
    return this.#gate.stream(() => this.#pieces(key, signal, pieces));
  }

  failure(key: ObjectKey | undefined): StoreFailure {
    return { store: this.#store, key };
  }

  unreachable(key: ObjectKey | undefined, reason: string, cause?: unknown): StoreUnreachable {
    return new StoreUnreachable({ ...this.failure(key), reason, cause });
  }

  truncated(key: ObjectKey, expectedBytes: number, foundBytes: number): ObjectTruncated {
    return new ObjectTruncated({ store: this.#store, key, expectedBytes, foundBytes });
  }

  /** Waits for the requests under way. */
  async close(): Promise<void> {
    await this.#gate.close();
  }

  async *#pieces<T>(
    key: ObjectKey,
    signal: AbortSignal | undefined,
    pieces: () => AsyncIterable<T>,
  ): AsyncGenerator<T, void, undefined> {
    try {
      throwIfCancelled(signal, this.#what(key));
      yield* pieces();
    } catch (error) {
      throw this.#explained(error, key, signal);
    }
  }

  #explained(error: unknown, key: ObjectKey | undefined, signal: AbortSignal | undefined): unknown {
    if (signal?.aborted === true) return new Cancelled(this.#what(key));
    if (error instanceof NoAnswer) return this.#noAnswer(error, key);
    return error instanceof BodyTooLong ? this.#tooLong(error, key) : this.#explain(error, key);
  }

  #noAnswer(error: NoAnswer, key: ObjectKey | undefined): StoreRefused | StoreUnreachable {
    if (!error.isLasting) return this.unreachable(key, error.message, error.cause);
    return new StoreRefused({
      ...this.failure(key),
      reason: error.message,
      remedy: 'Let NODE_EXTRA_CA_CERTS name the file of the authority that signed it.',
      cause: error.cause,
    });
  }

  #tooLong({ lengthBytes }: BodyTooLong, key: ObjectKey | undefined): LimitExceeded {
    const what = key === undefined ? 'An answer' : `Object ${key}`;
    return new LimitExceeded(`${what} in ${this.#store} is too long to be read in one piece.`, {
      facts: {
        ...{ key: key ?? null, store: this.#store },
        ...{ lengthBytes, limitBytes: limits.wholeObjectBytesMax },
      },
    });
  }

  #what(key: ObjectKey | undefined): string {
    return key === undefined ? `A request to ${this.#store}` : `The request for ${key}`;
  }
}
