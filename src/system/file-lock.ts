import { closeSync, openSync } from 'node:fs';
import { libc, SystemCallError } from './libc.js';

/** `operation` of flock(2): exclusive, without waiting. */
const exclusiveWithoutWaiting = 2 | 4;

/**
 * Takes an exclusive lock on a file, which is made if absent and left behind: the kernel gives the lock back when
 * this process ends, however it ends, so there are no stale locks. Undefined while another holder has it.
 * @throws SystemCallError, or an error of open(2)
 */
export function lockFile(path: string): { readonly release: () => void } | undefined {
  const fd = openSync(path, 'a', 0o600);
  const { flock, errno } = libc();
  if (flock(fd, exclusiveWithoutWaiting) === 0) return { release: () => closeSync(fd) };
  const error = new SystemCallError('flock', errno());
  closeSync(fd);
  if (error.code === 'EAGAIN') return undefined;
  throw error;
}
