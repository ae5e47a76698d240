import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import * as nodeFiles from 'node:fs/promises';
import { join } from 'node:path';
import { limits, systemErrorCode, type Clock } from '../base/index.js';
import type { BlobKind, BlobReference } from '../repo/index.js';
import {
  decodeEntryHeader,
  encodeEntryHeader,
  encodeEntryOwner,
  entryHeaderBytes,
  entryOwnerBytes,
} from './local-cache/entry.js';
import { entryDiskBytes, entryPath, shardPath, temporaryDirectory } from './local-cache/layout.js';
import { roomBytes } from './local-cache/sweep.js';
import { Sweeper } from './local-cache/sweeper.js';
import { appendUsage, readUsage, replaceUsage } from './local-cache/usage-record.js';
import { UseTimes } from './local-cache/use-times.js';

/** The file operations that a local cache makes; a test puts failing ones in their place. */
export type CacheFiles = Pick<typeof nodeFiles, 'open' | 'mkdir' | 'rename' | 'rm' | 'utimes'>;

/** What a file needs to become an entry, beside the sealed bytes. */
export interface EntryFile {
  readonly path: string;
  readonly temporaryPath: string;
  readonly before: Uint8Array;
  readonly after: Uint8Array;
}

/** Sealed bytes as they were found, and the reference that they claim to open under. Not verified. */
export interface CachedBlob {
  readonly reference: BlobReference;
  readonly sealed: Uint8Array;
}

export interface LocalCacheStatus {
  /** What the directory holds, as far as this process knows; undefined before the first sweep. */
  readonly usedBytes: number | undefined;
  readonly limitBytes: number;
  /** Of the bytes used, what pins kept when that was counted last. */
  readonly pinnedBytes: number | undefined;
  /** Entries that were torn or did not open, and were deleted. */
  readonly damagedEntries: number;
  readonly evictedEntries: number;
  /** Disk operations that failed. Reads go on without the cache. */
  readonly diskErrors: number;
  readonly lastDiskError: string | undefined;
  /** Nothing is added until then, because the disk failed. */
  readonly pausedUntil: Date | undefined;
}

export interface LocalCacheOptions {
  /** The directory, made when needed. Nothing else may live in it. */
  readonly path: string;
  /** A function is asked again from time to time: the limit may change while the cache is in use. */
  readonly limitBytes: number | (() => number);
  /** Whose the entries are that are added. */
  readonly repositoryId: string;
  readonly clock: Clock;
  readonly files?: CacheFiles;
}

/** A sweep at least this often corrects what killed processes did not tell. */
const sweepIntervalMs = 24 * 60 * 60_000;

/** After a sweep that failed, or that another process was already doing. */
const sweepRetryMs = 5_000;

/** Errors that say nothing about an entry that cannot be read. */
const shortages: ReadonlySet<string> = new Set(['EMFILE', 'ENFILE', 'ENOMEM']);

/** Each process tells the others of its additions in steps of this share of the limit. */
const untoldShareOfLimit = 1 / 256;

/**
 * Sealed blobs on this host's disk, for all processes of the host that use this directory, across restarts.
 *
 * Entries are as they lie in a pack, so the disk learns nothing, and every use verifies them: a torn or damaged
 * entry is a miss. That is why nothing here is fsynced. No method fails because of the disk: a read becomes
 * a miss, a write is left out, both are counted, and after a failed write the cache adds nothing for a while.
 *
 * Bounded by `limitBytes` of disk: when more is there, a sweep evicts what was not used for longest and is not pinned
 * (`local-cache/pins.ts`). P processes
 * can exceed the limit by P × (limit / 256 + writes in flight), plus what they add while a sweep runs (the next one
 * takes that back), plus limit / 256 for each process killed since the last sweep.
 */
export class LocalCache implements AsyncDisposable {
  readonly #path: string;
  readonly #askLimitBytes: () => number;
  readonly #owner: Uint8Array;
  readonly #clock: Clock;
  readonly #files: CacheFiles;
  readonly #sweeper: Sweeper;
  readonly #useTimes: UseTimes;

  #limitBytes: number;
  #usedBytes: number | undefined;
  #pinnedBytes: number | undefined;
  #untoldBytes = 0;
  #pausedUntil = 0;
  #noSweepBefore = 0;
  #damagedEntries = 0;
  #evictedEntries = 0;
  #evictedAt = -Infinity;
  #diskErrors = 0;
  #lastDiskError: string | undefined;
  #sweeping: Promise<void> | undefined;
  #closed = false;

  private constructor(options: LocalCacheOptions) {
    this.#path = options.path;
    const { limitBytes } = options;
    this.#askLimitBytes = typeof limitBytes === 'number' ? () => limitBytes : limitBytes;
    this.#limitBytes = this.#askLimitBytes();
    this.#owner = encodeEntryOwner(options.repositoryId);
    this.#clock = options.clock;
    this.#files = options.files ?? nodeFiles;
    this.#useTimes = new UseTimes(options.clock, this.#files.utimes);
    this.#sweeper = new Sweeper(options.path);
  }

  /** Never fails: with a disk that cannot be used, everything is a miss. */
  static async open(options: LocalCacheOptions): Promise<LocalCache> {
    const cache = new LocalCache(options);
    await cache.#prepare();
    return cache;
  }

  /** Whether there is an entry: one look at the directory, a few microseconds where the system knows it, no promise. It may still be damaged. */
  has(reference: BlobReference, kind: BlobKind): boolean {
    return existsSync(entryPath(this.#path, reference.id, kind));
  }

  /** Where the entry of a blob would be. */
  pathOf(reference: BlobReference, kind: BlobKind): string {
    return entryPath(this.#path, reference.id, kind);
  }

  /**
   * Where the sealed bytes of a blob lie, if its entry was sealed where `reference` says; undefined where other means
   * than the system's read files. Counts as a use. Whoever does not find the blob there asks `get`.
   */
  place(
    reference: BlobReference,
    kind: BlobKind,
  ): { readonly path: string; readonly offsetBytes: number } | undefined {
    if (this.#files !== nodeFiles) return undefined;
    const path = entryPath(this.#path, reference.id, kind);
    this.#useTimes.used(path);
    return { path, offsetBytes: entryHeaderBytes };
  }

  /**
   * The entry of a blob, or undefined. It may have been sealed in another pack than `reference` says (equal ids have
   * equal plaintext): open it with the reference that comes with it. The bytes belong to the caller.
   */
  async get(reference: BlobReference, kind: BlobKind): Promise<CachedBlob | undefined> {
    const path = entryPath(this.#path, reference.id, kind);
    try {
      const found = await this.#read(path, reference, kind);
      if (found === 'torn') {
        await this.discardDamaged(reference, kind);
        return undefined;
      }
      this.#useTimes.used(path);
      return found;
    } catch (error) {
      if (systemErrorCode(error) === 'ENOENT') return undefined;
      this.#countError(error);
      // What cannot be read must not stand in the way of a good entry; this one may be good.
      if (!shortages.has(systemErrorCode(error) ?? '')) await this.delete(reference, kind);
      return undefined;
    }
  }

  /**
   * Adds an entry; `sealed` must have been verified. Says whether the blob is in the cache now.
   * `sealed` is not kept after the promise settles.
   */
  async put(reference: BlobReference, kind: BlobKind, sealed: Uint8Array): Promise<boolean> {
    const addedBytes = entryDiskBytes(sealed.length);
    if (this.#closed || this.#isPaused()) return false;
    if (addedBytes > this.#limitBytes) this.#limitBytes = this.#askLimitBytes();
    if (addedBytes > this.#limitBytes) return false;
    if (this.has(reference, kind)) return true;
    try {
      await this.#write(reference, kind, sealed);
    } catch (error) {
      this.#countError(error);
      this.#pausedUntil = this.#clock.now() + limits.localCachePauseMs;
      return false;
    }
    this.added(reference, kind);
    return true;
  }

  /**
   * How another thread can add an entry, whose `added` must be told then. Undefined where only `put` can tell whether there
   * is room for it.
   */
  newEntry(reference: BlobReference, kind: BlobKind): EntryFile | undefined {
    const addedBytes = entryDiskBytes(reference.sealedBytes);
    if (this.#files !== nodeFiles || this.#closed || this.#isPaused() || addedBytes > this.#limitBytes)
      return undefined;
    return {
      path: entryPath(this.#path, reference.id, kind),
      temporaryPath: join(this.#path, temporaryDirectory, randomUUID()),
      before: encodeEntryHeader(reference, kind),
      after: this.#owner,
    };
  }

  /** Another thread has added the entry. */
  added(reference: BlobReference, kind: BlobKind): void {
    if (this.#closed) {
      appendUsage(this.#path, entryDiskBytes(reference.sealedBytes));
      return;
    }
    this.#useTimes.made(entryPath(this.#path, reference.id, kind));
    this.#account(entryDiskBytes(reference.sealedBytes));
  }

  /** Deleting what is not there is no error. */
  async delete(reference: BlobReference, kind: BlobKind): Promise<void> {
    try {
      await this.#files.rm(entryPath(this.#path, reference.id, kind), { force: true });
    } catch (error) {
      this.#countError(error);
    }
  }

  /** Deletes an entry that did not open, and counts it. */
  async discardDamaged(reference: BlobReference, kind: BlobKind): Promise<void> {
    this.#damagedEntries += 1;
    await this.delete(reference, kind);
  }

  status(): LocalCacheStatus {
    return {
      usedBytes: this.#usedBytes === undefined ? undefined : this.#usedBytes + this.#untoldBytes,
      limitBytes: (this.#limitBytes = this.#askLimitBytes()),
      pinnedBytes: this.#pinnedBytes,
      damagedEntries: this.#damagedEntries,
      evictedEntries: this.#evictedEntries,
      diskErrors: this.#diskErrors,
      lastDiskError: this.#lastDiskError,
      pausedUntil: this.#isPaused()
        ? new Date(this.#clock.wallMs() + this.#pausedUntil - this.#clock.now())
        : undefined,
    };
  }

  /** Whether what is added now pushes out what was of use a short while ago. */
  get isTight(): boolean {
    return this.#clock.now() - this.#evictedAt < limits.localCacheTightMs;
  }

  /** Resolves when no sweep is under way. */
  async settled(): Promise<void> {
    await this.#sweeping;
  }

  /** Tells the other processes what was added, and ends a running sweep. Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      this.#tell();
    }
    await this.#useTimes[Symbol.asyncDispose]();
    await this.#sweeper[Symbol.asyncDispose]();
    await this.settled();
  }

  async #prepare(): Promise<void> {
    try {
      const temporary = join(this.#path, temporaryDirectory);
      const created = await this.#files.mkdir(temporary, { recursive: true, mode: 0o700 });
      // Without a directory for new entries there are no entries yet: no need to count them.
      if (created !== undefined) this.#beginUsage();
      this.#consultRecord();
    } catch (error) {
      this.#countError(error);
    }
  }

  #beginUsage(): void {
    replaceUsage(this.#path, { totalBytes: 0, pinnedBytes: 0, sweptAt: this.#clock.wallMs() });
  }

  async #read(path: string, reference: BlobReference, kind: BlobKind): Promise<CachedBlob | 'torn'> {
    const file = await this.#files.open(path, 'r');
    try {
      const header = Buffer.alloc(entryHeaderBytes);
      let sealed = Buffer.allocUnsafeSlow(reference.sealedBytes);
      const { bytesRead } = await file.readv([header, sealed], 0);
      const entry = decodeEntryHeader(header);
      if (entry === undefined || entry.id !== reference.id || entry.kind !== kind) return 'torn';
      if (entry.sealedBytes > limits.blobBytesMax) return 'torn';
      let sealedRead = bytesRead - entryHeaderBytes;
      if (entry.sealedBytes !== reference.sealedBytes) {
        sealed = Buffer.allocUnsafeSlow(entry.sealedBytes);
        sealedRead = (await file.read(sealed, 0, sealed.length, entryHeaderBytes)).bytesRead;
      }
      if (sealedRead !== entry.sealedBytes) return 'torn';
      const { packId, counter, sealedBytes } = entry;
      return { sealed, reference: { ...reference, packId, counter, sealedBytes } };
    } finally {
      await file.close();
    }
  }

  async #write(reference: BlobReference, kind: BlobKind, sealed: Uint8Array): Promise<void> {
    try {
      await this.#writeOnce(reference, kind, sealed);
    } catch (error) {
      if (systemErrorCode(error) !== 'ENOENT') throw error;
      // The first entry of its directory, or somebody deleted the cache.
      const options = { recursive: true, mode: 0o700 };
      await this.#files.mkdir(join(this.#path, temporaryDirectory), options);
      await this.#files.mkdir(shardPath(this.#path, reference.id), options);
      await this.#writeOnce(reference, kind, sealed);
    }
  }

  async #writeOnce(reference: BlobReference, kind: BlobKind, sealed: Uint8Array): Promise<void> {
    const temporary = join(this.#path, temporaryDirectory, randomUUID());
    const file = await this.#files.open(temporary, 'wx', 0o600);
    try {
      try {
        const parts = [encodeEntryHeader(reference, kind), sealed, this.#owner];
        const { bytesWritten } = await file.writev(parts, 0);
        if (bytesWritten !== entryHeaderBytes + sealed.length + entryOwnerBytes)
          throw new ShortWrite(bytesWritten);
      } finally {
        await file.close();
      }
      await this.#files.rename(temporary, entryPath(this.#path, reference.id, kind));
    } catch (error) {
      await this.#files.rm(temporary, { force: true }).catch(() => undefined);
      throw error;
    }
  }

  #account(addedBytes: number): void {
    this.#untoldBytes += addedBytes;
    if (this.#usedBytes !== undefined && this.#untoldBytes < this.#limitBytes * untoldShareOfLimit) return;
    this.#tell();
    this.#consultRecord();
  }

  /** Learns what all processes together have added, and sweeps if it is time. */
  #consultRecord(): void {
    const record = readUsage(this.#path);
    this.#usedBytes = record?.totalBytes;
    this.#pinnedBytes = record?.pinnedBytes;
    this.#limitBytes = this.#askLimitBytes();
    // A clock that was set back must not keep sweeps away until it has caught up.
    const sinceSweepMs = Math.abs(this.#clock.wallMs() - (record?.sweptAt ?? 0));
    const isDue =
      record === undefined ||
      record.totalBytes > roomBytes(this.#limitBytes, record.pinnedBytes) ||
      sinceSweepMs > sweepIntervalMs;
    if (!isDue || this.#clock.now() < this.#noSweepBefore) return;
    this.#sweeping ??= this.#sweep().finally(() => (this.#sweeping = undefined));
  }

  #tell(): void {
    if (this.#untoldBytes > 0) appendUsage(this.#path, this.#untoldBytes);
    this.#untoldBytes = 0;
  }

  async #sweep(): Promise<void> {
    await this.#useTimes.write();
    try {
      const result = await this.#sweeper.sweep(this.#clock.wallMs(), this.#limitBytes);
      if (result.outcome === 'swept') {
        this.#usedBytes = result.totalBytes;
        this.#pinnedBytes = result.pinnedBytes;
        this.#evictedEntries += result.evictedEntries;
        if (result.evictedEntries > 0) this.#evictedAt = this.#clock.now();
        return;
      }
    } catch (error) {
      this.#countError(error);
    }
    this.#noSweepBefore = this.#clock.now() + sweepRetryMs;
  }

  #isPaused(): boolean {
    return this.#clock.now() < this.#pausedUntil;
  }

  #countError(error: unknown): void {
    this.#diskErrors += 1;
    this.#lastDiskError = error instanceof Error ? error.message : String(error);
  }
}

/** The disk took only a part, as a full one may. */
class ShortWrite extends Error {
  constructor(writtenBytes: number) {
    super(`only ${writtenBytes} bytes of a cache entry could be written`);
  }
}
