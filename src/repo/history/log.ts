import { LimitExceeded, limits } from '../../base/index.js';
import { ObjectMissing, type ObjectKey, type ObjectStore, type RequestOptions } from '../../store/index.js';
import { DamagedObject, RolledBack } from '../errors.js';
import {
  decodeLogEntry,
  encodeLogEntry,
  type CommitRecord,
  type EntryReference,
  type LogEntry,
} from '../format/log-entry.js';
import { logKey, logPositionOf, logPrefix, type VmId } from '../format/object-keys.js';
import type { Records } from '../records.js';
import type { LogPosition, SeenPosition } from '../types.js';
import { probeLog } from './probe-log.js';

/** An entry of the log, with its place and digest. */
export interface PlacedEntry extends EntryReference {
  readonly entry: LogEntry;
}

/** An entry that is a commit. */
export interface PlacedCommit extends EntryReference {
  readonly entry: LogEntry & { readonly commit: CommitRecord };
}

/** What to append after the newest entry; `previousDigest` is the log's own business. */
export type NextEntry = Omit<LogEntry, 'previousDigest'>;

/**
 * The log of one VM: numbered records, created by put-if-absent, each with the digest of the one before. Whoever
 * creates the next number has won; everybody else must look again.
 */
export class Log {
  readonly #store: ObjectStore;
  readonly #records: Records;
  readonly #vmId: VmId;
  readonly #vmName: string;
  #seen: SeenPosition | undefined;

  constructor(
    store: ObjectStore,
    records: Records,
    vm: { readonly name: string; readonly id: VmId },
    seen: SeenPosition | undefined,
  ) {
    this.#store = store;
    this.#records = records;
    this.#vmId = vm.id;
    this.#vmName = vm.name;
    this.#seen = seen;
  }

  /** The newest entry that this object, or this host before it, read or wrote. */
  get seen(): SeenPosition | undefined {
    return this.#seen;
  }

  /**
   * The newest entry; undefined while there is none. `RolledBack` when the store does not show, at its old place and
   * unchanged, what this object or (`options.seen`) this host saw before.
   */
  async newest(
    options: RequestOptions & { readonly seen?: SeenPosition } = {},
  ): Promise<PlacedEntry | undefined> {
    const seen = later(this.#seen, options.seen);
    const position = await this.#newestPosition(seen, options);
    if (position === undefined) return undefined;
    const newest = await this.#read(position, options);
    if (seen !== undefined) {
      const then = seen.position === position ? newest : await this.#read(seen.position, options);
      if (then.digest !== seen.digest) {
        throw new RolledBack(this.#vmName, `entry ${seen.position} of its log was replaced`);
      }
    }
    this.#seen = { position, digest: newest.digest };
    return newest;
  }

  /** The newest commit at or before an entry. */
  async commitUpTo(placed: PlacedEntry, options: RequestOptions = {}): Promise<PlacedCommit | undefined> {
    const { position, digest, entry } = placed;
    if (entry.commit === undefined) return this.commitBefore(placed, options);
    return { position, digest, entry: { ...entry, commit: entry.commit } };
  }

  /** The newest commit before an entry, checked against the digest in that entry. */
  async commitBefore(placed: PlacedEntry, options: RequestOptions = {}): Promise<PlacedCommit | undefined> {
    const reference = placed.entry.earlierCommit;
    if (reference === undefined) return undefined;
    const { position, digest, entry } = await this.#read(reference.position, options);
    if (digest !== reference.digest || entry.commit?.version !== reference.version) {
      throw new DamagedObject(this.#key(position), 'it is not the commit that later entries refer to');
    }
    return { position, digest, entry: { ...entry, commit: entry.commit } };
  }

  /**
   * Appends what `decide` makes of the newest entry; asks again when somebody else was faster. What `decide` throws,
   * or answers as `settled`, ends the attempt. `operation` completes "the key cannot ...".
   */
  async append<T>(
    operation: string,
    decide: (
      newest: PlacedEntry | undefined,
      position: LogPosition,
    ) => Promise<{ readonly settled: T } | { readonly next: NextEntry }>,
  ): Promise<{ readonly settled: T } | { readonly appended: PlacedEntry }> {
    for (let attempt = 0; attempt < limits.logAppendAttempts; attempt += 1) {
      const newest = await this.newest();
      const position = ((newest?.position ?? 0) + 1) as LogPosition;
      const decision = await decide(newest, position);
      if ('settled' in decision) return decision;
      const entry: LogEntry = { ...decision.next, previousDigest: newest?.digest };
      const digest = await this.#records.create(this.#key(position), encodeLogEntry(entry), operation);
      if (digest !== undefined) {
        this.#seen = { position, digest };
        return { appended: { position, digest, entry } };
      }
    }
    throw new LimitExceeded(
      `Other hosts kept changing the VM ${this.#vmName} for ${limits.logAppendAttempts} attempts.`,
    );
  }

  async #newestPosition(
    seen: SeenPosition | undefined,
    options: RequestOptions,
  ): Promise<LogPosition | undefined> {
    const known = seen?.position ?? 0;
    const newest = this.#store.capabilities.lists
      ? await this.#newestListed(known, options)
      : await this.#newestProbed(known, options);
    if (known > 0 && newest === undefined) {
      throw new RolledBack(this.#vmName, `entry ${known} of its log is not there any more`);
    }
    return newest;
  }

  async #newestListed(known: number, options: RequestOptions): Promise<LogPosition | undefined> {
    let newest: LogPosition | undefined;
    for await (const { key } of this.#store.list(logPrefix(this.#vmId), {
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      ...(known > 1 ? { after: this.#key(known - 1) } : {}),
    })) {
      const position = logPositionOf(this.#vmId, key);
      const expected = newest === undefined ? Math.max(known, 1) : newest + 1;
      if (position !== expected) {
        if (expected === known) break;
        throw new DamagedObject(this.#key(expected), 'it is missing');
      }
      newest = position;
    }
    return newest;
  }

  async #newestProbed(known: number, options: RequestOptions): Promise<LogPosition | undefined> {
    const hasEntry = async (position: number): Promise<boolean> =>
      (await this.#store.stat(this.#key(position), options)) !== undefined;
    const [isKnownThere, { newest, gap }] = await Promise.all([
      known === 0 || hasEntry(known),
      probeLog(hasEntry, known),
    ]);
    if (!isKnownThere) return undefined;
    if (gap !== undefined) throw new DamagedObject(this.#key(gap), 'it is missing');
    return newest === 0 ? undefined : (newest as LogPosition);
  }

  async #read(position: LogPosition, options: RequestOptions): Promise<PlacedEntry> {
    const key = this.#key(position);
    try {
      const { payload, digest } = await this.#records.read(key, options);
      return { position, digest, entry: decodeLogEntry(payload, key, position) };
    } catch (error) {
      if (error instanceof ObjectMissing) throw new DamagedObject(key, 'it is missing', { cause: error });
      throw error;
    }
  }

  #key(position: number): ObjectKey {
    return logKey(this.#vmId, position);
  }
}

function later(one: SeenPosition | undefined, other: SeenPosition | undefined): SeenPosition | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  return one.position >= other.position ? one : other;
}
