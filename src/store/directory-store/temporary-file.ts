import { randomUUID } from 'node:crypto';
import { link, open, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { systemErrorCode } from '../../base/index.js';
import { syncDirectory } from './directories.js';

/** The kernel takes 1024 at most (`IOV_MAX`). */
const partsAtOnce = 512;

/**
 * A durable file that no reader sees yet, to be put in its place in one step. Uses only what NFS promises too:
 * exclusive creation, link(2), rename(2), fsync.
 */
export class TemporaryFile implements AsyncDisposable {
  readonly #path: string;
  /** Open until the end: it keeps the file system from being unmounted between the steps. */
  readonly #handle: FileHandle;

  private constructor(path: string, handle: FileHandle) {
    this.#path = path;
    this.#handle = handle;
  }

  /** The leading dot keeps the file out of the name space of objects. */
  static async create(directory: string): Promise<TemporaryFile> {
    const path = join(directory, `.${randomUUID()}`);
    return new TemporaryFile(path, await open(path, 'wx'));
  }

  /** Writes all parts, durably. `mayGoOn` is called between system calls and throws to stop. */
  async write(parts: readonly Uint8Array[], mayGoOn: () => void): Promise<void> {
    let left = parts.filter((part) => part.length > 0);
    while (left.length > 0) {
      const { bytesWritten } = await this.#handle.writev(left.slice(0, partsAtOnce));
      left = withoutFirst(bytesWritten, left);
      mayGoOn();
    }
    await this.#handle.sync();
  }

  /** Puts the file at `path`, in place of what may be there. */
  async replace(path: string): Promise<void> {
    await rename(this.#path, path);
    await syncDirectory(dirname(path));
  }

  /** Puts the file at `path` unless something is there. Either way, what is there is durable. */
  async placeIfAbsent(path: string): Promise<'created' | 'exists'> {
    const outcome = await this.#link(path);
    await syncDirectory(dirname(path));
    return outcome;
  }

  async #link(path: string): Promise<'created' | 'exists'> {
    try {
      await link(this.#path, path);
      return 'created';
    } catch (error) {
      // An NFS server whose answer was lost refuses the repeated request: the link count tells, see open(2).
      if ((await stat(this.#path)).nlink === 2) return 'created';
      if (systemErrorCode(error) === 'EEXIST') return 'exists';
      throw error;
    }
  }

  /** Removes the temporary name. What cannot be removed is litter and does not undo what was done. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close().catch(() => undefined);
    await rm(this.#path, { force: true }).catch(() => undefined);
  }
}

/** What is left of `parts` after their first bytes were written. */
function withoutFirst(lengthBytes: number, parts: readonly Uint8Array[]): Uint8Array[] {
  let skipBytes = lengthBytes;
  let index = 0;
  for (let part = parts[0]; part !== undefined && part.length <= skipBytes; part = parts[index]) {
    skipBytes -= part.length;
    index += 1;
  }
  const [first, ...others] = parts.slice(index);
  return first === undefined ? [] : [first.subarray(skipBytes), ...others];
}
