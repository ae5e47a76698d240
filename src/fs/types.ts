import type { MaybePromise } from '../base/index.js';
import type { SharedLocalReads } from '../resident/index.js';

/** Identifies an inode while the file system is mounted; never re-used for another inode under one mount path. */
export type InodeNumber = number & { readonly __brand: 'InodeNumber' };

/** An open file or directory. */
export type HandleId = number & { readonly __brand: 'HandleId' };

/**
 * Identifies a request of the kernel for as long as the mount lasts: also across the death of the process that served
 * it, after which the kernel may send it again.
 */
export type RequestId = number & { readonly __brand: 'RequestId' };

export const rootInode = 1 as InodeNumber;

export interface Attributes {
  readonly inode: InodeNumber;
  /** File type and permissions, as `st_mode`. */
  readonly mode: number;
  readonly linkCount: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  /**
   * Local disk that the overlay uses for it, in 512-byte blocks; what `du` shows. Never 0 for a file that may have
   * something to read: tar(1) takes such a file for one hole, without looking.
   */
  readonly blocks: number;
  readonly accessTimeNs: bigint;
  readonly modifyTimeNs: bigint;
  readonly changeTimeNs: bigint;
}

/** Only the fields that are given change. `'now'` takes the file system's clock. */
export interface AttributeChanges {
  readonly permissions?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly sizeBytes?: number;
  readonly accessTimeNs?: bigint | 'now';
  readonly modifyTimeNs?: bigint | 'now';
}

export interface Caller {
  readonly uid: number;
  readonly gid: number;
  /** Where given, the change can be recalled when the request comes again. */
  readonly request?: RequestId;
}

/** What a request had already done when the process that served it died. */
export interface Recalled {
  /** What it made or named. */
  readonly inode?: InodeNumber;
  /** What it opened. */
  readonly handle?: HandleId;
}

export interface DirectoryEntry {
  readonly name: string;
  readonly attributes: Attributes;
}

/**
 * Why something is read: a program wants it, the kernel guesses that one will, or a replay brings what an earlier run wanted.
 * Only guesses may be refused.
 */
export type ReadIntent = 'demand' | 'ahead' | 'replay';

/** Answer to a read-ahead whose data is not on this host: the engine tells the kernel `EAGAIN`, which then asks for what it really needs. */
export const notLocal = Symbol('not local');

export interface FileSystemUsage {
  /** Logical size of all files. */
  readonly usedBytes: number;
  /** What the overlay's disk still has, and what of it is not reserved for the system. */
  readonly freeBytes: number;
  readonly availableBytes: number;
  readonly totalBytes: number;
  readonly inodes: number;
  /** How many more there can be. */
  readonly freeInodes: number;
}

/** A place in an open file. */
export interface FilePosition {
  readonly handle: HandleId;
  readonly offsetBytes: number;
}

/** `setxattr` flags. */
export type ExtendedAttributeMode = 'create' | 'replace' | 'either';

/** `renameat2` flags; `noReplace` and `exchange` exclude each other. */
export type RenameMode = 'replace' | 'noReplace' | 'exchange';

/** `fallocate` modes. `keepSize` forms do not change the file's size. */
export type AllocateMode = 'allocate' | 'allocateKeepSize' | 'punchHole' | 'zeroRange' | 'zeroRangeKeepSize';

/**
 * The file system that a VM sees, independent of any engine. Inode-based; an engine translates and does nothing else.
 *
 * - Errors are thrown (or rejected) as `FileSystemError` with an errno name; an engine answers anything else with EIO and logs it.
 * - A method answers at once (no promise) whenever it can: everything that is local and decoded.
 * - Every name is one path segment, UTF-8, 1 to 255 bytes; others are `EINVAL` / `ENAMETOOLONG`.
 * - When a mutating call has returned, its effect is *acknowledged*: it survives the death of this process.
 *   When `fsync` or `syncAll` has returned, it is *flushed*: it survives power loss.
 * - Permission checks are the kernel's (`default_permissions`).
 */
export interface FileSystem {
  lookup(parent: InodeNumber, name: string): Attributes;
  /** The inode has users beside its names and handles (the kernel knows it): it stays until they `forget` it. Idempotent. */
  hold(inode: InodeNumber): void;
  /** Undoes `hold`; an inode without a name that is not open is gone now. Idempotent, and so for an inode that is gone. */
  forget(inode: InodeNumber): void;
  getAttributes(inode: InodeNumber): Attributes;
  setAttributes(inode: InodeNumber, changes: AttributeChanges): MaybePromise<Attributes>;
  readLink(inode: InodeNumber): string;

  makeDirectory(
    parent: InodeNumber,
    name: string,
    permissions: number,
    caller: Caller,
  ): MaybePromise<Attributes>;
  makeSymlink(parent: InodeNumber, name: string, target: string, caller: Caller): MaybePromise<Attributes>;
  /** Regular files and fifos; devices and sockets are `EPERM`. `mode` as `st_mode`. */
  makeNode(parent: InodeNumber, name: string, mode: number, caller: Caller): MaybePromise<Attributes>;
  /** `open` flags as open(2). */
  create(
    parent: InodeNumber,
    name: string,
    permissions: number,
    flags: number,
    caller: Caller,
  ): MaybePromise<{ readonly attributes: Attributes; readonly handle: HandleId }>;
  link(
    inode: InodeNumber,
    newParent: InodeNumber,
    newName: string,
    request?: RequestId,
  ): MaybePromise<Attributes>;
  unlink(parent: InodeNumber, name: string, request?: RequestId): MaybePromise<void>;
  removeDirectory(parent: InodeNumber, name: string, request?: RequestId): MaybePromise<void>;
  rename(
    parent: InodeNumber,
    name: string,
    newParent: InodeNumber,
    newName: string,
    mode: RenameMode,
    request?: RequestId,
  ): MaybePromise<void>;

  /** Opens a regular file. An unlinked file lives until its last handle is released. O_TRUNC truncates. */
  open(inode: InodeNumber, flags: number, request?: RequestId): MaybePromise<HandleId>;
  release(handle: HandleId): MaybePromise<void>;
  /** The inode behind an open handle. */
  inodeOf(handle: HandleId): InodeNumber;

  /**
   * Fills `into` from `offsetBytes` and returns the number of bytes, short only at the end of the file.
   * `intent` is `ahead` where the kernel guesses (a request of more than one page through the page cache): then
   * the answer may be `notLocal` instead of waiting for the store. A recognised sequential stream is served in full.
   */
  read(
    handle: HandleId,
    offsetBytes: number,
    into: Uint8Array,
    intent: ReadIntent,
    signal?: AbortSignal,
  ): MaybePromise<number | typeof notLocal>;

  /**
   * What other threads need to answer reads of local data themselves, with a `LocalReader`. From now on it is kept true
   * for what `read` answers at once. A file system without it has all reads answered by its own thread.
   */
  shareReads?(): SharedLocalReads;

  /**
   * Writes all of `data` (O_APPEND is the kernel's work). A whole-page write never fetches; `signal` ends the wait for
   * what another has to fetch, and then nothing was written.
   */
  write(handle: HandleId, offsetBytes: number, data: Uint8Array, signal?: AbortSignal): MaybePromise<number>;

  fsync(handle: HandleId, dataOnly: boolean): Promise<void>;
  /** fsync of a directory and syncfs: everything acknowledged becomes flushed. */
  syncAll(): Promise<void>;

  allocate(
    handle: HandleId,
    mode: AllocateMode,
    offsetBytes: number,
    lengthBytes: number,
    signal?: AbortSignal,
  ): MaybePromise<void>;
  /** lseek(2) `SEEK_DATA` / `SEEK_HOLE`; `ENXIO` past the end. */
  seek(
    handle: HandleId,
    offsetBytes: number,
    whence: 'data' | 'hole',
    signal?: AbortSignal,
  ): MaybePromise<number>;

  /**
   * copy_file_range(2): copies between files or within one, and answers how many bytes, 0 only at the end of the source.
   * Fewer than asked for where there is more to do than one call should; ranges of one file that overlap are `EINVAL`.
   * Holes of the source become holes.
   */
  copyRange(
    source: FilePosition,
    target: FilePosition,
    lengthBytes: number,
    signal?: AbortSignal,
  ): MaybePromise<number>;

  /** All entries of a directory as of now, `.` and `..` not included. */
  readDirectory(inode: InodeNumber): readonly DirectoryEntry[];
  parentOf(directory: InodeNumber): InodeNumber;

  usage(): FileSystemUsage;

  getExtendedAttribute(inode: InodeNumber, name: string): Uint8Array;
  listExtendedAttributes(inode: InodeNumber): readonly string[];
  setExtendedAttribute(
    inode: InodeNumber,
    name: string,
    value: Uint8Array,
    mode: ExtendedAttributeMode,
    request?: RequestId,
  ): MaybePromise<void>;
  removeExtendedAttribute(inode: InodeNumber, name: string, request?: RequestId): MaybePromise<void>;

  /**
   * What a request that an earlier process served has done, if it was carried out: it must not be done again.
   * Undefined where it was not, and for requests of this process.
   */
  recall(request: RequestId): Recalled | undefined;
}

/** The errno names that the file system answers with. */
export type ErrnoName =
  | 'EPERM'
  | 'ENOENT'
  | 'EIO'
  | 'ENXIO'
  | 'EBADF'
  | 'EAGAIN'
  | 'EACCES'
  | 'EBUSY'
  | 'EEXIST'
  | 'EXDEV'
  | 'ENOTDIR'
  | 'EISDIR'
  | 'EINVAL'
  | 'EMFILE'
  | 'ENFILE'
  | 'ENOMEM'
  | 'EFBIG'
  | 'ENOSPC'
  | 'EROFS'
  | 'EMLINK'
  | 'ERANGE'
  | 'ENAMETOOLONG'
  | 'ENOSYS'
  | 'ENOTEMPTY'
  | 'ELOOP'
  | 'ENODATA'
  | 'EOVERFLOW'
  | 'EILSEQ'
  | 'EOPNOTSUPP'
  | 'ESTALE'
  | 'EDQUOT'
  | 'EINTR'
  | 'E2BIG';
