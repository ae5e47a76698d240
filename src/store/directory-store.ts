import { randomUUID } from 'node:crypto';
import { access, constants, open, rm, stat, unlink, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { limits, LimitExceeded } from '../base/index.js';
import { DurableDirectories, makeDurableDirectory } from './directory-store/directories.js';
import { explainSystemError, isAbsent } from './directory-store/failures.js';
import { TemporaryFile } from './directory-store/temporary-file.js';
import { walk } from './directory-store/walk.js';
import { ObjectMissing, ObjectTruncated, StoreUnreachable } from './errors.js';
import {
  everyCapability,
  type ByteRange,
  type ObjectInfo,
  type ObjectKey,
  type ObjectStore,
  type RequestOptions,
} from './object-store.js';
import { asKeys, RequestGate, requirePrefix, requireRange, throwIfCancelled } from './request.js';

/**
 * Objects as files below a root directory, on any file system that can do hard links, NFS included.
 *
 * `tmp` in the root holds files that are being written; only `create` makes it, so it also tells the store from the
 * empty mount point of a disk that is not there.
 */
export class DirectoryStore implements ObjectStore {
  readonly description: string;
  readonly capabilities = everyCapability;
  readonly #root: string;
  readonly #temporaryPath: string;
  readonly #directories: DurableDirectories;
  readonly #gate = new RequestGate();

  private constructor(root: string) {
    this.description = pathToFileURL(root).href;
    this.#root = root;
    this.#temporaryPath = join(root, 'tmp');
    this.#directories = new DurableDirectories(root);
  }

  /**
   * Makes the directory, its parents and `tmp` where they are missing, and proves that objects can be put there.
   * @throws StoreRefused, StoreUnreachable
   */
  static async create(root: string): Promise<DirectoryStore> {
    const store = new DirectoryStore(root);
    try {
      await makeDurableDirectory(store.#temporaryPath);
      await store.#proveWritable();
    } catch (error) {
      throw explainSystemError(error, { store: store.description, key: undefined });
    }
    return store;
  }

  /**
   * Opens a store that `create` made; it may be read-only.
   * @throws StoreUnreachable when it is not there, StoreRefused when it may not be read
   */
  static async open(root: string): Promise<DirectoryStore> {
    const store = new DirectoryStore(root);
    await store.#request(undefined, undefined, async () => {
      await store.#requireRoot();
      await access(root, constants.R_OK | constants.X_OK);
    });
    return store;
  }

  /** A store that was there before, and may be away now: its requests are then refused with StoreUnreachable. */
  static unseen(root: string): DirectoryStore {
    return new DirectoryStore(root);
  }

  async get(key: ObjectKey, range?: ByteRange, options: RequestOptions = {}): Promise<Uint8Array> {
    if (range !== undefined) requireRange(range);
    return this.#request(key, options.signal, async () => {
      const bytes = await this.#ifThere(() => this.#read(key, range, options.signal));
      if (bytes === undefined) throw new ObjectMissing({ store: this.description, key });
      return bytes;
    });
  }

  async *read(
    key: ObjectKey,
    range: ByteRange,
    options: RequestOptions = {},
  ): AsyncGenerator<Uint8Array, void, undefined> {
    requireRange(range);
    yield* this.#gate.stream(() => this.#readPieces(key, range, options.signal));
  }

  async put(key: ObjectKey, parts: readonly Uint8Array[], options: RequestOptions = {}): Promise<void> {
    await this.#write(key, parts, options.signal, (file, path) => file.replace(path));
  }

  async putIfAbsent(
    key: ObjectKey,
    parts: readonly Uint8Array[],
    options: RequestOptions = {},
  ): Promise<'created' | 'exists'> {
    return this.#write(key, parts, options.signal, (file, path) => file.placeIfAbsent(path));
  }

  async *list(
    prefix: string,
    options: RequestOptions & { readonly after?: ObjectKey } = {},
  ): AsyncGenerator<ObjectInfo, void, undefined> {
    requirePrefix(prefix);
    await this.#request(undefined, options.signal, () => this.#requireRoot());
    yield* walk(this.#root, prefix, options.after, (call) =>
      this.#request(undefined, options.signal, () => this.#ifThere(call)),
    );
  }

  async stat(key: ObjectKey, options: RequestOptions = {}): Promise<ObjectInfo | undefined> {
    return this.#request(key, options.signal, async () => {
      const found = await this.#ifThere(() => stat(this.#pathOf(key)));
      return found?.isFile() === true ? { key, lengthBytes: found.size } : undefined;
    });
  }

  async delete(keys: ObjectKey | readonly ObjectKey[], options: RequestOptions = {}): Promise<void> {
    for (const key of asKeys(keys))
      await this.#request(key, options.signal, () => this.#ifThere(() => unlink(this.#pathOf(key))));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#gate.close();
  }

  #pathOf(key: ObjectKey): string {
    return join(this.#root, key);
  }

  async #read(
    key: ObjectKey,
    range: ByteRange | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Uint8Array | undefined> {
    const opened = await this.#open(key, range);
    if (opened === undefined) return undefined;
    try {
      throwIfCancelled(signal, this.#nameOf(key));
      return await this.#readFully(key, opened.file, opened.range);
    } finally {
      await opened.file.close();
    }
  }

  async *#readPieces(
    key: ObjectKey,
    range: ByteRange,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const endBytes = range.offsetBytes + range.lengthBytes;
    try {
      throwIfCancelled(signal, this.#nameOf(key));
      const opened = await this.#ifThere(() => this.#open(key, range));
      if (opened === undefined) throw new ObjectMissing({ store: this.description, key });
      try {
        for (let at = range.offsetBytes; at < endBytes; at += limits.storeReadPieceBytes) {
          throwIfCancelled(signal, this.#nameOf(key));
          const lengthBytes = Math.min(limits.storeReadPieceBytes, endBytes - at);
          yield await this.#readFully(key, opened.file, { offsetBytes: at, lengthBytes });
        }
      } finally {
        await opened.file.close();
      }
    } catch (error) {
      throw await this.#explain(error, key);
    }
  }

  /** Checks that the range is there. Undefined for a directory: its name is only the beginning of keys. */
  async #open(
    key: ObjectKey,
    range: ByteRange | undefined,
  ): Promise<{ readonly file: FileHandle; readonly range: ByteRange } | undefined> {
    const file = await open(this.#pathOf(key), 'r');
    try {
      const found = await file.stat();
      if (found.isFile()) {
        const wanted = range ?? { offsetBytes: 0, lengthBytes: found.size };
        if (range === undefined) this.#requireReadableWhole(key, found.size);
        const endBytes = wanted.offsetBytes + wanted.lengthBytes;
        if (endBytes > found.size) throw this.#truncated(key, endBytes, found.size);
        return { file, range: wanted };
      }
    } catch (error) {
      await file.close();
      throw error;
    }
    await file.close();
    return undefined;
  }

  async #readFully(key: ObjectKey, file: FileHandle, range: ByteRange): Promise<Uint8Array> {
    const bytes = new Uint8Array(range.lengthBytes);
    for (let done = 0; done < bytes.length;) {
      const position = range.offsetBytes + done;
      const { bytesRead } = await file.read(bytes, done, bytes.length - done, position);
      if (bytesRead === 0) throw this.#truncated(key, range.offsetBytes + range.lengthBytes, position);
      done += bytesRead;
    }
    return bytes;
  }

  async #write<T>(
    key: ObjectKey,
    parts: readonly Uint8Array[],
    signal: AbortSignal | undefined,
    place: (file: TemporaryFile, path: string) => Promise<T>,
  ): Promise<T> {
    return this.#request(key, signal, async () => {
      const path = this.#pathOf(key);
      const file = await TemporaryFile.create(this.#temporaryPath);
      try {
        const mayGoOn = () => throwIfCancelled(signal, this.#nameOf(key));
        await file.write(parts, mayGoOn);
        await this.#directories.ensure(dirname(path));
        mayGoOn();
        return await place(file, path);
      } finally {
        await file[Symbol.asyncDispose]();
      }
    });
  }

  /** One request: counted for closing, cancelled by its signal, its failure explained. */
  #request<T>(
    key: ObjectKey | undefined,
    signal: AbortSignal | undefined,
    request: () => Promise<T>,
  ): Promise<T> {
    return this.#gate.run(async () => {
      throwIfCancelled(signal, this.#nameOf(key));
      try {
        return await request();
      } catch (error) {
        throw await this.#explain(error, key);
      }
    });
  }

  async #explain(error: unknown, key: ObjectKey | undefined): Promise<unknown> {
    let cause = error;
    if (isAbsent(error)) {
      this.#directories.forget();
      await this.#requireRoot().catch((rootError: unknown) => (cause = rootError));
    }
    return explainSystemError(cause, { store: this.description, key });
  }

  /**
   * Undefined when the path of `call` is not there although the store is. Asks twice: the store may have been away
   * at first and back when we looked for it.
   */
  async #ifThere<T>(call: () => Promise<T>): Promise<T | undefined> {
    for (let attempt = 0; attempt < 2; attempt++) {
      try {
        return await call();
      } catch (error) {
        if (!isAbsent(error)) throw error;
        await this.#requireRoot();
      }
    }
    return undefined;
  }

  async #requireRoot(): Promise<void> {
    const found = await stat(this.#temporaryPath).catch((error: unknown) => {
      if (isAbsent(error)) return undefined;
      throw error;
    });
    if (found?.isDirectory() === true) return;
    throw new StoreUnreachable({
      store: this.description,
      key: undefined,
      reason: `${this.#temporaryPath} is not there, so this is no store of isr now`,
      remedy:
        'Check the path, and mount the disk or share that holds the repository. If it was copied without its ' +
        'empty directories, make an empty "tmp" in it.',
    });
  }

  /** Does what every write does, under a name that is no key. */
  async #proveWritable(): Promise<void> {
    const file = await TemporaryFile.create(this.#temporaryPath);
    const path = join(this.#root, `.${randomUUID()}`);
    try {
      await file.write([], () => undefined);
      await file.placeIfAbsent(path);
    } finally {
      await file[Symbol.asyncDispose]();
      await rm(path, { force: true });
    }
  }

  #requireReadableWhole(key: ObjectKey, lengthBytes: number): void {
    if (lengthBytes <= limits.wholeObjectBytesMax) return;
    throw new LimitExceeded(`Object ${key} in ${this.description} is too long to be read in one piece.`, {
      facts: { key, store: this.description, lengthBytes, limitBytes: limits.wholeObjectBytesMax },
    });
  }

  #truncated(key: ObjectKey, expectedBytes: number, foundBytes: number): ObjectTruncated {
    return new ObjectTruncated({ store: this.description, key, expectedBytes, foundBytes });
  }

  #nameOf(key: ObjectKey | undefined): string {
    return key === undefined ? `A request to ${this.description}` : `The request for ${key}`;
  }
}
