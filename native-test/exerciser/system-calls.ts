import { createRequire } from 'node:module';
import { constants } from 'node:os';
import type koffiModule from 'koffi';
import { SystemCallError } from '../../src/system/index.js';

const koffi = createRequire(import.meta.url)('koffi') as typeof koffiModule;
const library = koffi.load(null);

type Pointer = bigint;

const functions = {
  mmap: library.func(
    'void *mmap(void *address, size_t length, int protection, int flags, int fd, int64_t offset)',
  ) as (
    address: null,
    length: number,
    protection: number,
    flags: number,
    fd: number,
    offset: number,
  ) => Pointer,
  munmap: library.func('int munmap(void *address, size_t length)') as (
    address: Pointer,
    length: number,
  ) => number,
  msync: library.func('int msync(void *address, size_t length, int flags)') as (
    address: Pointer,
    length: number,
    flags: number,
  ) => number,
  madvise: library.func('int madvise(void *address, size_t length, int advice)') as (
    address: Pointer,
    length: number,
    advice: number,
  ) => number,
  posix_fadvise: library.func('int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)') as (
    fd: number,
    offset: number,
    length: number,
    advice: number,
  ) => number,
  fallocate: library.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)') as (
    fd: number,
    mode: number,
    offset: number,
    length: number,
  ) => number,
  lseek: library.func('int64_t lseek(int fd, int64_t offset, int whence)') as (
    fd: number,
    offset: number,
    whence: number,
  ) => number,
  copy_file_range: library.func(
    'int64_t copy_file_range(int from, _Inout_ int64_t *from_at, int to, _Inout_ int64_t *to_at, size_t length, uint32_t flags)',
  ) as (
    from: number,
    fromAt: BigInt64Array,
    to: number,
    toAt: BigInt64Array,
    length: number,
    flags: number,
  ) => number,
  sync_file_range: library.func(
    'int sync_file_range(int fd, int64_t offset, int64_t length, uint32_t flags)',
  ) as (fd: number, offset: number, length: number, flags: number) => number,
  syncfs: library.func('int syncfs(int fd)') as (fd: number) => number,
};

/** `mode` of fallocate(2). */
export const fallocateMode = {
  allocate: 0,
  allocateKeepSize: 0x01,
  punchHole: 0x03,
  zeroRange: 0x10,
  zeroRangeKeepSize: 0x11,
} as const;

export const seekWhence = { data: 3, hole: 4 } as const;

export const fileAdvice = { sequential: 2, random: 1, normal: 0, willNeed: 3, dontNeed: 4 } as const;

const memoryProtection = { read: 1, readWrite: 3 } as const;
const mapFlags = { shared: 1, private: 2, anonymousPrivate: 0x22 } as const;
const syncFlags = { async: 1, sync: 4 } as const;
const dontNeed = 4;
/** `flags` of sync_file_range(2): wait, write, wait. */
const writeAndWait = 7;

function require0(name: string, result: number): void {
  if (result < 0) throw new SystemCallError(name, koffi.errno());
}

/** fallocate(2); answers whether the file system can do that. @throws SystemCallError */
export function fallocate(fd: number, mode: number, offsetBytes: number, lengthBytes: number): boolean {
  if (functions.fallocate(fd, mode, offsetBytes, lengthBytes) >= 0) return true;
  const errorNumber = koffi.errno();
  if (errorNumber === constants.errno.EOPNOTSUPP) return false;
  throw new SystemCallError('fallocate', errorNumber);
}

/** lseek(2): where, or undefined for `ENXIO`. @throws SystemCallError */
export function seek(fd: number, offsetBytes: number, whence: number): number | undefined {
  const found = functions.lseek(fd, offsetBytes, whence);
  if (found >= 0) return found;
  const errorNumber = koffi.errno();
  if (errorNumber === constants.errno.ENXIO) return undefined;
  throw new SystemCallError('lseek', errorNumber);
}

/** copy_file_range(2): how many bytes, as many as one call copies. @throws SystemCallError */
export function copyFileRange(
  from: number,
  fromAtBytes: number,
  to: number,
  toAtBytes: number,
  lengthBytes: number,
): number {
  const copied = functions.copy_file_range(
    from,
    new BigInt64Array([BigInt(fromAtBytes)]),
    to,
    new BigInt64Array([BigInt(toAtBytes)]),
    lengthBytes,
    0,
  );
  require0('copy_file_range', copied);
  return copied;
}

/** @throws SystemCallError */
export function adviseFile(fd: number, offsetBytes: number, lengthBytes: number, advice: number): void {
  // posix_fadvise answers the error number itself.
  const errorNumber = functions.posix_fadvise(fd, offsetBytes, lengthBytes, advice);
  if (errorNumber !== 0) throw new SystemCallError('posix_fadvise', errorNumber);
}

/**
 * The file system gets the pages of the file that mappings have changed, and nothing is flushed.
 * @throws SystemCallError
 */
export function writeBackFile(fd: number): void {
  require0('sync_file_range', functions.sync_file_range(fd, 0, 0, writeAndWait));
}

/** @throws SystemCallError */
export function syncFileSystem(fd: number): void {
  require0('syncfs', functions.syncfs(fd));
}

/** Memory that is a file's, by mmap(2). Touching what lies after the file's last page kills this process. */
export class MappedMemory {
  readonly bytes: Buffer;
  readonly #address: Pointer;

  private constructor(fd: number, lengthBytes: number, protection: number, flags: number) {
    this.#address = functions.mmap(null, lengthBytes, protection, flags, fd, 0);
    if (BigInt.asIntN(64, this.#address) === -1n) throw new SystemCallError('mmap', koffi.errno());
    this.bytes = Buffer.from(koffi.view(this.#address, lengthBytes));
  }

  static shared(fd: number, lengthBytes: number): MappedMemory {
    return new MappedMemory(fd, lengthBytes, memoryProtection.readWrite, mapFlags.shared);
  }

  static sharedReadOnly(fd: number, lengthBytes: number): MappedMemory {
    return new MappedMemory(fd, lengthBytes, memoryProtection.read, mapFlags.shared);
  }

  /** What is written to it never reaches the file. */
  static private(fd: number, lengthBytes: number): MappedMemory {
    return new MappedMemory(fd, lengthBytes, memoryProtection.readWrite, mapFlags.private);
  }

  /** Memory of no file that starts at the beginning of a page, as O_DIRECT wants it. */
  static anonymous(lengthBytes: number): MappedMemory {
    return new MappedMemory(-1, lengthBytes, memoryProtection.readWrite, mapFlags.anonymousPrivate);
  }

  /** msync(2) of all of it. */
  sync(how: 'sync' | 'async'): void {
    require0('msync', functions.msync(this.#address, this.bytes.length, syncFlags[how]));
  }

  /** Forgets which pages it has touched, so that the kernel may drop them. */
  forgetPages(): void {
    require0('madvise', functions.madvise(this.#address, this.bytes.length, dontNeed));
  }

  /** `bytes` must not be used any more. */
  unmap(): void {
    require0('munmap', functions.munmap(this.#address, this.bytes.length));
  }
}
