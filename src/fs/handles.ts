import { constants } from 'node:fs';
import createDebug from 'debug';
import { limits } from '../base/index.js';
import { FileSystemError } from './errors.js';
import type { FileInode } from './inode.js';
import type { OpenFileEntry, OpenFileTable } from './open-file-table.js';
import type { HandleId, RequestId } from './types.js';

const debug = createDebug('isr:fs');

/** Handles of one process and the next that serves a mount must differ. */
const handlesPerLife = 2 ** 32;

const accessModeMask = 0o3;

/** So many requests in a row make a stream: a random reader seldom touches even two pages one after the other. */
const requestsOfStream = 3;

/** Requests of a stream arrive this far out of order: as far as the kernel reads ahead. */
const streamWindowBytes = 2 * 1024 * 1024;

/** An open file. */
export class OpenFile {
  readonly file: FileInode;
  readonly isWritable: boolean;
  /** Where the last request that was served ended. */
  #expectedBytes = 0;
  #inSequence = 0;
  /** Up to here the stream's data was asked for, and how much is asked for next. */
  #aheadEndBytes = 0;
  #aheadBytes: number = limits.streamAheadBytesMin;
  #isFetchingAhead = false;

  constructor(file: FileInode, flags: number) {
    this.file = file;
    this.isWritable = (flags & accessModeMask) !== constants.O_RDONLY;
  }

  /**
   * Notes a read that is served. Refused read-ahead is not noted: a program that faults pages in at random makes the
   * kernel ask for long runs, but then comes back for single pages here and there.
   */
  served(offsetBytes: number, lengthBytes: number): void {
    const endBytes = offsetBytes + lengthBytes;
    if (offsetBytes === this.#expectedBytes) {
      this.#inSequence += 1;
      this.#expectedBytes = endBytes;
    } else if (this.isStream && Math.abs(offsetBytes - this.#expectedBytes) <= streamWindowBytes) {
      this.#expectedBytes = Math.max(this.#expectedBytes, endBytes);
    } else {
      this.#inSequence = 1;
      this.#expectedBytes = endBytes;
    }
  }

  /**
   * Fetches ahead of a stream, by `fetch`, one range at a time: more each time, as long as the stream goes on. The next is asked
   * for when half of the last has been read.
   */
  fetchAhead(fetch: (startBytes: number, lengthBytes: number) => Promise<unknown>): void {
    if (!this.isStream || this.#isFetchingAhead) return;
    const isBehind = this.#aheadEndBytes < this.#expectedBytes;
    const isFarAhead = this.#aheadEndBytes > this.#expectedBytes + 2 * limits.streamAheadBytesMax;
    if (isBehind || isFarAhead) {
      this.#aheadEndBytes = this.#expectedBytes;
      this.#aheadBytes = limits.streamAheadBytesMin;
    } else if (this.#aheadEndBytes - this.#expectedBytes > this.#aheadBytes / 2) return;
    const startBytes = this.#aheadEndBytes;
    const lengthBytes = this.#aheadBytes;
    this.#aheadEndBytes += lengthBytes;
    this.#aheadBytes = Math.min(2 * lengthBytes, limits.streamAheadBytesMax);
    this.#isFetchingAhead = true;
    const done = (): void => {
      this.#isFetchingAhead = false;
    };
    // What goes wrong shows again when the data is really wanted.
    void fetch(startBytes, lengthBytes).then(done, done);
  }

  /** Whether a read at this place goes on with a sequential stream. */
  continuesStream(offsetBytes: number): boolean {
    return this.isStream && Math.abs(offsetBytes - this.#expectedBytes) <= streamWindowBytes;
  }

  private get isStream(): boolean {
    return this.#inSequence >= requestsOfStream;
  }
}

/** The open files of a mount. */
export class Handles {
  readonly #open = new Map<HandleId, OpenFile>();
  readonly #table: OpenFileTable | undefined;
  /** Those that were opened before this process began, by the request that did. */
  readonly #byRequest = new Map<RequestId, HandleId>();
  #next: number;
  #closed = false;

  /**
   * With a table, open files outlive this process. `life` counts the processes that have served the mount before.
   */
  constructor(table?: OpenFileTable, life = 0) {
    this.#table = table;
    this.#next = life * handlesPerLife + 1;
  }

  open(file: FileInode, flags: number, request?: RequestId): HandleId {
    if (this.#open.size >= limits.openHandles) {
      throw new FileSystemError('EMFILE', `More than ${limits.openHandles} files are open.`);
    }
    const handle = this.#next as HandleId;
    this.#table?.add({ handle, inode: file.number, flags, request });
    this.#next += 1;
    this.#add(handle, file, flags);
    return handle;
  }

  /** Takes over what an earlier process opened. */
  restore({ handle, flags, request }: OpenFileEntry, file: FileInode | undefined): void {
    if (file === undefined) {
      this.#table?.remove(handle);
      return;
    }
    this.#add(handle, file, flags);
    if (request !== undefined) this.#byRequest.set(request, handle);
  }

  /** What an earlier process opened for a request, if it is still open. */
  openedFor(request: RequestId): HandleId | undefined {
    const handle = this.#byRequest.get(request);
    return handle !== undefined && this.#open.has(handle) ? handle : undefined;
  }

  /**
   * An inode that the kernel knows is about to lose its last name: the next process keeps it. Where the disk is full it does not, for
   * removing names must go on.
   */
  keepNameless(inode: number): void {
    try {
      this.#table?.addNameless(inode);
    } catch (error) {
      debug('inode %d will not outlive this process: %o', inode, error);
    }
  }

  /** The kernel has forgotten an inode. */
  forget(inode: number): void {
    this.#table?.removeNameless(inode);
  }

  get(handle: HandleId): OpenFile {
    const open = this.#open.get(handle);
    if (open === undefined) throw new FileSystemError('EBADF', `Handle ${handle} is not open.`);
    return open;
  }

  release(handle: HandleId): FileInode {
    const { file } = this.get(handle);
    this.#open.delete(handle);
    this.#table?.remove(handle);
    file.openHandles -= 1;
    return file;
  }

  #add(handle: HandleId, file: FileInode, flags: number): void {
    this.#open.set(handle, new OpenFile(file, flags));
    file.openHandles += 1;
  }

  /** What is open stays open for the next process that serves the mount. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#table?.close();
  }

  /** Files that are open for writing. */
  writers(): Set<FileInode> {
    const files = new Set<FileInode>();
    for (const { file, isWritable } of this.#open.values()) if (isWritable) files.add(file);
    return files;
  }
}
