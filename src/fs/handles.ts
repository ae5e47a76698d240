import { constants } from 'node:fs';
import { limits } from '../base/index.js';
import { FileSystemError } from './errors.js';
import type { FileInode } from './inode.js';
import type { HandleId } from './types.js';

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
  #next = 1;

  open(file: FileInode, flags: number): HandleId {
    if (this.#open.size >= limits.openHandles) {
      throw new FileSystemError('EMFILE', `More than ${limits.openHandles} files are open.`);
    }
    const handle = this.#next as HandleId;
    this.#next += 1;
    this.#open.set(handle, new OpenFile(file, flags));
    file.openHandles += 1;
    return handle;
  }

  get(handle: HandleId): OpenFile {
    const open = this.#open.get(handle);
    if (open === undefined) throw new FileSystemError('EBADF', `Handle ${handle} is not open.`);
    return open;
  }

  release(handle: HandleId): FileInode {
    const { file } = this.get(handle);
    this.#open.delete(handle);
    file.openHandles -= 1;
    return file;
  }

  /** Files that are open for writing. */
  writers(): Set<FileInode> {
    const files = new Set<FileInode>();
    for (const { file, isWritable } of this.#open.values()) if (isWritable) files.add(file);
    return files;
  }
}
