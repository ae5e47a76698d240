import { limits } from '../base/index.js';
import type { ObjectInfo, ObjectKey, ObjectStore, RequestOptions } from '../store/index.js';
import { DamagedObject } from './errors.js';
import { recordDigest, type RecordSealer } from './format/record.js';
import { inOrder } from './in-order.js';
import { untilIntact } from './until-intact.js';

/** A record as it was read: its payload, and what the log knows it by. */
export interface StoredRecord {
  readonly key: ObjectKey;
  readonly payload: Uint8Array;
  readonly digest: string;
  readonly storedBytes: number;
}

/** Signed records in a store. */
export class Records {
  readonly sealer: RecordSealer;
  readonly #store: ObjectStore;

  constructor(store: ObjectStore, sealer: RecordSealer) {
    this.#store = store;
    this.sealer = sealer;
  }

  /** Errors: `DamagedObject`, `UnknownFormat`, and those of the store. */
  async read(
    key: ObjectKey,
    options: RequestOptions & { readonly bytesMax?: number } = {},
  ): Promise<StoredRecord> {
    return untilIntact(async () => {
      const object = await this.#store.get(key, undefined, options);
      const payload = this.sealer.open(object, key, options.bytesMax);
      return { key, payload, digest: recordDigest(object), storedBytes: object.length };
    });
  }

  /** All records below a prefix, in ascending order of their keys. */
  readAll(prefix: string, options: RequestOptions = {}): AsyncGenerator<StoredRecord, void> {
    return inOrder(
      this.#list(prefix, options),
      ({ key }) => this.read(key, options),
      limits.recordReadsInFlight,
    );
  }

  /**
   * Creates a record if nothing is in its place. Answers its digest, or undefined when something else is there.
   * A request that was repeated after its answer got lost finds our own bytes, and counts as the success it was.
   * Errors: `ReadOnlyKey`, which says that the key cannot do `operation`, and those of the store.
   */
  async create(key: ObjectKey, payload: Uint8Array, operation: string): Promise<string | undefined> {
    const object = this.sealer.seal(payload, key, operation);
    const digest = recordDigest(object);
    if ((await this.#store.putIfAbsent(key, [object])) === 'created') return digest;
    return recordDigest(await this.#store.get(key)) === digest ? digest : undefined;
  }

  async *#list(prefix: string, options: RequestOptions): AsyncGenerator<ObjectInfo, void> {
    for await (const info of this.#store.list(prefix, options)) {
      if (info.lengthBytes > limits.logEntryBytesMax) {
        throw new DamagedObject(info.key, `a record cannot have ${info.lengthBytes} bytes`);
      }
      yield info;
    }
  }
}
