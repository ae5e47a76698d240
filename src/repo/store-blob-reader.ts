import { ObjectTruncated, type ObjectStore, type RequestOptions } from '../store/index.js';
import type { CodecPool } from './codec/pool.js';
import { DamagedObject } from './errors.js';
import { packKey } from './format/object-keys.js';
import { untilIntact } from './until-intact.js';
import type { BlobKind, BlobReader, BlobReference } from './types.js';

/** Blobs straight from a store: one range request each, nothing kept. */
export class StoreBlobReader implements BlobReader {
  readonly #store: ObjectStore;
  readonly #codec: CodecPool;

  constructor(store: ObjectStore, codec: CodecPool) {
    this.#store = store;
    this.#codec = codec;
  }

  /** Errors: `DamagedObject`, and those of the store. */
  async readBlob(
    reference: BlobReference,
    kind: BlobKind,
    options: RequestOptions = {},
  ): Promise<Uint8Array> {
    return untilIntact(async () =>
      this.#codec.open(await this.#readSealed(reference, options), reference, kind),
    );
  }

  async #readSealed(reference: BlobReference, options: RequestOptions): Promise<Uint8Array> {
    const key = packKey(reference.packId);
    const range = { offsetBytes: reference.offsetBytes, lengthBytes: reference.sealedBytes };
    try {
      return await this.#store.get(key, range, options);
    } catch (error) {
      if (error instanceof ObjectTruncated) throw new DamagedObject(key, 'it is truncated', { cause: error });
      throw error;
    }
  }
}
