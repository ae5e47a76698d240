import { randomUUID } from 'node:crypto';
import { limits } from '../base/index.js';
import { ObjectChanged, ObjectMissing, StoreRefused, type StoreUnreachable } from './errors.js';
import {
  contentLengthOf,
  contentRangeOf,
  encodingOf,
  explainStatus,
  isAbsence,
} from './http-store/answers.js';
import { parseHttpUrl, type HttpLocation } from './http-store/location.js';
import { BadRedirect, RedirectingTransport } from './http-store/redirecting-transport.js';
import { PinnedValidators, validatorsOf } from './http-store/validators.js';
import { HttpRequests } from './http/requests.js';
import type { HttpAnswer } from './http/transport.js';
import type { ByteRange, ObjectInfo, ObjectKey, ObjectStore, RequestOptions } from './object-store.js';
import { requirePrefix, requireRange } from './request.js';

interface ReadOptions {
  readonly range?: ByteRange;
  /** Pass all caches by. */
  readonly isFresh?: boolean;
  readonly signal: AbortSignal | undefined;
}

/**
 * A copy of a repository on a web server: read only, and without listing, which the web does not have.
 *
 * Objects never change, so what is there may come from a cache, and its validators are pinned. But what is not there may
 * appear at any time: only the server itself is believed that something is not there, never a cache.
 */
export class HttpStore implements ObjectStore {
  readonly description: string;
  readonly capabilities = { lists: false, writes: false };
  readonly #location: HttpLocation;
  readonly #transport: RedirectingTransport;
  readonly #validators = new PinnedValidators();
  readonly #requests: HttpRequests;

  /** Asks the server nothing. `idleMs`: how long nothing may come, for tests. @throws InvalidInput */
  constructor(url: string, options: { readonly idleMs?: number } = {}) {
    this.#location = parseHttpUrl(url);
    this.description = this.#location.description;
    this.#requests = new HttpRequests(this.description, (error, key) =>
      error instanceof BadRedirect ? this.#badRedirect(error, key) : error,
    );
    this.#transport = new RedirectingTransport(
      this.#location.origin,
      this.#location.authorization,
      options.idleMs,
    );
  }

  async get(key: ObjectKey, range?: ByteRange, { signal }: RequestOptions = {}): Promise<Uint8Array> {
    if (range !== undefined) requireRange(range);
    return this.#requests.during(key, signal, async () => {
      if (range === undefined) return this.#getWhole(key, signal);
      const bytes = new Uint8Array(range.lengthBytes);
      let at = 0;
      const body = await this.#openRange(key, range, signal);
      if (body?.isExact === true) {
        const whole = await body.answer.whole(range.lengthBytes);
        if (whole.length !== range.lengthBytes) throw this.#brokenOff(key, whole.length, range);
        return whole;
      }
      for await (const piece of this.#cut(key, range, body)) {
        bytes.set(piece, at);
        at += piece.length;
      }
      return bytes;
    });
  }

  async *read(
    key: ObjectKey,
    range: ByteRange,
    { signal }: RequestOptions = {},
  ): AsyncGenerator<Uint8Array, void, undefined> {
    requireRange(range);
    yield* this.#requests.stream(key, signal, () => this.#readPieces(key, range, signal));
  }

  async stat(key: ObjectKey, { signal }: RequestOptions = {}): Promise<ObjectInfo | undefined> {
    return this.#requests.during(key, signal, async () => {
      const lengthBytes = await this.#lengthOf(key, signal);
      return lengthBytes === undefined ? undefined : { key, lengthBytes };
    });
  }

  put(key: ObjectKey, _parts: readonly Uint8Array[], options?: RequestOptions): Promise<never> {
    return this.#refuse(key, 'it can only be read', options);
  }

  putIfAbsent(key: ObjectKey, _parts: readonly Uint8Array[], options?: RequestOptions): Promise<never> {
    return this.#refuse(key, 'it can only be read', options);
  }

  delete(key: ObjectKey, options?: RequestOptions): Promise<never> {
    return this.#refuse(key, 'it can only be read', options);
  }

  // eslint-disable-next-line require-yield -- there is nothing to yield
  async *list(prefix: string, options?: RequestOptions): AsyncGenerator<ObjectInfo, void, undefined> {
    requirePrefix(prefix);
    await this.#refuse(undefined, 'a web server has no list of its objects', options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#requests.close();
    this.#transport[Symbol.dispose]();
  }

  async #getWhole(key: ObjectKey, signal: AbortSignal | undefined): Promise<Uint8Array> {
    const answer = await this.#open(key, { signal });
    if (answer.status !== 200) throw this.#unwanted(answer, key);
    this.#requireOwnBytes(key, answer);
    this.#requireSame(key, answer, contentLengthOf(answer.headers));
    return answer.whole(limits.wholeObjectBytesMax);
  }

  async *#readPieces(
    key: ObjectKey,
    range: ByteRange,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    yield* this.#cut(key, range, await this.#openRange(key, range, signal));
  }

  /** The range out of a body that is it, or has it near its beginning. */
  async *#cut(
    key: ObjectKey,
    range: ByteRange,
    body: RangeBody | undefined,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    if (body === undefined) return;
    let skipBytes = body.isExact ? 0 : range.offsetBytes;
    let leftBytes = range.lengthBytes;
    for await (const piece of body.answer.pieces()) {
      const wanted = piece.subarray(skipBytes, skipBytes + leftBytes);
      skipBytes = Math.max(0, skipBytes - piece.length);
      leftBytes -= wanted.length;
      if (wanted.length > 0) yield wanted;
      if (leftBytes === 0 && !body.isExact) return;
    }
    if (leftBytes > 0) throw this.#brokenOff(key, range.lengthBytes - leftBytes, range);
  }

  /** The coming body; undefined for an empty range, of which HTTP has none. */
  async #openRange(
    key: ObjectKey,
    range: ByteRange,
    signal: AbortSignal | undefined,
  ): Promise<RangeBody | undefined> {
    if (range.lengthBytes === 0) {
      await this.#requireThere(key, range, signal);
      return undefined;
    }
    const answer = await this.#open(key, { range, signal });
    if (answer.status === 206) return this.#partial(key, range, answer);
    if (answer.status === 200) return this.#unranged(key, range, answer);
    if (answer.status !== 416) throw this.#unwanted(answer, key);
    answer.discard();
    await this.#requireThere(key, range, signal);
    throw this.#requests.unreachable(key, 'it did not find a range that is there');
  }

  #partial(key: ObjectKey, range: ByteRange, answer: HttpAnswer): RangeBody {
    const endBytes = range.offsetBytes + range.lengthBytes;
    const found = contentRangeOf(answer.headers);
    this.#requireOwnBytes(key, answer);
    this.#requireSame(key, answer, found?.totalBytes);
    if (found?.totalBytes !== undefined && found.totalBytes < endBytes) {
      answer.discard();
      throw this.#requests.truncated(key, endBytes, found.totalBytes);
    }
    const length = contentLengthOf(answer.headers) ?? range.lengthBytes;
    if (
      found?.range?.offsetBytes !== range.offsetBytes ||
      found.range.lengthBytes !== range.lengthBytes ||
      length !== range.lengthBytes
    ) {
      answer.discard();
      throw this.#requests.unreachable(key, 'it answered with another range than it was asked for');
    }
    return { answer, isExact: true };
  }

  /** The server sent the whole object. That is right where it was all asked for, and affordable near its beginning. */
  #unranged(key: ObjectKey, range: ByteRange, answer: HttpAnswer): RangeBody {
    const endBytes = range.offsetBytes + range.lengthBytes;
    const totalBytes = contentLengthOf(answer.headers);
    this.#requireOwnBytes(key, answer);
    this.#requireSame(key, answer, totalBytes);
    if (totalBytes !== undefined && totalBytes < endBytes) {
      answer.discard();
      throw this.#requests.truncated(key, endBytes, totalBytes);
    }
    if (totalBytes === range.lengthBytes) return { answer, isExact: true };
    if (endBytes <= limits.httpUnrangedBytesMax) return { answer, isExact: false };
    answer.discard();
    throw new StoreRefused({
      ...this.#requests.failure(key),
      reason: 'it sends whole objects when it is asked for a range of bytes',
      remedy: 'Use a web server or CDN that knows byte ranges (as nginx does), or have it switched on.',
    });
  }

  /** @throws ObjectMissing, ObjectTruncated */
  async #requireThere(key: ObjectKey, range: ByteRange, signal: AbortSignal | undefined): Promise<void> {
    const foundBytes = await this.#lengthOf(key, signal);
    if (foundBytes === undefined) throw new ObjectMissing({ store: this.description, key });
    const endBytes = range.offsetBytes + range.lengthBytes;
    if (foundBytes < endBytes) throw this.#requests.truncated(key, endBytes, foundBytes);
  }

  async #lengthOf(key: ObjectKey, signal: AbortSignal | undefined): Promise<number | undefined> {
    const answer = await this.#send('HEAD', key, { isFresh: true, signal });
    await answer?.whole(0);
    if (answer === undefined || isAbsence(answer.status)) {
      this.#validators.forget(key);
      return undefined;
    }
    if (answer.status !== 200) throw this.#unwanted(answer, key);
    this.#requireOwnBytes(key, answer);
    const lengthBytes = contentLengthOf(answer.headers);
    if (lengthBytes === undefined)
      throw new StoreRefused({
        ...this.#requests.failure(key),
        reason: 'it does not say how long an object is',
        remedy: 'Serve the files as they are: without compression, filters or scripts.',
      });
    this.#requireSame(key, answer, lengthBytes);
    return lengthBytes;
  }

  /** @throws ObjectMissing, when the server itself says so */
  async #open(key: ObjectKey, options: ReadOptions): Promise<HttpAnswer> {
    for (const isFresh of [false, true]) {
      const answer = await this.#send('GET', key, { ...options, isFresh });
      if (answer !== undefined && !isAbsence(answer.status)) return answer;
      await answer?.whole(limits.httpMessageBytesMax).catch(() => undefined);
      if (answer === undefined) break;
    }
    this.#validators.forget(key);
    throw new ObjectMissing({ store: this.description, key });
  }

  #send(
    method: 'GET' | 'HEAD',
    key: ObjectKey,
    { range, isFresh = false, signal }: ReadOptions,
  ): Promise<HttpAnswer | undefined> {
    const path = this.#location.basePath + key;
    const headers: Record<string, string> = { 'accept-encoding': 'identity' };
    if (range !== undefined)
      headers['range'] = `bytes=${range.offsetBytes}-${range.offsetBytes + range.lengthBytes - 1}`;
    if (isFresh) headers['cache-control'] = 'no-cache';
    // Many caches do not heed the header, but none has seen this name; web servers of files do not look at what follows ?.
    return this.#transport.send({
      method,
      path: isFresh ? `${path}?${randomUUID()}` : path,
      headers,
      signal,
    });
  }

  /** Also where the object is sent compressed: its byte ranges are then not those of the object. */
  #requireOwnBytes(key: ObjectKey, answer: HttpAnswer): void {
    const encoding = encodingOf(answer.headers);
    if (encoding === undefined) return;
    answer.discard();
    throw new StoreRefused({
      ...this.#requests.failure(key),
      reason: `it sends objects compressed (${encoding}), which was not asked for`,
      remedy:
        'Switch compression off for the repository: its objects are encrypted and cannot be compressed.',
    });
  }

  #requireSame(key: ObjectKey, answer: HttpAnswer, lengthBytes: number | undefined): void {
    if (this.#validators.accept(key, validatorsOf(answer.headers, lengthBytes))) return;
    answer.discard();
    throw new ObjectChanged({ store: this.description, key });
  }

  #refuse(key: ObjectKey | undefined, reason: string, { signal }: RequestOptions = {}): Promise<never> {
    return this.#requests.during(key, signal, () => Promise.reject(this.#refusal(key, reason)));
  }

  #refusal(key: ObjectKey | undefined, reason: string): StoreRefused {
    return new StoreRefused({
      ...this.#requests.failure(key),
      reason,
      remedy:
        'Use the repository itself for this (file:// or s3://); http:// and https:// are for reading a copy.',
    });
  }

  #unwanted(answer: HttpAnswer, key: ObjectKey): StoreRefused | StoreUnreachable {
    answer.discard();
    if (answer.status >= 400) return explainStatus(answer.status, this.#requests.failure(key));
    return this.#requests.unreachable(key, `it answers ${answer.status}, which is not what was asked for`);
  }

  #badRedirect(error: BadRedirect, key: ObjectKey | undefined): StoreRefused {
    return new StoreRefused({
      ...this.#requests.failure(key),
      reason: error.message,
      remedy: 'Name the server that has the objects.',
      cause: error,
    });
  }

  #brokenOff(key: ObjectKey, foundBytes: number, { lengthBytes }: ByteRange): StoreUnreachable {
    return this.#requests.unreachable(
      key,
      `its answer broke off after ${foundBytes} of ${lengthBytes} bytes`,
    );
  }
}

interface RangeBody {
  readonly answer: HttpAnswer;
  /** Whether the body is the range, and not the object from its beginning. */
  readonly isExact: boolean;
}
