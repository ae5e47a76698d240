import {
  closeSync,
  fdatasync,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { crc32 } from 'node:zlib';
import { FileSystemError, localDiskError } from './errors.js';

const fdatasyncLater = promisify(fdatasync);

/**
 * Zeros are written this far ahead: a sync of blocks that the file has already needs no change of the disk's own
 * metadata, and a full disk still lets names be removed.
 */
const spareBytes = 128 * 1024;
const growthBytes = 256 * 1024;
const growth = Buffer.alloc(growthBytes);

/** Records are handed to the disk in pieces of this size when a journal is begun. */
const batchCharacters = 1024 * 1024;

/** `CRC JSON`: the checksum of a record that was torn by a crash does not match, and so ends the journal. */
const checksumDigits = 8;

export interface JournalContent {
  readonly records: readonly string[];
  /** Where the last record ends. */
  readonly lengthBytes: number;
  /** Whether whole records follow a torn one: impossible unless a disk lost what it had. */
  readonly hasGap: boolean;
}

/**
 * A file of records, one a line, that only grows, until it is replaced as a whole. A record is in the hands of the
 * kernel when `append` returns, so that it survives the death of this process; all records before a `sync` survive
 * power loss when it resolves. Records are never reordered: what is found after a crash is a prefix of what was
 * appended.
 */
export class Journal {
  readonly #path: string;
  #descriptor: number;
  #lengthBytes: number;
  #allocatedBytes: number;
  #failure: FileSystemError | undefined;
  #running: Promise<void> = Promise.resolve();
  #queued: Promise<void> | undefined;

  private constructor(path: string, descriptor: number, lengthBytes: number) {
    this.#path = path;
    this.#descriptor = descriptor;
    this.#lengthBytes = lengthBytes;
    this.#allocatedBytes = fstatSync(descriptor).size;
  }

  /** Rejects with what reading a file rejects with. */
  static async read(path: string): Promise<JournalContent> {
    const bytes = await readFile(path);
    const records: string[] = [];
    let lengthBytes = 0;
    let torn = false;
    for (let start = 0; start < bytes.length;) {
      const newline = bytes.indexOf(0x0a, start);
      if (newline < 0) break;
      const record = openLine(bytes.subarray(start, newline));
      start = newline + 1;
      if (record === undefined) {
        torn = true;
        continue;
      }
      if (torn) return { records, lengthBytes, hasGap: true };
      records.push(record);
      lengthBytes = start;
    }
    return { records, lengthBytes, hasGap: false };
  }

  /** Begins a journal, durably; one that is there is replaced in one step. */
  static begin(path: string, records: Iterable<string>): Journal {
    const { descriptor, lengthBytes } = writeAnew(path, records);
    try {
      fdatasyncSync(descriptor);
      adopt(path);
      return new Journal(path, descriptor, lengthBytes);
    } catch (error) {
      closeSync(descriptor);
      throw localDiskError(error, `writing ${path}`);
    }
  }

  /** Goes on after `lengthBytes`, as `read` found it; what follows there is overwritten, so that its space stays ours. */
  static resume(path: string, lengthBytes: number): Journal {
    try {
      const descriptor = openSync(path, 'r+');
      clearFrom(descriptor, lengthBytes);
      return new Journal(path, descriptor, lengthBytes);
    } catch (error) {
      throw localDiskError(error, `opening ${path}`);
    }
  }

  get lengthBytes(): number {
    return this.#lengthBytes;
  }

  /**
   * Throws, and appends nothing, when the disk is full. `leavingBytes`: of the space that the file has already, so much
   * is left to records that matter more.
   */
  append(record: string, leavingBytes = 0): void {
    if (this.#failure !== undefined) throw this.#failure;
    const line = Buffer.from(sealLine(record));
    const isFull = !this.#reserve(line.length);
    if (isFull && this.#lengthBytes + line.length + leavingBytes > this.#allocatedBytes && leavingBytes > 0) {
      throw new FileSystemError('ENOSPC', `The disk of ${this.#path} is full.`);
    }
    try {
      writeAll(this.#descriptor, line, this.#lengthBytes);
    } catch (error) {
      this.#cutOff(error);
      throw localDiskError(error, `writing ${this.#path}`);
    }
    this.#lengthBytes += line.length;
    this.#allocatedBytes = Math.max(this.#allocatedBytes, this.#lengthBytes);
  }

  /** Resolves when all records appended before the call are durable. Calls at one time share one sync. */
  sync(): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#queued === undefined) {
      // A sync that is under way may have begun before the caller's record.
      this.#queued = this.#running.then(() => {
        this.#queued = undefined;
        return this.#syncNow();
      });
      this.#running = this.#queued.catch(() => undefined);
    }
    return this.#queued;
  }

  /**
   * Replaces all records before byte `keptFrom` of this journal by others, in one step that is durable when this
   * resolves: a crash at any time leaves the journal as it was before or after. Appending goes on meanwhile.
   */
  async replace(records: Iterable<string>, keptFrom: number): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    const next = writeAnew(this.#path, records);
    let directory: number | undefined;
    const previous = this.#descriptor;
    let copied = keptFrom;
    const copy = (): void => {
      next.lengthBytes += copyBytes(previous, copied, this.#lengthBytes, next.descriptor, next.lengthBytes);
      copied = this.#lengthBytes;
    };
    try {
      // Now, since nothing may fail for want of a descriptor after the renaming.
      directory = openDirectoryOf(this.#path);
      copy();
      await fdatasyncLater(next.descriptor);
      // From here on nothing may come in between: little is left to copy and to sync.
      copy();
      fdatasyncSync(next.descriptor);
      renameSync(newPath(this.#path), this.#path);
    } catch (error) {
      closeSync(next.descriptor);
      rmSync(newPath(this.#path), { force: true });
      if (directory !== undefined) closeSync(directory);
      throw localDiskError(error, `replacing ${this.#path}`);
    }
    this.#descriptor = next.descriptor;
    this.#lengthBytes = this.#allocatedBytes = next.lengthBytes;
    void this.#running.then(() => closeSync(previous));
    try {
      fsyncSync(directory);
    } catch (error) {
      // Which of the two journals a power loss leaves is not known any more.
      this.#failure = localDiskError(error, `replacing ${this.#path}`);
      throw this.#failure;
    } finally {
      closeSync(directory);
    }
  }

  /** Waits for syncs that are under way. Nothing can be appended afterwards. */
  async close(): Promise<void> {
    this.#failure ??= new FileSystemError('EIO', 'The overlay is closed.');
    await this.#running;
    if (this.#descriptor < 0) return;
    closeSync(this.#descriptor);
    this.#descriptor = -1;
  }

  async #syncNow(): Promise<void> {
    try {
      await fdatasyncLater(this.#descriptor);
    } catch (error) {
      // The kernel forgets which pages it could not write: a later success would mean nothing.
      this.#failure = localDiskError(error, `syncing ${this.#path}`);
      throw this.#failure;
    }
  }

  /** Answers whether there is room to spare. */
  #reserve(lengthBytes: number): boolean {
    const neededBytes = this.#lengthBytes + lengthBytes + spareBytes;
    if (neededBytes <= this.#allocatedBytes) return true;
    try {
      this.#allocatedBytes += writeSync(this.#descriptor, growth, 0, growthBytes, this.#allocatedBytes);
    } catch {
      // The disk is full: the record may still fit into what is there. If not, its own write says so.
    }
    return neededBytes <= this.#allocatedBytes;
  }

  /** A record that was written in part must not be found later behind a shorter one. */
  #cutOff(cause: unknown): void {
    try {
      ftruncateSync(this.#descriptor, this.#lengthBytes);
      this.#allocatedBytes = this.#lengthBytes;
    } catch {
      this.#failure = localDiskError(cause, `writing ${this.#path}`);
    }
  }
}

function sealLine(record: string): string {
  return `${crc32(record).toString(16).padStart(checksumDigits, '0')} ${record}\n`;
}

function openLine(line: Buffer): string | undefined {
  const record = line.subarray(checksumDigits + 1);
  const stated = line.toString('latin1', 0, checksumDigits + 1);
  if (stated !== `${crc32(record).toString(16).padStart(checksumDigits, '0')} `) return undefined;
  return record.toString('utf8');
}

function newPath(path: string): string {
  return `${path}.new`;
}

function writeAnew(path: string, records: Iterable<string>): { descriptor: number; lengthBytes: number } {
  const descriptor = openSync(newPath(path), 'w+', 0o600);
  try {
    let lengthBytes = 0;
    let batch = '';
    const flush = (): void => {
      const bytes = Buffer.from(batch);
      writeAll(descriptor, bytes, lengthBytes);
      lengthBytes += bytes.length;
      batch = '';
    };
    for (const record of records) {
      batch += sealLine(record);
      if (batch.length >= batchCharacters) flush();
    }
    flush();
    return { descriptor, lengthBytes };
  } catch (error) {
    closeSync(descriptor);
    rmSync(newPath(path), { force: true });
    throw localDiskError(error, `writing ${path}`);
  }
}

/** A record that was torn there must not be found later behind a shorter one. Zeros are no record. */
function clearFrom(descriptor: number, lengthBytes: number): void {
  const { size } = fstatSync(descriptor);
  if (size > lengthBytes + growthBytes + spareBytes) ftruncateSync(descriptor, lengthBytes);
  else if (size > lengthBytes) writeAll(descriptor, Buffer.alloc(size - lengthBytes), lengthBytes);
}

function adopt(path: string): void {
  renameSync(newPath(path), path);
  syncDirectoryOf(path);
}

function openDirectoryOf(path: string): number {
  return openSync(dirname(path), 'r');
}

function syncDirectoryOf(path: string): void {
  const directory = openDirectoryOf(path);
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

function writeAll(descriptor: number, bytes: Buffer, position: number): void {
  for (let done = 0; done < bytes.length;) {
    done += writeSync(descriptor, bytes, done, bytes.length - done, position + done);
  }
}

function copyBytes(from: number, start: number, end: number, to: number, position: number): number {
  const bytes = Buffer.allocUnsafe(end - start);
  for (let done = 0; done < bytes.length;) {
    const count = readSync(from, bytes, done, bytes.length - done, start + done);
    if (count === 0) throw new Error('the journal is shorter than what was appended');
    done += count;
  }
  writeAll(to, bytes, position);
  return bytes.length;
}
