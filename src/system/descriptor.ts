import { constants } from 'node:fs';
import { SystemCallError } from './libc.js';
import { linux } from './linux.js';

/**
 * read(2) for hot paths, where `node:fs` would throw an error for every empty attempt: answers the number of bytes
 * read, or the error number negated (`-EAGAIN`).
 */
export function readDescriptor(fd: number, into: Uint8Array): number {
  const { read, errno } = linux();
  const bytes = read(fd, into, into.length);
  return bytes < 0 ? -errno() : bytes;
}

/** write(2) of the first `lengthBytes` of `from`: answers the number of bytes written, or the error number negated. */
export function writeDescriptor(fd: number, from: Uint8Array, lengthBytes: number): number {
  const { write, errno } = linux();
  const bytes = write(fd, from, lengthBytes);
  return bytes < 0 ? -errno() : bytes;
}

/** `command` of fcntl(2). */
const setStatusFlags = 4;

/**
 * Makes reads of a descriptor that is open for reading and writing answer `EAGAIN` instead of waiting.
 * @throws SystemCallError
 */
export function setNonBlocking(fd: number): void {
  const { fcntl, errno } = linux();
  if (fcntl(fd, setStatusFlags, constants.O_RDWR | constants.O_NONBLOCK) < 0) {
    throw new SystemCallError('fcntl', errno());
  }
}
