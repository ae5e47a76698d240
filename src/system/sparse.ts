import { fstatSync } from 'node:fs';
import { constants } from 'node:os';
import { libc, SystemCallError } from './libc.js';

/** `whence` of lseek(2) on Linux. */
const seek = { data: 3, hole: 4 } as const;

/** `mode` of fallocate(2). */
const fallocateMode = { keepSize: 0x01, punchHole: 0x02, zeroRange: 0x10 } as const;

/** A signal may interrupt fallocate(2) on some file systems, which then did nothing; more in a row is no accident. */
const interruptionsMax = 16;

/**
 * Where data starts at or after `offsetBytes`; undefined when only a hole follows, or nothing.
 * A file system that cannot tell reports everything as data. Moves the position of `fd`.
 * @throws SystemCallError
 */
export function nextData(fd: number, offsetBytes: number): number | undefined {
  return seekFor(fd, offsetBytes, 'data');
}

/**
 * Where a hole starts at or after `offsetBytes`: the end of the file counts as one. Undefined when `offsetBytes` is
 * not within the file. Moves the position of `fd`.
 * @throws SystemCallError
 */
export function nextHole(fd: number, offsetBytes: number): number | undefined {
  return seekFor(fd, offsetBytes, 'hole');
}

function seekFor(fd: number, offsetBytes: number, what: 'data' | 'hole'): number | undefined {
  requireOffset(offsetBytes);
  if (process.platform !== 'linux') return seekWithoutSupport(fd, offsetBytes, what);
  const { lseek, errno } = libc();
  const found = lseek(fd, offsetBytes, seek[what]);
  if (found >= 0) return found;
  const error = new SystemCallError('lseek', errno());
  if (error.code === 'ENXIO') return undefined;
  if (error.code === 'EINVAL' || error.code === 'EOPNOTSUPP')
    return seekWithoutSupport(fd, offsetBytes, what);
  throw error;
}

/** All of the file is data, and the only hole is its end. */
function seekWithoutSupport(fd: number, offsetBytes: number, what: 'data' | 'hole'): number | undefined {
  const { size } = fstatSync(fd);
  if (offsetBytes >= size) return undefined;
  return what === 'data' ? offsetBytes : size;
}

/**
 * Reserves space, so that writing there cannot fail for lack of it; content stays as it is and new bytes are zero.
 * The file grows to cover the range unless `keepSize`.
 * @throws SystemCallError `ENOSPC`, `EOPNOTSUPP` where the file system cannot, and others of fallocate(2)
 */
export function allocate(fd: number, offsetBytes: number, lengthBytes: number, keepSize: boolean): void {
  fallocate(fd, keepSize ? fallocateMode.keepSize : 0, offsetBytes, lengthBytes);
}

/**
 * Makes a range read as zeros and gives its space back. Never changes the size of the file.
 * @throws SystemCallError as `allocate`
 */
export function punchHole(fd: number, offsetBytes: number, lengthBytes: number): void {
  fallocate(fd, fallocateMode.punchHole | fallocateMode.keepSize, offsetBytes, lengthBytes);
}

/**
 * Makes a range read as zeros and keeps its space reserved. The file grows to cover the range unless `keepSize`.
 * @throws SystemCallError as `allocate`; some file systems that punch holes cannot do this (tmpfs)
 */
export function zeroRange(fd: number, offsetBytes: number, lengthBytes: number, keepSize: boolean): void {
  const mode = fallocateMode.zeroRange | (keepSize ? fallocateMode.keepSize : 0);
  fallocate(fd, mode, offsetBytes, lengthBytes);
}

function fallocate(fd: number, mode: number, offsetBytes: number, lengthBytes: number): void {
  requireOffset(offsetBytes);
  requireOffset(lengthBytes);
  if (process.platform !== 'linux') throw new SystemCallError('fallocate', constants.errno.EOPNOTSUPP);
  const { fallocate: call, errno } = libc();
  for (let interruptions = 0; ; interruptions++) {
    if (call(fd, mode, offsetBytes, lengthBytes) === 0) return;
    const errorNumber = errno();
    if (errorNumber !== constants.errno.EINTR || interruptions === interruptionsMax)
      throw new SystemCallError('fallocate', errorNumber);
  }
}

function requireOffset(bytes: number): void {
  if (!Number.isSafeInteger(bytes) || bytes < 0) throw new RangeError(`not a number of bytes: ${bytes}`);
}
