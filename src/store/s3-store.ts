import { limits } from '../base/index.js';
import { ObjectMissing, StoreRefused, type StoreUnreachable } from './errors.js';
import { everyCapability, isObjectKey } from './object-store.js';
import type { ByteRange, ObjectInfo, ObjectKey, ObjectStore, RequestOptions } from './object-store.js';
import { requirePrefix, requireRange } from './request.js';
import { loadS3Configuration, type S3Configuration } from './s3-store/configuration.js';
import { parseS3Url, type S3Location } from './s3-store/location.js';
import {
  deletionOf,
  parseDeletionFailure,
  parseErrorCode,
  parseListing,
  Unintelligible,
} from './s3-store/messages.js';
import type { Listing } from './s3-store/messages.js';
import { explainAnswer, noCredentials, speaksOfOldCredentials } from './s3-store/refusals.js';
import { emptyBodyHash, hashBody } from './s3-store/signer.js';
import { HttpRequests } from './http/requests.js';
import { HttpTransport, type HttpAnswer, type HttpRequest } from './http/transport.js';

/** One request to the store, before it is signed. */
interface S3Request {
  readonly method: HttpRequest['method'];
  /** The object's name in the bucket; empty for the bucket itself. */
  readonly name: string;
  /** The object that errors are about. */
  readonly key?: ObjectKey;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: readonly Uint8Array[];
  readonly isRepeatable?: boolean;
}

/** What came of a request; of an error, its code, and nothing is left of the body. */
interface S3Answer {
  readonly status: number;
  readonly headers: HttpAnswer['headers'];
  readonly code: string | undefined;
  readonly body: Pick<HttpAnswer, 'whole' | 'pieces' | 'discard'>;
}

/**
 * Objects below a prefix in a bucket of S3, or of a store that speaks its protocol.
 *
 * Objects are at most as long as one request may be (they are packs, see `limits.packPlaintextBytes`), so there are no
 * uploads in parts. Nothing is repeated here but requests that met a closed connection, and once with new credentials:
 * callers know better how long to wait.
 */
export class S3Store implements ObjectStore {
  readonly description: string;
  readonly capabilities = everyCapability;
  readonly #location: S3Location;
  readonly #configuration: S3Configuration;
  readonly #transport: HttpTransport;
  readonly #requests: HttpRequests;
  #refreshing: Promise<void> | undefined;

  private constructor(location: S3Location, configuration: S3Configuration, idleMs: number | undefined) {
    const { bucket, prefix } = location;
    const { origin, hasOwnEndpoint } = configuration;
    const url = `s3://${bucket}/${prefix}`.replace(/\/$/, '');
    this.description = hasOwnEndpoint ? `${url} (${origin.host})` : url;
    this.#location = location;
    this.#configuration = configuration;
    this.#transport = new HttpTransport(origin, idleMs);
    this.#requests = new HttpRequests(this.description);
  }

  /** Asks the store nothing. `idleMs`: how long nothing may come or go, for tests. @throws InvalidInput */
  static async open(url: string, options: { readonly idleMs?: number } = {}): Promise<S3Store> {
    const location = parseS3Url(url);
    return new S3Store(location, await loadS3Configuration(location), options.idleMs);
  }

  async get(key: ObjectKey, range?: ByteRange, { signal }: RequestOptions = {}): Promise<Uint8Array> {
    if (range !== undefined) requireRange(range);
    return this.#requests.during(key, signal, async () => {
      if (range === undefined) return this.#getWhole(key, signal);
      const body = await this.#openRange(key, range, signal);
      return body === undefined ? new Uint8Array(0) : body.whole(range.lengthBytes);
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

  async put(key: ObjectKey, parts: readonly Uint8Array[], { signal }: RequestOptions = {}): Promise<void> {
    await this.#requests.during(key, signal, async () => {
      const answer = await this.#upload(key, parts, {}, signal);
      if (answer.status !== 200) throw this.#explain(answer, key);
    });
  }

  async putIfAbsent(
    key: ObjectKey,
    parts: readonly Uint8Array[],
    { signal }: RequestOptions = {},
  ): Promise<'created' | 'exists'> {
    return this.#requests.during(key, signal, async () => {
      const answer = await this.#upload(key, parts, { 'if-none-match': '*' }, signal);
      if (answer.status === 200) return 'created';
      if (answer.status === 412) return 'exists';
      throw this.#explain(answer, key);
    });
  }

  async *list(
    prefix: string,
    { signal, after }: RequestOptions & { readonly after?: ObjectKey } = {},
  ): AsyncGenerator<ObjectInfo, void, undefined> {
    requirePrefix(prefix);
    const own = this.#location.prefix;
    let position = after === undefined ? '' : own + after;
    for (;;) {
      const page = await this.#requests.during(undefined, signal, () =>
        this.#listPage(own + prefix, position, signal),
      );
      for (const { name, lengthBytes } of page.objects) {
        // What is not ours may lie beside it.
        const key = name.slice(own.length);
        if (isObjectKey(key)) yield { key, lengthBytes };
      }
      const last = page.objects.at(-1)?.name;
      if (!page.isTruncated || last === undefined) return;
      position = last;
    }
  }

  async stat(key: ObjectKey, { signal }: RequestOptions = {}): Promise<ObjectInfo | undefined> {
    return this.#requests.during(key, signal, async () => {
      const lengthBytes = await this.#lengthOf(key, signal);
      return lengthBytes === undefined ? undefined : { key, lengthBytes };
    });
  }

  async delete(keys: ObjectKey | readonly ObjectKey[], { signal }: RequestOptions = {}): Promise<void> {
    if (typeof keys === 'string') {
      await this.#requests.during(keys, signal, () => this.#deleteOne(keys, signal));
      return;
    }
    for (let at = 0; at < keys.length; at += limits.s3KeysPerDeletion) {
      const batch = keys.slice(at, at + limits.s3KeysPerDeletion);
      await this.#requests.during(undefined, signal, () => this.#deleteBatch(batch, signal));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#requests.close();
    this.#transport[Symbol.dispose]();
  }

  async #getWhole(key: ObjectKey, signal: AbortSignal | undefined): Promise<Uint8Array> {
    const answer = await this.#request({ method: 'GET', name: this.#nameOf(key), key }, signal);
    if (answer.status !== 200) throw this.#explain(answer, key);
    return answer.body.whole(limits.wholeObjectBytesMax);
  }

  async *#readPieces(
    key: ObjectKey,
    range: ByteRange,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const body = await this.#openRange(key, range, signal);
    if (body !== undefined) yield* body.pieces();
  }

  /** The coming body of exactly this range; undefined for an empty one, of which HTTP has none. */
  async #openRange(
    key: ObjectKey,
    range: ByteRange,
    signal: AbortSignal | undefined,
  ): Promise<S3Answer['body'] | undefined> {
    const { offsetBytes, lengthBytes } = range;
    const endBytes = offsetBytes + lengthBytes;
    if (lengthBytes === 0) {
      await this.#requireLength(key, range, signal);
      return undefined;
    }
    const headers = { range: `bytes=${offsetBytes}-${endBytes - 1}` };
    const answer = await this.#request({ method: 'GET', name: this.#nameOf(key), key, headers }, signal);
    if (answer.status === 416) {
      await this.#requireLength(key, range, signal);
      throw this.#requests.unreachable(key, 'it did not find a range that is there');
    }
    if (answer.status === 206 && isAnswerFor(range, answer)) return answer.body;
    if (answer.status < 300) answer.body.discard();
    if (answer.status === 200) throw new StoreRefused({ ...this.#requests.failure(key), ...noRanges });
    if (answer.status !== 206) throw this.#explain(answer, key);
    const totalBytes = totalOf(answer);
    if (totalBytes !== undefined && totalBytes < endBytes)
      throw this.#requests.truncated(key, endBytes, totalBytes);
    throw this.#requests.unreachable(key, 'it answered with another range than it was asked for');
  }

  /** @throws ObjectMissing, ObjectTruncated */
  async #requireLength(key: ObjectKey, range: ByteRange, signal: AbortSignal | undefined): Promise<void> {
    const foundBytes = await this.#lengthOf(key, signal);
    if (foundBytes === undefined) throw new ObjectMissing({ store: this.description, key });
    const endBytes = range.offsetBytes + range.lengthBytes;
    if (foundBytes < endBytes) throw this.#requests.truncated(key, endBytes, foundBytes);
  }

  async #lengthOf(key: ObjectKey, signal: AbortSignal | undefined): Promise<number | undefined> {
    const name = this.#nameOf(key);
    const answer = await this.#request({ method: 'HEAD', name, key }, signal);
    await answer.body.whole(0);
    const length = answer.headers['content-length'];
    if (answer.status === 200 && length !== undefined) return Number(length);
    // An answer to HEAD has no body that would tell a missing object from a missing bucket.
    const headers = { range: 'bytes=0-0' };
    const second = await this.#request({ method: 'GET', name, key, headers }, signal);
    if (second.status === 206) {
      await second.body.whole(1);
      return totalOf(second);
    }
    const error = this.#explain(second, key);
    if (error instanceof ObjectMissing) return undefined;
    throw error;
  }

  async #upload(
    key: ObjectKey,
    parts: readonly Uint8Array[],
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal | undefined,
  ): Promise<S3Answer> {
    const lengthBytes = parts.reduce((sum, part) => sum + part.length, 0);
    const answer = await this.#request(
      {
        ...{ method: 'PUT', name: this.#nameOf(key), key, body: parts },
        headers: { ...headers, 'content-length': String(lengthBytes) },
        // A creation that met a closed connection may have happened all the same.
        isRepeatable: headers['if-none-match'] === undefined,
      },
      signal,
    );
    // Nothing in it matters, but it must have come whole.
    if (answer.status < 300) await answer.body.whole(limits.s3MessageBytesMax);
    return answer;
  }

  async #listPage(prefix: string, after: string, signal: AbortSignal | undefined): Promise<Listing> {
    const query = {
      ...{ 'list-type': '2', 'encoding-type': 'url', 'max-keys': String(limits.s3KeysPerListing), prefix },
      ...(after === '' ? {} : { 'start-after': after }),
    };
    const answer = await this.#request({ method: 'GET', name: '', query }, signal);
    if (answer.status !== 200) throw this.#explain(answer, undefined);
    const body = await answer.body.whole(limits.s3MessageBytesMax);
    const page = this.#understand(() => parseListing(body));
    const { objects } = page;
    const isInOrder = objects.every(({ name }, index) => name > (objects[index - 1]?.name ?? after));
    if (!isInOrder) throw this.#requests.unreachable(undefined, 'its listing is not in order');
    return page;
  }

  async #deleteOne(key: ObjectKey, signal: AbortSignal | undefined): Promise<void> {
    const answer = await this.#request({ method: 'DELETE', name: this.#nameOf(key), key }, signal);
    if (answer.status === 204 || answer.status === 200) {
      await answer.body.whole(limits.s3MessageBytesMax);
      return;
    }
    const error = this.#explain(answer, key);
    if (!(error instanceof ObjectMissing)) throw error;
  }

  async #deleteBatch(keys: readonly ObjectKey[], signal: AbortSignal | undefined): Promise<void> {
    const { body, md5 } = deletionOf(keys.map((key) => this.#nameOf(key)));
    const headers = { 'content-md5': md5, 'content-length': String(body.length) };
    const answer = await this.#request(
      { method: 'POST', name: '', query: { delete: '' }, headers, body: [body] },
      signal,
    );
    if (answer.status !== 200) throw this.#explain(answer, undefined);
    const message = await answer.body.whole(limits.s3MessageBytesMax);
    const code = this.#understand(() => parseDeletionFailure(message));
    if (code === undefined) return;
    const status = code === 'AccessDenied' ? 403 : 500;
    throw explainAnswer({ status, code }, this.#requests.failure(undefined), this.#context(answer));
  }

  /** Looks for other credentials once, where those in use are refused. */
  async #request(request: S3Request, signal: AbortSignal | undefined): Promise<S3Answer> {
    const first = await this.#signAndSend(request, signal);
    if (!speaksOfOldCredentials(first.status, first.code)) return first;
    await this.#refreshCredentials(request.key);
    return this.#signAndSend(request, signal);
  }

  async #signAndSend(request: S3Request, signal: AbortSignal | undefined): Promise<S3Answer> {
    const { method, name, key, query = {}, body, isRepeatable = true } = request;
    const { origin, basePath, signer } = this.#configuration;
    const path = `${basePath}/${name}`;
    const headers = {
      ...request.headers,
      host: origin.host,
      'x-amz-content-sha256': body === undefined ? emptyBodyHash : await hashBody(body),
    };
    const unsigned = { method, hostname: origin.host, path, query: { ...query }, headers };
    const signed = await signer.sign(unsigned).catch(() => {
      throw new StoreRefused({ ...this.#requests.failure(key), ...noCredentials });
    });
    const answer = await this.#transport.send({
      ...{ method, path: path + queryText(query), headers: signed, isRepeatable, signal },
      ...(body === undefined ? {} : { body }),
    });
    const { status } = answer;
    const isError = status >= 300 && method !== 'HEAD';
    const code = isError ? parseErrorCode(await answer.whole(limits.s3MessageBytesMax)) : undefined;
    return { status, headers: answer.headers, code, body: answer };
  }

  /** One look for everybody who waits. */
  async #refreshCredentials(key: ObjectKey | undefined): Promise<void> {
    this.#refreshing ??= this.#configuration.signer
      .refresh()
      .catch(() => {
        throw new StoreRefused({ ...this.#requests.failure(key), ...noCredentials });
      })
      .finally(() => (this.#refreshing = undefined));
    await this.#refreshing;
  }

  #explain(answer: S3Answer, key: ObjectKey | undefined): ObjectMissing | StoreRefused | StoreUnreachable {
    const { code } = answer;
    if (answer.status === 404 && code === 'NoSuchKey' && key !== undefined)
      return new ObjectMissing({ store: this.description, key });
    return explainAnswer({ status: answer.status, code }, this.#requests.failure(key), this.#context(answer));
  }

  #context({ headers }: S3Answer): Parameters<typeof explainAnswer>[2] {
    const region = headers['x-amz-bucket-region'];
    const isElsewhere = typeof region === 'string' && region !== this.#configuration.region;
    return { bucket: this.#location.bucket, bucketRegion: isElsewhere ? region : undefined };
  }

  #understand<T>(parse: () => T): T {
    try {
      return parse();
    } catch (error) {
      if (!(error instanceof Unintelligible)) throw error;
      throw this.#requests.unreachable(undefined, 'its answer is not what S3 answers');
    }
  }

  #nameOf(key: ObjectKey): string {
    return this.#location.prefix + key;
  }
}

const noRanges = {
  reason: 'it does not answer with ranges of objects',
  remedy: 'Use a store that does.',
};

function isAnswerFor({ offsetBytes, lengthBytes }: ByteRange, { headers }: S3Answer): boolean {
  const endBytes = offsetBytes + lengthBytes;
  const isRange = headers['content-range']?.startsWith(`bytes ${offsetBytes}-${endBytes - 1}/`) === true;
  return isRange && Number(headers['content-length']) === lengthBytes;
}

/** How long the object is of which a range came. */
function totalOf({ headers }: S3Answer): number | undefined {
  const total = /^bytes \d+-\d+\/(\d+)$/.exec(headers['content-range'] ?? '')?.[1];
  return total === undefined ? undefined : Number(total);
}

function queryText(query: Readonly<Record<string, string>>): string {
  const text = Object.entries(query).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
  return text.length === 0 ? '' : `?${text.join('&')}`;
}
