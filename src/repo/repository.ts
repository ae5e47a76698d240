import { randomBytes } from 'node:crypto';
import { limits } from '../base/index.js';
import { ObjectMissing, ObjectTruncated, type ObjectStore, type RequestOptions } from '../store/index.js';
import { createCodecPool, type CodecPool } from './codec/pool.js';
import { DamagedObject, RepositoryExists, RepositoryMissing } from './errors.js';
import { decodeHeader, encodeHeader, openHeader, type RepositoryHeader } from './format/header.js';
import { headerKey, nameKey, namesPrefix, packKey } from './format/object-keys.js';
import {
  checkPackHeader,
  decodePackTrailer,
  openPackIndex,
  packHeaderBytes,
  packTrailerBytes,
  type PackIndexEntry,
} from './format/pack.js';
import { RecordSealer } from './format/record.js';
import { Sealer } from './format/sealer.js';
import { formatVersion } from './format/version.js';
import { decodeVmName } from './format/vm-name.js';
import { VmHistory } from './history.js';
import { generateSecrets, type RandomBytes, type RepositorySecrets } from './keys/secrets.js';
import { Records } from './records.js';
import { StoreBlobReader } from './store-blob-reader.js';
import { untilIntact } from './until-intact.js';
import type { BlobReader, PackId, SeenPosition } from './types.js';

export interface RepositoryOptions {
  readonly codecThreads?: number;
  /** The clock and the randomness of tests. */
  readonly now?: () => Date;
  readonly randomBytes?: RandomBytes;
}

/**
 * A repository in a store, opened with its key. Owns its codec threads (which start when first needed); the store
 * stays the caller's and must live longer.
 *
 * Every method throws `DamagedObject`, `UnknownFormat`, and the errors of the store.
 */
export class Repository implements AsyncDisposable {
  readonly store: ObjectStore;
  readonly header: RepositoryHeader;
  readonly secrets: RepositorySecrets;
  readonly codec: CodecPool;
  /** Seals and opens in place, on the thread of the caller: for small things. */
  readonly sealer: Sealer;
  /** Straight from the store. */
  readonly blobs: BlobReader;
  readonly #records: Records;
  readonly #surroundings: Required<Pick<RepositoryOptions, 'now' | 'randomBytes'>>;

  private constructor(
    store: ObjectStore,
    header: RepositoryHeader,
    secrets: RepositorySecrets,
    options: RepositoryOptions,
  ) {
    this.store = store;
    this.header = header;
    this.secrets = secrets;
    this.codec = createCodecPool(secrets, { threads: options.codecThreads ?? limits.codecThreads });
    this.sealer = new Sealer(secrets);
    this.blobs = new StoreBlobReader(store, this.codec);
    this.#surroundings = {
      now: options.now ?? (() => new Date()),
      randomBytes: options.randomBytes ?? randomBytes,
    };
    this.#records = new Records(store, new RecordSealer(secrets, this.#surroundings.randomBytes));
  }

  /**
   * Makes a repository with new keys. `RepositoryExists` where there is one: it is not touched.
   * `keepSecrets` is waited for before the repository exists: what it rejects with leaves no repository without a key.
   */
  static async create(
    store: ObjectStore,
    options: RepositoryOptions & {
      readonly chunkBytes?: number;
      readonly keepSecrets?: (secrets: RepositorySecrets) => Promise<void>;
    } = {},
  ): Promise<{ readonly repository: Repository; readonly secrets: RepositorySecrets }> {
    if ((await store.stat(headerKey)) !== undefined) throw new RepositoryExists(store.description);
    const secrets = generateSecrets(options.randomBytes);
    await options.keepSecrets?.(secrets);
    const header: RepositoryHeader = {
      version: formatVersion,
      repositoryId: secrets.repositoryId,
      chunkBytes: options.chunkBytes ?? limits.chunkBytes,
    };
    const object = encodeHeader(header, secrets);
    if ((await store.putIfAbsent(headerKey, [object])) === 'exists') {
      // A request that was repeated after its answer got lost finds what it wrote itself.
      const there = await store.get(headerKey);
      if (!Buffer.from(object).equals(there)) throw new RepositoryExists(store.description);
    }
    return { repository: new Repository(store, header, secrets, options), secrets };
  }

  /** What the store says of the repository without a key; not authenticated. `RepositoryMissing`. */
  static async readHeader(store: ObjectStore, options: RequestOptions = {}): Promise<RepositoryHeader> {
    return untilIntact(async () => decodeHeader(await readHeaderObject(store, options), store.description));
  }

  /** `RepositoryMissing`, `WrongKey`. */
  static async open(
    store: ObjectStore,
    secrets: RepositorySecrets,
    options: RepositoryOptions = {},
  ): Promise<Repository> {
    const header = await untilIntact(async () =>
      openHeader(await readHeaderObject(store, {}), store.description, secrets),
    );
    return new Repository(store, header, secrets, options);
  }

  /** As `open`, with what that read once: does not ask the store. */
  static reopen(
    store: ObjectStore,
    header: RepositoryHeader,
    secrets: RepositorySecrets,
    options: RepositoryOptions = {},
  ): Repository {
    return new Repository(store, header, secrets, options);
  }

  /** Ascending. A VM is listed from its first lease on, so it need not have a version. */
  async vmNames(options: RequestOptions = {}): Promise<readonly string[]> {
    const names: string[] = [];
    for await (const { key, payload } of this.#records.readAll(namesPrefix, options)) {
      const name = decodeVmName(payload, key);
      if (nameKey(this.#records.sealer.vmId(name)) !== key) {
        throw new DamagedObject(key, 'it holds the name of another VM');
      }
      names.push(name);
    }
    return names.sort();
  }

  /** `InvalidVmName`. The VM need not exist yet. `seen`: what this host saw of it last, as of `VmHistory.head`. */
  history(vmName: string, seen?: SeenPosition): VmHistory {
    return new VmHistory(this.store, this.#records, vmName, { ...this.#surroundings, seen });
  }

  /** Everything in a pack, by the pack's own index. */
  async packIndex(packId: PackId, options: RequestOptions = {}): Promise<readonly PackIndexEntry[]> {
    const key = packKey(packId);
    const info = await this.store.stat(key, options);
    if (info === undefined) throw new ObjectMissing({ store: this.store.description, key });
    const read = (offsetBytes: number, lengthBytes: number): Promise<Uint8Array> =>
      this.store.get(key, { offsetBytes, lengthBytes }, options);
    if (info.lengthBytes < packHeaderBytes + packTrailerBytes)
      throw new DamagedObject(key, 'it is truncated');
    checkPackHeader(await read(0, packHeaderBytes), packId);
    const trailer = await read(info.lengthBytes - packTrailerBytes, packTrailerBytes);
    const index = decodePackTrailer(trailer, packId, info.lengthBytes);
    const sealedIndex = await read(index.offsetBytes, index.lengthBytes);
    return openPackIndex(this.sealer, packId, sealedIndex, index.offsetBytes);
  }

  /** Idempotent; finishes what the codec has begun. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.codec[Symbol.asyncDispose]();
  }
}

async function readHeaderObject(store: ObjectStore, options: RequestOptions): Promise<Uint8Array> {
  try {
    return await store.get(headerKey, undefined, options);
  } catch (error) {
    if (error instanceof ObjectMissing) throw new RepositoryMissing(store.description);
    if (error instanceof ObjectTruncated)
      throw new DamagedObject(headerKey, 'it is truncated', { cause: error });
    throw error;
  }
}
