/**
 * The name of an object: path segments of `[a-z0-9._-]` joined by `/`, at most 200 characters, no segment starting
 * with a dot. A store need not be able to hold both `a` and `a/b`.
 */
export type ObjectKey = string & { readonly __brand: 'ObjectKey' };

/** Half-open: `lengthBytes` bytes starting at `offsetBytes`. */
export interface ByteRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export interface ObjectInfo {
  readonly key: ObjectKey;
  readonly lengthBytes: number;
}

export interface RequestOptions {
  readonly signal?: AbortSignal;
}

/** What a store can do beside `get` and `stat`. What it cannot is `StoreRefused`. */
export interface StoreCapabilities {
  /** `list`. */
  readonly lists: boolean;
  /** `put`, `putIfAbsent` and `delete`. */
  readonly writes: boolean;
}

export const everyCapability: StoreCapabilities = { lists: true, writes: true };

/**
 * A flat key space of immutable objects.
 *
 * Every implementation and wrapper MUST keep this contract (the conformance suite in `test/store/` checks it):
 * - `get` returns exactly the bytes asked for, or throws; never short data. A range beyond the end is `ObjectTruncated`;
 *   a whole object longer than `limits.wholeObjectBytesMax` is `LimitExceeded`.
 * - `put` and `putIfAbsent` are atomic: a reader sees nothing or the whole object. When they resolve, the object is
 *   durable (survives power loss of the store's host as far as the store can promise).
 * - `putIfAbsent` has exactly one winner among concurrent callers, across processes and hosts. The object of the winner
 *   is durable when the losers hear `exists`.
 * - A write that throws may have happened: the answer may have been lost. Whoever retries `putIfAbsent` must be ready
 *   to find the object that it made itself.
 * - Errors: `ObjectMissing`, `ObjectTruncated`, `ObjectChanged` (where the store can tell), `StoreUnreachable` (try again later), `StoreRefused` (permission, full,
 *   read-only: trying again does not help until somebody acts). `Cancelled` when the signal fires.
 * - Closing waits for the requests under way (for a `read`, until its iteration has ended); a request after that is a
 *   programming error.
 * - Memory: buffers passed in are not kept after the promise settles; returned buffers belong to the caller.
 */
export interface ObjectStore extends AsyncDisposable {
  /** For messages: where this is, without credentials. */
  readonly description: string;

  readonly capabilities: StoreCapabilities;

  get(key: ObjectKey, range?: ByteRange, options?: RequestOptions): Promise<Uint8Array>;

  /**
   * The bytes of `get(key, range)`, in order, in pieces as they arrive: what comes first can be used while the rest is on
   * its way. The request is made when the first piece is asked for. It ends in order only after exactly the bytes asked
   * for; before an error there may have been pieces. None is empty. Whoever begins must go on to the end, leave the loop,
   * or fire the signal. A store whose answers come whole has `inOnePiece`.
   */
  read(key: ObjectKey, range: ByteRange, options?: RequestOptions): AsyncIterable<Uint8Array>;

  /** Creates or replaces. */
  put(key: ObjectKey, parts: readonly Uint8Array[], options?: RequestOptions): Promise<void>;

  /** Creates, or reports that an object of this name is already there (and leaves it alone). */
  putIfAbsent(
    key: ObjectKey,
    parts: readonly Uint8Array[],
    options?: RequestOptions,
  ): Promise<'created' | 'exists'>;

  /**
   * Objects whose key starts with `prefix` (which ends with `/`, or is empty: all), in ascending key order;
   * only keys greater than `after`, if given. Objects created meanwhile may or may not appear.
   */
  list(prefix: string, options?: RequestOptions & { readonly after?: ObjectKey }): AsyncIterable<ObjectInfo>;

  /** Undefined when there is no such object. */
  stat(key: ObjectKey, options?: RequestOptions): Promise<ObjectInfo | undefined>;

  /**
   * Deletes one object or many, those in batches where the store has such a request. What is not there is not an error;
   * a failure may leave some of many deleted.
   */
  delete(keys: ObjectKey | readonly ObjectKey[], options?: RequestOptions): Promise<void>;
}

const keyPattern = /^(?!.*(?:^|\/)\.)[a-z0-9._-]+(?:\/[a-z0-9._-]+)*$/;
const keyCharactersMax = 200;

export function isObjectKey(text: string): text is ObjectKey {
  return text.length <= keyCharactersMax && keyPattern.test(text);
}

/** Checks the grammar of a key. A bad key is a programming error, not an operating error. */
export function objectKey(text: string): ObjectKey {
  if (!isObjectKey(text)) throw new Error(`not an object key: ${JSON.stringify(text)}`);
  return text;
}
