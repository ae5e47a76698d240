import type { InodeNumber } from '../../fs/index.js';
import type { CachedRange } from './notifications.js';

/** As large as most chunks: what one demand brings. */
const windowBytes = 128 * 1024;

/** 1 GiB of refused read-ahead. When there is more, it is forgotten: pages then cost a request each, nothing else. */
const windowsMax = 8192;

/**
 * Where read-ahead was refused: the kernel keeps the pages that it had prepared, empty, and asks for each of them alone when it is
 * touched. Once their chunk is there, it had better forget them and read ahead again.
 */
export class RefusedAhead {
  readonly #windows = new Map<InodeNumber, Set<number>>();
  #count = 0;
  /** How often read-ahead was refused. */
  refusals = 0;

  refused(inode: InodeNumber, offsetBytes: number, lengthBytes: number): void {
    this.refusals += 1;
    if (this.#count >= windowsMax) this.#forgetAll();
    let windows = this.#windows.get(inode);
    if (windows === undefined) this.#windows.set(inode, (windows = new Set()));
    const before = windows.size;
    const last = Math.floor((offsetBytes + lengthBytes - 1) / windowBytes);
    for (let window = Math.floor(offsetBytes / windowBytes); window <= last; window += 1) windows.add(window);
    this.#count += windows.size - before;
  }

  /** A piece of a file is there now: calls `forget` for the pages around it that the kernel should read anew, once for each window. */
  arrived(
    inode: InodeNumber,
    offsetBytes: number,
    lengthBytes: number,
    forget: (range: CachedRange) => void,
  ): void {
    if (this.#count === 0) return;
    const windows = this.#windows.get(inode);
    const window = Math.floor(offsetBytes / windowBytes);
    if (windows?.delete(window) !== true) return;
    this.#count -= 1;
    if (windows.size === 0) this.#windows.delete(inode);
    const startBytes = window * windowBytes;
    const endBytes = offsetBytes + lengthBytes;
    // Without the piece itself, which somebody waits for.
    forget({ inode, offsetBytes: startBytes, lengthBytes: offsetBytes - startBytes });
    forget({ inode, offsetBytes: endBytes, lengthBytes: startBytes + windowBytes - endBytes });
  }

  #forgetAll(): void {
    this.#windows.clear();
    this.#count = 0;
  }
}
