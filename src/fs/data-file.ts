import {
  closeSync,
  constants,
  fdatasync,
  fstatSync,
  fsync,
  ftruncateSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { open as openLater } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { limits, systemErrorCode } from '../base/index.js';
import { allocate, nextData, nextHole, punchHole, setTimes } from '../system/index.js';
import { FileSystemError, localDiskError } from './errors.js';

const fdatasyncLater = promisify(fdatasync);
const fsyncLater = promisify(fsync);

/** No descriptor is to be had: for this process, or on this host. */
const shortages: ReadonlySet<string> = new Set(['EMFILE', 'ENFILE']);

const zeros = Buffer.alloc(64 * 1024);

/**
 * The directory of the overlay's data files: one sparse file an inode, pages at their own offsets. Keeps the number
 * of open descriptors bounded. Calls are synchronous: the files are local and lie in the page cache.
 */
export class DataFiles {
  readonly #directory: string;
  readonly #open = new Set<DataFile>();
  #uses = 0;
  #isClosed = false;
  #created = 0;
  #createdDurably = 0;
  /** Descriptors that nobody needs, for a time when there are no others. */
  readonly #spares: number[] = [];
  #sparesWanted = 0;

  constructor(directory: string) {
    this.#directory = directory;
  }

  file(inode: number): DataFile {
    return new DataFile(this, join(this.#directory, String(inode)));
  }

  /** The inodes that there are files of. */
  list(): number[] {
    return readdirSync(this.#directory).map(Number);
  }

  /** Removes the file of an inode that is gone. Best effort: what is left is removed when the overlay is opened again. */
  remove(inode: number): void {
    removeIfPossible(join(this.#directory, String(inode)));
  }

  /** Makes new names in the directory durable. */
  async syncEntries(): Promise<void> {
    const created = this.#created;
    if (created === this.#createdDurably) return;
    const fd = this.open(this.#directory, constants.O_RDONLY);
    try {
      await fsyncLater(fd);
      this.#createdDurably = Math.max(this.#createdDurably, created);
    } catch (error) {
      throw localDiskError(error, `syncing ${this.#directory}`);
    } finally {
      closeSync(fd);
    }
  }

  /** Nothing can be read or written afterwards. */
  close(): void {
    this.#isClosed = true;
    for (const file of [...this.#open]) file.closeDescriptor();
    for (const spare of this.#spares.splice(0)) closeSync(spare);
  }

  /**
   * From now on there is a descriptor for any file, whatever else takes those that this process may have: the spare ones, and those
   * of files that have one and are not in use.
   */
  keepSpares(): void {
    this.#sparesWanted = limits.overlaySpareDescriptors;
    this.#fillSpares();
  }

  /** For `DataFile`, as openSync. */
  open(path: string, flags: number): number {
    for (;;) {
      try {
        return openSync(path, flags, 0o600);
      } catch (error) {
        if (!shortages.has(systemErrorCode(error) ?? '') || !this.#freeDescriptor()) throw error;
      }
    }
  }

  #fillSpares(): void {
    try {
      while (this.#spares.length < this.#sparesWanted) this.#spares.push(openSync('/dev/null', 'r'));
    } catch {
      // There is none now. It is tried again with the next file.
    }
  }

  /** Whether one was found that can be done without. */
  #freeDescriptor(): boolean {
    const file = this.#leastRecentlyUsed();
    const spare = file === undefined ? this.#spares.pop() : undefined;
    if (spare !== undefined) closeSync(spare);
    else file?.closeDescriptor();
    return file !== undefined || spare !== undefined;
  }

  /** For `DataFile`: a number that grows with each use. */
  tick(): number {
    this.#uses += 1;
    return this.#uses;
  }

  /** For `DataFile`: it is about to open its descriptor. */
  requireOpen(): void {
    if (this.#isClosed) throw new FileSystemError('EIO', 'The overlay is closed.');
  }

  /** For `DataFile`: it has opened its descriptor. */
  opened(file: DataFile, created: boolean): void {
    if (created) this.#created += 1;
    this.#open.add(file);
    if (this.#open.size > limits.overlayOpenFiles) this.#leastRecentlyUsed(file)?.closeDescriptor();
    this.#fillSpares();
  }

  /** For `DataFile`: it has closed its descriptor. */
  closed(file: DataFile): void {
    this.#open.delete(file);
  }

  #leastRecentlyUsed(except?: DataFile): DataFile | undefined {
    let oldest: DataFile | undefined;
    for (const file of this.#open) {
      if (file === except || file.isSyncing) continue;
      if (oldest === undefined || file.lastUse < oldest.lastUse) oldest = file;
    }
    return oldest;
  }
}

/** The overlay's pages of one inode. Which pages are valid is not known here. */
export class DataFile {
  lastUse = 0;
  /** Called before the descriptor closes, after which its number may belong to another file. */
  onClosing: () => void = () => undefined;
  readonly #files: DataFiles;
  readonly #path: string;
  #descriptor = -1;
  #exists = false;
  #syncs = 0;
  #failure: FileSystemError | undefined;

  constructor(files: DataFiles, path: string) {
    this.#files = files;
    this.#path = path;
  }

  /** The overlay has pages in it: that it is absent is damage from now on. */
  expectExisting(): void {
    this.#exists = true;
  }

  /** The number under which other threads may read the file until `onClosing`; -1 if it cannot be opened now. */
  sharedDescriptor(): number {
    try {
      return this.#opened();
    } catch {
      // Whoever reads it in place will say why.
      return -1;
    }
  }

  get isSyncing(): boolean {
    return this.#syncs > 0;
  }

  /** Fills `into`. Short data is damage: the file reaches to the end of its last valid page. */
  read(offsetBytes: number, into: Uint8Array): void {
    try {
      const descriptor = this.#opened();
      for (let done = 0; done < into.length;) {
        const count = readSync(descriptor, into, done, into.length - done, offsetBytes + done);
        if (count === 0) throw new FileSystemError('EIO', `The overlay's ${this.#path} is too short.`);
        done += count;
      }
    } catch (error) {
      throw localDiskError(error, `reading ${this.#path}`);
    }
  }

  /** Has the kernel read a range into memory, waiting for that on another thread. Best effort: `read` tells what is wrong. */
  async load(offsetBytes: number, lengthBytes: number): Promise<void> {
    if (!this.#exists) return;
    try {
      const file = await openLater(this.#path);
      try {
        await file.read(Buffer.allocUnsafe(lengthBytes), 0, lengthBytes, offsetBytes);
      } finally {
        await file.close();
      }
    } catch {
      // The file may just have been removed.
    }
  }

  /** Writes all of `data`, or throws having written a part. */
  write(offsetBytes: number, data: Uint8Array): void {
    try {
      const descriptor = this.#opened();
      for (let done = 0; done < data.length;) {
        done += writeSync(descriptor, data, done, data.length - done, offsetBytes + done);
      }
    } catch (error) {
      throw localDiskError(error, `writing ${this.#path}`);
    }
  }

  /** As `write`, of bytes that no program can see: `modifyTimeNs` stays. */
  tidy(offsetBytes: number, data: Uint8Array): void {
    try {
      this.#keepTimes(this.#opened(), () => this.write(offsetBytes, data));
    } catch (error) {
      throw localDiskError(error, `writing ${this.#path}`);
    }
  }

  /** Makes a range zero, as a hole where the disk can, and the file reach to its end. */
  zero(offsetBytes: number, lengthBytes: number): void {
    try {
      const descriptor = this.#opened();
      const { size } = fstatSync(descriptor);
      const endBytes = offsetBytes + lengthBytes;
      if (offsetBytes < size) this.#clear(descriptor, offsetBytes, Math.min(endBytes, size) - offsetBytes);
      if (endBytes > size) ftruncateSync(descriptor, endBytes);
    } catch (error) {
      throw localDiskError(error, `punching a hole into ${this.#path}`);
    }
  }

  /** Gives the space of a range back; its content no longer matters. Best effort. */
  discard(offsetBytes: number, lengthBytes: number): void {
    if (!this.#exists) return;
    try {
      const descriptor = this.#opened();
      this.#keepTimes(descriptor, () => punchHole(descriptor, offsetBytes, lengthBytes));
    } catch {
      // Costs space, nothing else: no valid page lies there.
    }
  }

  /** Gives everything from here on back; its content no longer matters. Best effort. */
  cut(lengthBytes: number): void {
    if (!this.#exists) return;
    try {
      const descriptor = this.#opened();
      if (fstatSync(descriptor).size <= lengthBytes) return;
      this.#keepTimes(descriptor, () => ftruncateSync(descriptor, lengthBytes));
    } catch {
      // As in `discard`.
    }
  }

  /** Takes space now, so that later writes do not fail for lack of it. Where the disk cannot, nothing is reserved. */
  reserve(offsetBytes: number, lengthBytes: number): void {
    try {
      allocate(this.#opened(), offsetBytes, lengthBytes, true);
    } catch (error) {
      if (systemErrorCode(error) === 'EOPNOTSUPP') return;
      throw localDiskError(error, `reserving space in ${this.#path}`);
    }
  }

  /** Where data that was written starts, at or after an offset; `undefined` when only holes follow. */
  nextData(offsetBytes: number): number | undefined {
    try {
      return nextData(this.#opened(), offsetBytes);
    } catch (error) {
      throw localDiskError(error, `looking for holes in ${this.#path}`);
    }
  }

  /** Where a hole starts, at or after an offset; the end of what was written counts as one. */
  nextHole(offsetBytes: number): number {
    try {
      return nextHole(this.#opened(), offsetBytes) ?? offsetBytes;
    } catch (error) {
      throw localDiskError(error, `looking for holes in ${this.#path}`);
    }
  }

  /** Disk that the file uses, in 512-byte blocks. */
  blocks(): number {
    if (!this.#exists) return 0;
    try {
      return this.#descriptor < 0 ? statSync(this.#path).blocks : fstatSync(this.#descriptor).blocks;
    } catch (error) {
      throw localDiskError(error, `asking for the space of ${this.#path}`);
    }
  }

  /** When a program last changed the content, in nanoseconds since 1970; undefined if there is no file. */
  modifyTimeNs(): bigint | undefined {
    return this.#exists ? fstatSync(this.#opened(), { bigint: true }).mtimeNs : undefined;
  }

  /**
   * Makes everything written before the call durable. A failure is for ever: the kernel forgets which pages it could
   * not write, so that a later success would mean nothing.
   */
  async sync(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (!this.#exists) return;
    const descriptor = this.#descriptorToSync();
    this.#syncs += 1;
    try {
      await fdatasyncLater(descriptor);
    } catch (error) {
      this.#failure = localDiskError(error, `syncing ${this.#path}`);
      throw this.#failure;
    } finally {
      this.#syncs -= 1;
      this.#closeIfRemoved();
    }
  }

  /** Best effort, as `DataFiles.remove`. */
  remove(): void {
    if (!this.#exists) return;
    this.#exists = false;
    removeIfPossible(this.#path);
    this.closeDescriptor();
  }

  /** Unless it is being synced: then the sync closes it if the file is gone. */
  closeDescriptor(): void {
    if (this.#descriptor < 0 || this.#syncs > 0) return;
    this.onClosing();
    closeSync(this.#descriptor);
    this.#descriptor = -1;
    this.#files.closed(this);
  }

  /** That there is none says nothing about what was written. */
  #descriptorToSync(): number {
    try {
      return this.#opened();
    } catch (error) {
      throw localDiskError(error, `opening ${this.#path}`);
    }
  }

  #keepTimes(descriptor: number, change: () => void): void {
    const { atimeNs, mtimeNs } = fstatSync(descriptor, { bigint: true });
    change();
    setTimes(this.#path, atimeNs, mtimeNs);
  }

  #closeIfRemoved(): void {
    if (!this.#exists) this.closeDescriptor();
  }

  #opened(): number {
    this.lastUse = this.#files.tick();
    return this.#descriptor < 0 ? this.#openDescriptor() : this.#descriptor;
  }

  #openDescriptor(): number {
    this.#files.requireOpen();
    const created = !this.#exists;
    this.#descriptor = this.#files.open(this.#path, constants.O_RDWR | (created ? constants.O_CREAT : 0));
    this.#exists = true;
    this.#files.opened(this, created);
    return this.#descriptor;
  }

  #clear(descriptor: number, offsetBytes: number, lengthBytes: number): void {
    try {
      punchHole(descriptor, offsetBytes, lengthBytes);
    } catch (error) {
      if (systemErrorCode(error) !== 'EOPNOTSUPP') throw error;
      for (let done = 0; done < lengthBytes; done += zeros.length) {
        this.write(offsetBytes + done, zeros.subarray(0, lengthBytes - done));
      }
    }
  }
}

function removeIfPossible(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // Costs space, nothing else: no page of it counts.
  }
}
