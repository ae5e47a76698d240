import { readdirSync, readlinkSync } from 'node:fs';
import { SystemCallError } from './libc.js';
import { linux } from './linux.js';

/** Of unshare(2). */
const cloneFiles = 0x400;

/**
 * Gives this thread descriptors of its own: copies of those that the process has, but no sockets. So whoever has the other
 * end of a socket learns of this process's death even while this thread waits in the kernel, where nobody can end it.
 * Descriptors that other threads open later do not exist on this one.
 *
 * @throws SystemCallError
 */
export function leaveSharedDescriptors(): void {
  const { unshare, close, errno } = linux();
  if (unshare(cloneFiles) < 0) throw new SystemCallError('unshare', errno());
  const directory = '/proc/thread-self/fd';
  for (const name of readdirSync(directory)) {
    if (isSocket(`${directory}/${name}`)) close(Number(name));
  }
}

function isSocket(path: string): boolean {
  try {
    return readlinkSync(path).startsWith('socket:');
  } catch {
    // The descriptor by which the directory was read.
    return false;
  }
}
