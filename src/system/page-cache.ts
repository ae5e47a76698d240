import { linux } from './linux.js';

/** `advice` of posix_fadvise(2). */
const willNeed = 3;

/**
 * Has the kernel begin to read a range of a file into its page cache, and does not wait for it. What it has already stays
 * as it is, changed or not. Best effort.
 */
export function readAhead(fd: number, offsetBytes: number, lengthBytes: number): void {
  linux().posix_fadvise(fd, offsetBytes, lengthBytes, willNeed);
}
