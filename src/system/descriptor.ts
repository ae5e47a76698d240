import { constants } from 'node:fs';
import { endianness } from 'node:os';
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

const pollEvent = { fd: 0, events: 4, bytes: 8 } as const;
const readable = 0x001;
const pollMemory = new DataView(new ArrayBuffer(pollEvent.bytes));
const pollBytes = new Uint8Array(pollMemory.buffer);
const timeoutMemory = new BigInt64Array(2);

/** Blocks this thread until a descriptor has data or has failed, for less than a second: whether it has. */
export function waitForData(fd: number, timeoutNs: number): boolean {
  const littleEndian = endianness() === 'LE';
  pollMemory.setInt32(pollEvent.fd, fd, littleEndian);
  pollMemory.setInt16(pollEvent.events, readable, littleEndian);
  timeoutMemory[1] = BigInt(timeoutNs);
  return linux().ppoll(pollBytes, 1, timeoutMemory, null) > 0;
}
