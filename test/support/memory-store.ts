import {
  everyCapability,
  inOnePiece,
  ObjectMissing,
  ObjectTruncated,
  type ByteRange,
  type ObjectInfo,
  type ObjectKey,
  type ObjectStore,
  type RequestOptions,
} from '../../src/store/index.js';

/** A store in memory whose objects a test can look at and damage. */
export class MemoryStore implements ObjectStore {
  readonly description = 'memory:';
  readonly capabilities = everyCapability;
  readonly objects = new Map<ObjectKey, Buffer>();

  async get(key: ObjectKey, range?: ByteRange, _options?: RequestOptions): Promise<Uint8Array> {
    const object = this.objects.get(key);
    if (object === undefined) throw new ObjectMissing({ store: this.description, key });
    const start = range?.offsetBytes ?? 0;
    const end = start + (range?.lengthBytes ?? object.length);
    if (end > object.length) {
      throw new ObjectTruncated({
        store: this.description,
        key,
        expectedBytes: end,
        foundBytes: object.length,
      });
    }
    return Uint8Array.from(object.subarray(start, end));
  }

  read(key: ObjectKey, range: ByteRange, options?: RequestOptions): AsyncIterable<Uint8Array> {
    return inOnePiece(() => this.get(key, range, options));
  }

  async put(key: ObjectKey, parts: readonly Uint8Array[]): Promise<void> {
    this.objects.set(key, Buffer.concat(parts));
  }

  async putIfAbsent(key: ObjectKey, parts: readonly Uint8Array[]): Promise<'created' | 'exists'> {
    if (this.objects.has(key)) return 'exists';
    this.objects.set(key, Buffer.concat(parts));
    return 'created';
  }

  async *list(prefix: string, options: { readonly after?: ObjectKey } = {}): AsyncIterable<ObjectInfo> {
    for (const key of this.keys(prefix)) {
      if (options.after === undefined || key > options.after) {
        yield { key, lengthBytes: this.object(key).length };
      }
    }
  }

  async stat(key: ObjectKey): Promise<ObjectInfo | undefined> {
    const object = this.objects.get(key);
    return object === undefined ? undefined : { key, lengthBytes: object.length };
  }

  async delete(keys: ObjectKey | readonly ObjectKey[]): Promise<void> {
    for (const key of typeof keys === 'string' ? [keys] : keys) this.objects.delete(key);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Nothing is held.
  }

  keys(prefix: string): ObjectKey[] {
    return [...this.objects.keys()].filter((key) => key.startsWith(prefix)).sort();
  }

  object(key: ObjectKey): Buffer {
    const object = this.objects.get(key);
    if (object === undefined) throw new Error(`no object ${key}`);
    return object;
  }

  flipBit(key: ObjectKey, bit: number): void {
    const object = Buffer.from(this.object(key));
    const byte = bit >> 3;
    object[byte] = (object[byte] ?? 0) ^ (1 << (bit & 7));
    this.objects.set(key, object);
  }

  swap(one: ObjectKey, other: ObjectKey): void {
    const [first, second] = [this.object(one), this.object(other)];
    this.objects.set(one, second);
    this.objects.set(other, first);
  }
}
