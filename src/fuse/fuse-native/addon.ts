import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { EngineUnavailable } from '../errors.js';

/**
 * The native half of fuse-native 2.2.6: libfuse 2's high-level interface. Its JavaScript half is left out, because it
 * unmounts through a shell, answers for a file system that is slow, passes the access time as modification time, and
 * takes options only from a fixed list.
 *
 * Each request arrives on the main thread in a handler, and its libfuse thread sleeps until the handler's signal
 * function is called with the request's thread. Calling it twice, or with a payload missing, ruins the mount.
 */
export type Addon = Readonly<{ [Name in OperationName as `op_${Name}`]: number }> & {
  readonly [Name in OperationName as `fuse_native_signal_${Name}`]: Signal<Name>;
} & {
  readonly sizeof_fuse_thread_t: number;
  /**
   * Mounts, starts the libfuse thread, returns at once. Throws when the kernel or fusermount refuse (libfuse prints why).
   * `mount` is memory for the addon, never freed; `allocate` makes more of it for each libfuse thread.
   * `handlers` and `implemented` are indexed by operation number.
   */
  fuse_native_mount(
    mountPath: string,
    options: string,
    mount: Buffer,
    context: object,
    allocate: (bytes: number) => Buffer,
    handlers: readonly NativeHandler[],
    implemented: Uint32Array,
  ): void;
  /** Lets the event loop end; unmounts nothing. */
  fuse_native_unmount(mountPath: string, mount: Buffer): void;
};

/** The addon's memory of one libfuse thread (`fuse_thread_locals_t`): stands for the request that it waits in. */
export type RequestThread = Buffer & { readonly __brand: 'RequestThread' };

export type NativeHandler = (thread: RequestThread, operation: number, ...args: never) => void;

/** 64-bit numbers come in two halves. */
export interface OperationTypes {
  init: { args: []; payload: [] };
  statfs: { args: [path: string]; payload: [usage: Uint32Array] };
  getattr: { args: [path: string]; payload: [attributes: Uint32Array] };
  readdir: { args: [path: string]; payload: [names: readonly string[], attributes: readonly Uint32Array[]] };
  readlink: { args: [path: string]; payload: [target: string] };
  mknod: { args: [path: string, mode: number, device: number]; payload: [] };
  mkdir: { args: [path: string, permissions: number]; payload: [] };
  unlink: { args: [path: string]; payload: [] };
  rmdir: { args: [path: string]; payload: [] };
  symlink: { args: [target: string, path: string]; payload: [] };
  rename: { args: [path: string, newPath: string]; payload: [] };
  link: { args: [path: string, newPath: string]; payload: [] };
  chmod: { args: [path: string, mode: number]; payload: [] };
  chown: { args: [path: string, uid: number, gid: number]; payload: [] };
  truncate: { args: [path: string, sizeLow: number, sizeHigh: number]; payload: [] };
  ftruncate: { args: [path: string, file: number, sizeLow: number, sizeHigh: number]; payload: [] };
  /** The access time twice, in milliseconds; the thread's memory has both times (`timesOf`). */
  utimens: {
    args: [path: string, low: number, high: number, lowAgain: number, highAgain: number];
    payload: [];
  };
  /** A file number of 0 in a payload is not stored. */
  open: { args: [path: string, flags: number]; payload: [file: number] };
  create: { args: [path: string, permissions: number]; payload: [file: number] };
  release: { args: [path: string, file: number]; payload: [] };
  fsync: { args: [path: string, dataOnly: number, file: number]; payload: [] };
  fsyncdir: { args: [path: string, dataOnly: number, file: number]; payload: [] };
  read: { args: TransferArgs; payload: [unused: number, memory: ArrayBufferLike] };
  write: { args: TransferArgs; payload: [unused: number, memory: ArrayBufferLike] };
  setxattr: {
    args: [path: string, name: string, value: Buffer, position: number, flags: number];
    payload: [memory: ArrayBufferLike];
  };
  getxattr: {
    args: [path: string, name: string, into: Buffer, position: number];
    payload: [memory: ArrayBufferLike];
  };
  listxattr: { args: [path: string, into: Buffer]; payload: [memory: ArrayBufferLike] };
  removexattr: { args: [path: string, name: string]; payload: [] };
}

/** The buffer is libfuse's own memory, valid until the answer. */
type TransferArgs = [
  path: string,
  file: number,
  buffer: Buffer,
  length: number,
  offsetLow: number,
  offsetHigh: number,
];

export type OperationName = keyof OperationTypes;
export type Args<Name extends OperationName> = OperationTypes[Name]['args'];
export type Payload<Name extends OperationName> = OperationTypes[Name]['payload'];
type Signal<Name extends OperationName> = (
  thread: RequestThread,
  result: number,
  ...payload: Payload<Name>
) => void;

/** One more than the addon's highest operation number. */
export const operationCount = 35;

let loaded: Addon | undefined;

/** @throws EngineUnavailable where libfuse 2 is not installed or the addon has no binary for this platform */
export function loadAddon(): Addon {
  if (loaded !== undefined) return loaded;
  try {
    const manifestPath = createRequire(import.meta.url).resolve('fuse-native/package.json');
    const loadBinary = createRequire(manifestPath)('node-gyp-build') as (directory: string) => Addon;
    loaded = loadBinary(dirname(manifestPath));
    return loaded;
  } catch (cause) {
    throw new EngineUnavailable('The engine fuse-native does not load on this host.', {
      cause,
      facts: { reason: cause instanceof Error ? cause.message : String(cause) },
      remedy: 'Install libfuse 2 and fusermount: apt-get install libfuse2 fuse3',
    });
  }
}

/** Memory that the addon writes into for as long as the process lives, also after an unmount: it is never freed. */
export function allocateAddonMemory(bytes: number): Buffer {
  const memory = Buffer.alloc(bytes);
  addonMemory.push(memory);
  return memory;
}

const addonMemory: Buffer[] = [];

/** The function that answers requests of one kind. */
export function signalOf<Name extends OperationName>(addon: Addon, name: Name): Signal<Name> {
  // TypeScript does not see that the property of this name has the type of this name.
  return addon[`fuse_native_signal_${name}`] as unknown as Signal<Name>;
}

/** Where `fuse_thread_locals_t` keeps the times of `utimens`, on 64-bit platforms. */
const accessTimeOffset = 104;
const modifyTimeOffset = 112;

/**
 * The times of a `utimens` request in milliseconds. The modification time is only in the thread's memory; the access time,
 * which is there and in the arguments, shows whether the memory is laid out as expected. If not, it stands for both.
 */
export function timesOf(
  thread: RequestThread,
  [, low, high]: Args<'utimens'>,
): { readonly accessMilliseconds: bigint; readonly modifyMilliseconds: bigint } {
  const accessMilliseconds = BigInt.asIntN(64, (BigInt(high) << 32n) | BigInt(low));
  const isAsExpected =
    thread.length >= modifyTimeOffset + 8 && thread.readBigInt64LE(accessTimeOffset) === accessMilliseconds;
  const modifyMilliseconds = isAsExpected ? thread.readBigInt64LE(modifyTimeOffset) : accessMilliseconds;
  return { accessMilliseconds, modifyMilliseconds };
}
