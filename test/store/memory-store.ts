import { everyCapability, ObjectMissing, ObjectTruncated } from '../../src/store/index.js';
import type { ByteRange, ObjectInfo, ObjectKey, ObjectStore, RequestOptions } from '../../src/store/index.js';
import {
  asKeys,
  inOnePiece,
  RequestGate,
  requirePrefix,
  requireRange,
  throwIfCancelled,
} from '../../src/store/request.js';

/** A store in memory: the shortest one that keeps the contract. It never waits for anything but promises. */
export class MemoryStore implements ObjectStore {
  readonly description = 'memory:';
  readonly capabilities = everyCapability;
  readonly #objects = new Map<ObjectKey, Uint8Array>();
  readonly #gate = new RequestGate();

  async get(key: ObjectKey, range?: ByteRange, options?: RequestOptions): Promise<Uint8Array> {
    if (range !== undefined) requireRange(range);
    return this.#request(options, () => {
      const bytes = this.#objects.get(key);
      if (bytes === undefined) throw new ObjectMissing({ store: this.description, key });
      if (range === undefined) return bytes.slice();
      const endBytes = range.offsetBytes + range.lengthBytes;
      if (endBytes > bytes.length)
        throw new ObjectTruncated({
          store: this.description,
          key,
          expectedBytes: endBytes,
          foundBytes: bytes.length,
        });
      return bytes.slice(range.offsetBytes, endBytes);
    });
  }

  async *read(
    key: ObjectKey,
    range: ByteRange,
    options?: RequestOptions,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    yield* this.#gate.stream(() => inOnePiece(() => this.get(key, range, options)));
  }

  async put(key: ObjectKey, parts: readonly Uint8Array[], options?: RequestOptions): Promise<void> {
    await this.#request(options, () => this.#objects.set(key, joined(parts)));
  }

  async putIfAbsent(
    key: ObjectKey,
    parts: readonly Uint8Array[],
    options?: RequestOptions,
  ): Promise<'created' | 'exists'> {
    return this.#request(options, () => {
      if (this.#objects.has(key)) return 'exists';
      this.#objects.set(key, joined(parts));
      return 'created';
    });
  }

  async *list(
    prefix: string,
    options?: RequestOptions & { readonly after?: ObjectKey },
  ): AsyncGenerator<ObjectInfo, void, undefined> {
    requirePrefix(prefix);
    const after = options?.after ?? '';
    const keys = await this.#request(options, () =>
      [...this.#objects.keys()].filter((key) => key.startsWith(prefix) && key > after).sort(),
    );
    for (const key of keys) {
      const info = await this.stat(key, options);
      if (info !== undefined) yield info;
    }
  }

  async stat(key: ObjectKey, options?: RequestOptions): Promise<ObjectInfo | undefined> {
    return this.#request(options, () => {
      const bytes = this.#objects.get(key);
      return bytes === undefined ? undefined : { key, lengthBytes: bytes.length };
    });
  }

  async delete(keys: ObjectKey | readonly ObjectKey[], options?: RequestOptions): Promise<void> {
    for (const key of asKeys(keys)) await this.#request(options, () => this.#objects.delete(key));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#gate.close();
  }

  #request<T>(options: RequestOptions | undefined, request: () => T): Promise<T> {
    return this.#gate.run(async () => {
      throwIfCancelled(options?.signal, 'The request');
      return request();
    });
  }
}

/** Not a Buffer: `slice` of that would not copy. */
function joined(parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts));
}
