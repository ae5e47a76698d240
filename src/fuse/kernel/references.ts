import { rootInode, type FileSystem, type InodeNumber } from '../../fs/index.js';

/**
 * How often the kernel was told of each inode and has not forgotten it. As long as it knows one, programs may use it
 * that have no name and no handle of it: it is somebody's working directory, or open as a fifo.
 */
export class References {
  readonly #fileSystem: Pick<FileSystem, 'hold' | 'forget'>;
  readonly #counts = new Map<InodeNumber, number>();
  readonly #inherited: boolean;

  /** `inherited`: the kernel was told of inodes by another process before, which are counted by the kernel only. */
  constructor(fileSystem: Pick<FileSystem, 'hold' | 'forget'>, inherited = false) {
    this.#fileSystem = fileSystem;
    this.#inherited = inherited;
  }

  /** Inodes that the kernel knows, beside the root. */
  get size(): number {
    return this.#counts.size;
  }

  add(inode: InodeNumber): void {
    if (inode === rootInode) return;
    const count = this.#counts.get(inode) ?? 0;
    if (count === 0) this.#fileSystem.hold(inode);
    this.#counts.set(inode, count + 1);
  }

  /** Forgetting more than there is forgets the inode. */
  forget(inode: InodeNumber, count: number): void {
    const left = (this.#counts.get(inode) ?? 0) - count;
    if (left > 0) this.#counts.set(inode, left);
    else if (this.#counts.delete(inode) || this.#inherited) this.#fileSystem.forget(inode);
  }

  /** The kernel has gone. */
  forgetAll(): void {
    for (const inode of this.#counts.keys()) this.#fileSystem.forget(inode);
    this.#counts.clear();
  }
}
