import { rootInode, type InodeNumber } from '../../fs/index.js';

/**
 * How often the kernel was told of each inode and has not forgotten it. The file system needs no such count, because
 * its inode numbers stay valid; it tells how much the kernel holds, and whom a notification could concern.
 */
export class References {
  readonly #counts = new Map<InodeNumber, number>();

  /** Inodes that the kernel knows, beside the root. */
  get size(): number {
    return this.#counts.size;
  }

  add(inode: InodeNumber): void {
    if (inode !== rootInode) this.#counts.set(inode, (this.#counts.get(inode) ?? 0) + 1);
  }

  /** Forgetting more than there is forgets the inode. */
  forget(inode: InodeNumber, count: number): void {
    const left = (this.#counts.get(inode) ?? 0) - count;
    if (left > 0) this.#counts.set(inode, left);
    else this.#counts.delete(inode);
  }
}
