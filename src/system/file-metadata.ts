import { lutimesSync } from 'node:fs';
import { constants } from 'node:os';
import { libc, SystemCallError } from './libc.js';

/** `dirfd` and `flags` of utimensat(2) on Linux: relative to the working directory, and of a link itself. */
const workingDirectory = -100;
const doNotFollow = 0x100;

/** The only name space of extended attributes that means the same on every host; of others, only root may write some. */
const userNamespace = 'user.';

/** Linux' own limits: XATTR_LIST_MAX and XATTR_SIZE_MAX. */
const attributeBytesMax = 65_536;

/**
 * Sets access and modify time, of a symbolic link itself, to the nanosecond (elsewhere than on Linux: microsecond).
 * @throws SystemCallError, or an error of `node:fs`
 */
export function setTimes(path: string, accessTimeNs: bigint, modifyTimeNs: bigint): void {
  if (process.platform !== 'linux') {
    lutimesSync(path, Number(accessTimeNs) / 1e9, Number(modifyTimeNs) / 1e9);
    return;
  }
  const times = new BigInt64Array([...timespec(accessTimeNs), ...timespec(modifyTimeNs)]);
  const { utimensat, errno } = libc();
  if (utimensat(workingDirectory, path, times, doNotFollow) < 0)
    throw new SystemCallError('utimensat', errno());
}

/**
 * Makes a fifo. The process's umask applies.
 * @throws SystemCallError
 */
export function makeFifo(path: string, permissions: number): void {
  const { mkfifo, errno } = libc();
  if (mkfifo(path, permissions) < 0) throw new SystemCallError('mkfifo', errno());
}

/**
 * The extended attributes in the `user` name space, of a symbolic link itself. None where the file system or the
 * operating system has no such thing.
 * @throws SystemCallError
 */
export function userAttributes(path: string): ReadonlyMap<string, Uint8Array> {
  const attributes = new Map<string, Uint8Array>();
  if (process.platform !== 'linux') return attributes;
  const { lgetxattr, errno } = libc();
  // Nearly always there are none, which costs no buffer to find out.
  if (listAttributes(path, Buffer.alloc(0)) === 0) return attributes;
  const buffer = Buffer.allocUnsafe(attributeBytesMax);
  const names = buffer.toString('utf8', 0, listAttributes(path, buffer)).split('\0');
  for (const name of names.filter((name) => name.startsWith(userNamespace)).sort()) {
    const valueBytes = lgetxattr(path, name, buffer, buffer.length);
    if (valueBytes < 0) throw new SystemCallError('lgetxattr', errno());
    attributes.set(name, Uint8Array.from(buffer.subarray(0, valueBytes)));
  }
  return attributes;
}

/**
 * Sets an extended attribute, of a symbolic link itself.
 * @throws SystemCallError, `EOPNOTSUPP` where there is no such thing
 */
export function setUserAttribute(path: string, name: string, value: Uint8Array): void {
  if (process.platform !== 'linux') throw new SystemCallError('lsetxattr', constants.errno.EOPNOTSUPP);
  const { lsetxattr, errno } = libc();
  if (lsetxattr(path, name, value, value.length, 0) < 0) throw new SystemCallError('lsetxattr', errno());
}

/** Fills `names`, unless that is empty; answers how many bytes the names need. */
function listAttributes(path: string, names: Buffer): number {
  const { llistxattr, errno } = libc();
  const bytes = llistxattr(path, names, names.length);
  if (bytes >= 0) return bytes;
  const error = new SystemCallError('llistxattr', errno());
  if (error.code === 'EOPNOTSUPP') return 0;
  throw error;
}

/** `struct timespec`: seconds, rounded down, and nanoseconds. */
function timespec(timeNs: bigint): readonly [bigint, bigint] {
  const nanoseconds = ((timeNs % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  return [(timeNs - nanoseconds) / 1_000_000_000n, nanoseconds];
}
