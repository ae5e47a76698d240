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

/** Files that are opened without a shortage until one more may be open again. */
const opensPerRegained = 64;

const zeros = Buffer.alloc(64 * 1024);

/**
 * The directory of the overlay's data files: one sparse file an inode, pages at their own offsets. Keeps the number
 * of open descriptors bounded. Calls are synchronous: the files are local and lie in the page cache.
 */
export class DataFiles {
  readonly #directory: string;
  readonly #open = new Set<DataFile>();
  /** How many may be open: fewer since descriptors were short, for the rest of this process needs some, too. */
  #openMax: number = limits.overlayOpenFiles;
  #opensSinceShortage = 0;
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
      // It is tried again with the next file.
      this.#giveBack();
    }
  }

  /** Now and then, where there is no shortage any more. */
  #regain(): void {
    if (this.#openMax >= limits.overlayOpenFiles) return;
    this.#opensSinceShortage += 1;
    const isTime = this.#opensSinceShortage % opensPerRegained === 0;
    if (isTime && hasDescriptors(2 * limits.overlayDescriptorsLeft)) this.#openMax += 1;
  }

  /**
   * Closes half of the files that are open and not in use, or some, and from now on keeps fewer open. Otherwise these files would have
   * all descriptors, and a fetch that a write waits for could open nothing for ever. Answers whether it closed any.
   */
  #giveBack(): boolean {
    const { overlayOpenFilesMin, overlayDescriptorsGivenBack } = limits;
    const { size } = this.#open;
    const fewer = Math.max(Math.ceil(size / 2), size - overlayDescriptorsGivenBack);
    this.#openMax = Math.max(overlayOpenFilesMin, fewer);
    this.#opensSinceShortage = 0;
    while (this.#open.size > this.#openMax) {
      const file = this.#leastRecentlyUsed();
      if (file === undefined) break;
      file.closeDescriptor();
    }
    return this.#open.size < size;
  }

  /** Whether one was found that can be done without. */
  #freeDescriptor(): boolean {
    if (this.#giveBack()) return true;
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
    if (this.#open.size > this.#openMax) this.#leastRecentlyUsed(file)?.closeDescriptor();
    else if (!hasDescriptors(limits.overlayDescriptorsLeft)) this.#giveBack();
    this.#regain();
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

/** Whether this process may open so many more. */
function hasDescriptors(count: number): boolean {
  const opened: number[] = [];
  try {
    while (opened.length < count) opened.push(openSync('/dev/null', 'r'));
    return true;
  } catch {
    return false;
  } finally {
    for (const descriptor of opened) closeSync(descriptor);
  }
}

/** A file that is open, and how many syncs of it are under way. */
interface OpenData {
  readonly descriptor: number;
  syncs: number;
}

/** The overlay's pages of one inode. Which pages are valid is not known here. */
export class DataFile {
  lastUse = 0;
  /** Called before the descriptor closes, after which its number may belong to another file. */
  onClosing: () => void = () => undefined;
  readonly #files: DataFiles;
  readonly #path: string;
  #data: OpenData | undefined;
  #exists = false;
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
    return this.#data !== undefined && this.#data.syncs > 0;
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
      return (this.#data === undefined ? statSync(this.#path) : fstatSync(this.#data.descriptor)).blocks;
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
    const data = this.#dataToSync();
    data.syncs += 1;
    try {
      await fdatasyncLater(data.descriptor);
    } catch (error) {
      this.#failure = localDiskError(error, `syncing ${this.#path}`);
      throw this.#failure;
    } finally {
      data.syncs -= 1;
      // The file was removed meanwhile; a new one may have its name.
      if (data !== this.#data && data.syncs === 0) closeSync(data.descriptor);
    }
  }

  /**
   * What is written later is in a new file, also while this one is being synced. Best effort, as `DataFiles.remove`.
   */
  remove(): void {
    if (!this.#exists) return;
    this.#exists = false;
    removeIfPossible(this.#path);
    this.#letGo();
  }

  /** Unless it is being synced. */
  closeDescriptor(): void {
    if (!this.isSyncing) this.#letGo();
  }

  /** The descriptor closes now, or when the last sync of it has ended. */
  #letGo(): void {
    const data = this.#data;
    if (data === undefined) return;
    this.onClosing();
    this.#data = undefined;
    this.#files.closed(this);
    if (data.syncs === 0) closeSync(data.descriptor);
  }

  /** That there is none says nothing about what was written. */
  #dataToSync(): OpenData {
    try {
      return this.#openedData();
    } catch (error) {
      throw localDiskError(error, `opening ${this.#path}`);
    }
  }

  #keepTimes(descriptor: number, change: () => void): void {
    const { atimeNs, mtimeNs } = fstatSync(descriptor, { bigint: true });
    change();
    setTimes(this.#path, atimeNs, mtimeNs);
  }

  #opened(): number {
    return this.#openedData().descriptor;
  }

  #openedData(): OpenData {
    this.lastUse = this.#files.tick();
    return this.#data ?? this.#open();
  }

  #open(): OpenData {
    this.#files.requireOpen();
    const created = !this.#exists;
    const flags = constants.O_RDWR | (created ? constants.O_CREAT : 0);
    const data = { descriptor: this.#files.open(this.#path, flags), syncs: 0 };
    this.#data = data;
    this.#exists = true;
    this.#files.opened(this, created);
    return data;
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
