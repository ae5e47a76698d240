import type { HandleId, InodeNumber } from '../../fs/index.js';
import { FileSystemError } from '../../fs/index.js';

/** Numbers are 32 bit in the addon, and 0 means none. */
const fileNumberMax = 2 ** 31 - 1;

export interface OpenFile {
  readonly handle: HandleId;
  readonly inode: InodeNumber;
  /** Opened with O_DIRECT: nothing is read ahead for it. */
  readonly direct: boolean;
}

/** The open files of a mount, by the small numbers that libfuse carries for us. */
export class OpenFiles {
  readonly #files = new Map<number, OpenFile>();
  #lastNumber = 0;

  add(file: OpenFile): number {
    do this.#lastNumber = this.#lastNumber === fileNumberMax ? 1 : this.#lastNumber + 1;
    while (this.#files.has(this.#lastNumber));
    this.#files.set(this.#lastNumber, file);
    return this.#lastNumber;
  }

  get(number: number): OpenFile {
    const file = this.#files.get(number);
    if (file === undefined) throw new FileSystemError('EBADF', `No open file has the number ${number}.`);
    return file;
  }

  remove(number: number): OpenFile {
    const file = this.get(number);
    this.#files.delete(number);
    return file;
  }

  /** Empties the table and returns what was in it. */
  removeAll(): readonly OpenFile[] {
    const files = [...this.#files.values()];
    this.#files.clear();
    return files;
  }

  hasInode(inode: InodeNumber): boolean {
    for (const file of this.#files.values()) if (file.inode === inode) return true;
    return false;
  }
}
