import { closeSync, openSync } from 'node:fs';
import { libc, SystemCallError } from './libc.js';

/** `operation` of flock(2): exclusive, without waiting. */
const exclusiveWithoutWaiting = 2 | 4;
const unlock = 8;

/** A lock that is held through a descriptor, and through every copy of it that another process has inherited. */
export interface FileLock {
  readonly fd: number;
  /** Gives the lock back, whoever has copies of the descriptor. */
  readonly release: () => void;
}

/**
 * Takes an exclusive lock on a file, which is made if absent and left behind: the kernel gives the lock back when
 * this process and those that inherited it have ended, however they end, so there are no stale locks. Undefined while
 * another holder has it.
 * @throws SystemCallError, or an error of open(2)
 */
export function lockFile(path: string): FileLock | undefined {
  const fd = openSync(path, 'a', 0o600);
  const { flock, errno } = libc();
  if (flock(fd, exclusiveWithoutWaiting) === 0) return inheritedLock(fd);
  const error = new SystemCallError('flock', errno());
  closeSync(fd);
  if (error.code === 'EAGAIN') return undefined;
  throw error;
}

/** A lock that this process has inherited. */
export function inheritedLock(fd: number): FileLock {
  return {
    fd,
    release: () => {
      libc().flock(fd, unlock);
      closeSync(fd);
    },
  };
}
