import createDebug from 'debug';
import type { MaybePromise } from '../../../base/index.js';
import {
  FileSystemError,
  type AllocateMode,
  type FileSystem,
  type HandleId,
  type InodeNumber,
} from '../../../fs/index.js';
import { putEntry } from '../attributes.js';
import type { Exchange, Handlers } from '../exchange.js';
import {
  fuse_copy_file_range_in,
  fuse_copy_file_range_out,
  fuse_create_in,
  fuse_entry_out,
  fuse_fallocate_in,
  fuse_fsync_in,
  fuse_lseek_in,
  fuse_lseek_out,
  fuse_open_in,
  fuse_open_out,
  fuse_release_in,
  fuse_write_in,
  fuse_write_out,
  openKeepCache,
  openKillSuidgid,
  syncDataOnly,
  writeCache,
  writeKillSuidgid,
} from '../protocol.js';
import type { References } from '../references.js';
import { dropPrivileges } from './attributes.js';
import { callerOf } from './names.js';
import { whenDone } from './when-done.js';
import { WriteBack } from './write-back.js';

const debug = createDebug('isr:fuse');

/** `mode` of fallocate(2): 1 keeps the size, 2 punches a hole, 16 makes zeros. */
const allocateModes: Readonly<Record<number, AllocateMode>> = {
  0: 'allocate',
  1: 'allocateKeepSize',
  3: 'punchHole',
  16: 'zeroRange',
  17: 'zeroRangeKeepSize',
};

/** What `fuse_write_out` can tell: whole pages, since less would leave the next copy unaligned. */
const writtenBytesMax = 2 ** 32 - 4096;

/** `whence` of lseek(2); the kernel does the others itself. */
const seekWhences: Readonly<Record<number, 'data' | 'hole'>> = { 3: 'data', 4: 'hole' };

/** The files that the kernel has open, and the requests about them but reading. */
export class Files {
  readonly handlers: Handlers = {
    OPEN: (exchange) => this.#openFile(exchange),
    CREATE: (exchange) => this.#create(exchange),
    RELEASE: (exchange) => this.#release(exchange),
    WRITE: (exchange) => this.#write(exchange),
    FSYNC: (exchange) => this.#fsync(exchange),
    FALLOCATE: (exchange) => this.#allocate(exchange),
    LSEEK: (exchange) => this.#seek(exchange),
    COPY_FILE_RANGE: (exchange) => this.#copyRange(exchange, writtenBytesMax, putWritten),
    COPY_FILE_RANGE_64: (exchange) => this.#copyRange(exchange, Infinity, putCopied),
  };

  readonly writeBack = new WriteBack();
  readonly #fileSystem: FileSystem;
  readonly #references: References;
  readonly #open = new Set<HandleId>();
  readonly #replayed = new Set<HandleId>();
  /** What this process opens from now on is read for a replay. */
  replayProcess: number | undefined;
  /** Its signal goes with every write; one that waits keeps it, and there is another. */
  #spare = new AbortController();

  constructor(fileSystem: FileSystem, references: References) {
    this.#fileSystem = fileSystem;
    this.#references = references;
  }

  /** Releases what a kernel that went away left open. */
  async releaseAll(): Promise<void> {
    for (const handle of this.#open) {
      this.#open.delete(handle);
      try {
        await this.#fileSystem.release(handle);
      } catch (error) {
        debug('releasing a file that was left open failed: %O', error);
      }
    }
  }

  isReplayed(handle: HandleId): boolean {
    return this.#replayed.has(handle);
  }

  #openFile(exchange: Exchange): number | Promise<number> {
    exchange.require(fuse_open_in);
    const { at } = fuse_open_in;
    const { nodeid, unique } = exchange;
    const flags = exchange.uint32(at.flags);
    const kills = (exchange.uint32(at.open_flags) & openKillSuidgid) !== 0;
    const opened = whenDone(kills ? dropPrivileges(this.#fileSystem, nodeid) : undefined, () =>
      this.#fileSystem.open(nodeid, flags, unique),
    ) as HandleId | Promise<HandleId>;
    return whenDone(opened, (handle) => this.putOpen(exchange, 0, handle));
  }

  #create(exchange: Exchange): number | Promise<number> {
    exchange.require(fuse_create_in);
    const { at, bytes } = fuse_create_in;
    const flags = exchange.uint32(at.flags);
    const permissions = exchange.uint32(at.mode) & 0o7777;
    const name = exchange.text(bytes);
    const caller = callerOf(exchange);
    const created = this.#fileSystem.create(exchange.nodeid, name, permissions, flags, caller);
    return whenDone(created, ({ attributes, handle }) => {
      this.#references.add(attributes.inode);
      const entryBytes = putEntry(exchange, 0, attributes);
      return entryBytes + this.putOpen(exchange, fuse_entry_out.bytes, handle);
    });
  }

  /**
   * Tells the kernel of an open file. Its pages change through the kernel only, so that it may keep them from one
   * opening to the next.
   */
  putOpen(exchange: Exchange, from: number, handle: HandleId): number {
    this.#open.add(handle);
    if (exchange.pid === this.replayProcess) this.#replayed.add(handle);
    const { at, bytes } = fuse_open_out;
    exchange.putUint64(from + at.fh, handle);
    exchange.putUint32(from + at.open_flags, openKeepCache);
    exchange.putUint32(from + at.padding, 0);
    return bytes;
  }

  #release(exchange: Exchange): number | Promise<number> {
    exchange.require(fuse_release_in);
    const handle = exchange.uint64(fuse_release_in.at.fh) as HandleId;
    this.#open.delete(handle);
    this.#replayed.delete(handle);
    return whenDone(this.#fileSystem.release(handle), () => 0);
  }

  #write(exchange: Exchange): number | Promise<number> {
    exchange.require(fuse_write_in);
    const { at, bytes } = fuse_write_in;
    const handle = exchange.uint64(at.fh) as HandleId;
    const offsetBytes = exchange.uint64(at.offset);
    const data = exchange.data(bytes, exchange.uint32(at.size));
    const flags = exchange.uint32(at.write_flags);
    if ((flags & writeCache) !== 0) {
      const write = (): number | Promise<number> => this.#writeData(exchange, handle, offsetBytes, data);
      return this.writeBack.run(exchange, write);
    }
    if ((flags & writeKillSuidgid) !== 0) {
      const dropped = dropPrivileges(this.#fileSystem, exchange.nodeid);
      if (dropped instanceof Promise) {
        return dropped.then(() => this.#writeData(exchange, handle, offsetBytes, data));
      }
    }
    return this.#writeData(exchange, handle, offsetBytes, data);
  }

  #writeData(
    exchange: Exchange,
    handle: HandleId,
    offsetBytes: number,
    data: Uint8Array,
  ): number | Promise<number> {
    // A write that is tried again has been given one.
    const { signal } = exchange.abort ?? this.#spare;
    const written = this.#fileSystem.write(handle, offsetBytes, data, signal);
    if (!(written instanceof Promise)) return putWritten(exchange, written);
    this.#keepSpare(exchange);
    return written.then((writtenBytes) => putWritten(exchange, writtenBytes));
  }

  /** Ends the wait of this exchange from now on. */
  #keepSpare(exchange: Exchange): AbortController {
    if (exchange.abort === undefined) {
      exchange.abort = this.#spare;
      this.#spare = new AbortController();
    }
    return exchange.abort;
  }

  #fsync(exchange: Exchange): Promise<number> {
    exchange.require(fuse_fsync_in);
    const { at } = fuse_fsync_in;
    const dataOnly = (exchange.uint32(at.fsync_flags) & syncDataOnly) !== 0;
    return this.#fileSystem.fsync(exchange.uint64(at.fh) as HandleId, dataOnly).then(() => 0);
  }

  #allocate(exchange: Exchange): number | Promise<number> {
    exchange.require(fuse_fallocate_in);
    const { at } = fuse_fallocate_in;
    const mode = allocateModes[exchange.uint32(at.mode)];
    if (mode === undefined)
      throw new FileSystemError('EOPNOTSUPP', 'This kind of fallocate is not supported.');
    const handle = exchange.uint64(at.fh) as HandleId;
    const offsetBytes = exchange.uint64(at.offset);
    const lengthBytes = exchange.uint64(at.length);
    const { signal } = this.#keepSpare(exchange);
    return whenDone(this.#changedBy(exchange, exchange.nodeid), () =>
      whenDone(this.#fileSystem.allocate(handle, mode, offsetBytes, lengthBytes, signal), () => 0),
    ) as number | Promise<number>;
  }

  #copyRange(
    exchange: Exchange,
    copiedBytesMax: number,
    putAnswer: (exchange: Exchange, copiedBytes: number) => number,
  ): number | Promise<number> {
    exchange.require(fuse_copy_file_range_in);
    const { at } = fuse_copy_file_range_in;
    if (exchange.uint64(at.flags) !== 0) throw new FileSystemError('EINVAL', 'copy_file_range has no flags.');
    const source = { handle: exchange.uint64(at.fh_in) as HandleId, offsetBytes: exchange.uint64(at.off_in) };
    const target = {
      handle: exchange.uint64(at.fh_out) as HandleId,
      offsetBytes: exchange.uint64(at.off_out),
    };
    const lengthBytes = Math.min(exchange.uint64(at.len), copiedBytesMax);
    const { signal } = this.#keepSpare(exchange);
    const targetInode = exchange.uint64(at.nodeid_out) as InodeNumber;
    return whenDone(this.#changedBy(exchange, targetInode), () =>
      whenDone(this.#fileSystem.copyRange(source, target, lengthBytes, signal), (copiedBytes) =>
        putAnswer(exchange, copiedBytes),
      ),
    ) as number | Promise<number>;
  }

  /**
   * The kernel says of writes whether their caller may leave set-user-ID in place, but of other changes of content it
   * says only who makes them.
   */
  #changedBy({ uid }: Exchange, inode: InodeNumber): MaybePromise<unknown> {
    return uid === 0 ? undefined : dropPrivileges(this.#fileSystem, inode);
  }

  #seek(exchange: Exchange): number | Promise<number> {
    exchange.require(fuse_lseek_in);
    const { at } = fuse_lseek_in;
    const whence = seekWhences[exchange.uint32(at.whence)];
    if (whence === undefined) throw new FileSystemError('EINVAL', 'Only data and holes can be looked for.');
    const handle = exchange.uint64(at.fh) as HandleId;
    const { signal } = this.#keepSpare(exchange);
    const found = this.#fileSystem.seek(handle, exchange.uint64(at.offset), whence, signal);
    return whenDone(found, (foundBytes) => {
      exchange.putUint64(fuse_lseek_out.at.offset, foundBytes);
      return fuse_lseek_out.bytes;
    });
  }
}

function putWritten(exchange: Exchange, writtenBytes: number): number {
  exchange.putUint32(fuse_write_out.at.size, writtenBytes);
  exchange.putUint32(fuse_write_out.at.padding, 0);
  return fuse_write_out.bytes;
}

function putCopied(exchange: Exchange, copiedBytes: number): number {
  exchange.putUint64(fuse_copy_file_range_out.at.bytes_copied, copiedBytes);
  return fuse_copy_file_range_out.bytes;
}
