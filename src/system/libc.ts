import { createRequire } from 'node:module';
import { constants } from 'node:os';
import type koffiModule from 'koffi';

/** The C functions that Node.js lacks. Offsets are exact up to 2^53. */
interface Libc {
  readonly lseek: (fd: number, offsetBytes: number, whence: number) => number;
  readonly fallocate: (fd: number, mode: number, offsetBytes: number, lengthBytes: number) => number;
  readonly flock: (fd: number, operation: number) => number;
  readonly mkfifo: (path: string, mode: number) => number;
  readonly utimensat: (dirfd: number, path: string, times: BigInt64Array, flags: number) => number;
  readonly llistxattr: (path: string, list: Uint8Array, listBytes: number) => number;
  readonly lgetxattr: (path: string, name: string, value: Uint8Array, valueBytes: number) => number;
  readonly lsetxattr: (
    path: string,
    name: string,
    value: Uint8Array,
    valueBytes: number,
    flags: number,
  ) => number;
  /** The error number of the last call on this thread; read it before anything else runs. */
  readonly errno: () => number;
}

let loaded: Libc | undefined;

/** Loads the foreign-function interface at its first use: that costs 15 ms, which most commands need not pay. */
export function libc(): Libc {
  loaded ??= loadLibc();
  return loaded;
}

function loadLibc(): Libc {
  const koffi = createRequire(import.meta.url)('koffi') as typeof koffiModule;
  // The process itself is linked to its C library, whatever that is called on this system.
  const library = koffi.load(null);
  return {
    lseek: library.func('int64_t lseek(int fd, int64_t offset, int whence)') as Libc['lseek'],
    fallocate: library.func(
      'int fallocate(int fd, int mode, int64_t offset, int64_t length)',
    ) as Libc['fallocate'],
    flock: library.func('int flock(int fd, int operation)') as Libc['flock'],
    mkfifo: library.func('int mkfifo(const char *path, uint32_t mode)') as Libc['mkfifo'],
    utimensat: library.func(
      'int utimensat(int dirfd, const char *path, const void *times, int flags)',
    ) as Libc['utimensat'],
    llistxattr: library.func(
      'int64_t llistxattr(const char *path, void *list, size_t size)',
    ) as Libc['llistxattr'],
    lgetxattr: library.func(
      'int64_t lgetxattr(const char *path, const char *name, void *value, size_t size)',
    ) as Libc['lgetxattr'],
    lsetxattr: library.func(
      'int lsetxattr(const char *path, const char *name, const void *value, size_t size, int flags)',
    ) as Libc['lsetxattr'],
    errno: () => koffi.errno(),
  };
}

/** A system call that failed; shaped like the errors of `node:fs`. */
export class SystemCallError extends Error {
  /** The name of the error number, as `ENOSPC`. */
  readonly code: string;
  /** Negative, as in errors of `node:fs`. */
  readonly errno: number;
  readonly syscall: string;

  constructor(syscall: string, errorNumber: number) {
    const code = errorNames.get(errorNumber) ?? `E${errorNumber}`;
    super(`${code}: ${syscall}`);
    this.name = 'SystemCallError';
    this.code = code;
    this.errno = -errorNumber;
    this.syscall = syscall;
  }
}

/** Linux gives some numbers two names; these are the ones its manual pages use for files. */
const errorNames: ReadonlyMap<number, string> = new Map([
  ...Object.entries(constants.errno).map(([name, number]) => [number, name] as const),
  [constants.errno.EAGAIN, 'EAGAIN'],
  [constants.errno.EOPNOTSUPP, 'EOPNOTSUPP'],
]);
