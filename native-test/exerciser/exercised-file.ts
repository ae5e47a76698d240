import { closeSync, constants, openSync, readSync } from 'node:fs';
import { FileModel } from './file-model.js';
import { directAccess, type MappedAccess } from './mapped-access.js';
import { Remains } from './remains.js';
import { MappedMemory, writeBackFile } from './system-calls.js';

/** How a program may look at a file. */
export const waysToRead = ['read', 'shared', 'private', 'direct', 'reader', 'readerMap'] as const;
const mappedWays: ReadonlySet<WayToRead> = new Set(['shared', 'private', 'readerMap']);
export type WayToRead = (typeof waysToRead)[number];

/** Whether a way shows zeros after the end of the file, up to the end of its last page. */
export function isMapped(way: WayToRead): boolean {
  return mappedWays.has(way);
}

/** One file under test, its model, and what a program has open of it. */
export class ExercisedFile {
  readonly index: number;
  readonly path: string;
  readonly model: FileModel;
  readonly access: MappedAccess;
  /** What a loss of the mount may leave of it; where there may be one. */
  readonly remains: Remains | undefined;
  /** A mapping may have changed pages that the file system has not seen. */
  #hasDirtyPages = false;
  readonly #sizeBytesMax: number;
  #fd: number | undefined;
  #directFd: number | undefined;
  #shared: MappedMemory | undefined;
  #private: MappedMemory | undefined;
  /** Open for reading only, as is its mapping: both may stay while a version is published. */
  #readerFd: number | undefined;
  #readerMap: MappedMemory | undefined;

  /** `surviving`: how it is to be touched where its mount may be lost. */
  constructor(index: number, path: string, sizeBytesMax: number, surviving?: MappedAccess) {
    this.index = index;
    this.path = path;
    this.#sizeBytesMax = sizeBytesMax;
    this.model = new FileModel(sizeBytesMax);
    this.access = surviving ?? directAccess;
    this.remains = surviving === undefined ? undefined : new Remains(this.model);
  }

  get fd(): number {
    this.#fd ??= openSync(this.path, constants.O_RDWR | constants.O_CREAT, 0o644);
    return this.#fd;
  }

  get directFd(): number {
    this.#directFd ??= openSync(this.path, constants.O_RDWR | constants.O_DIRECT);
    return this.#directFd;
  }

  /** All that the file could become, of which only what lies before its end may be touched, up to the end of its page. */
  get shared(): MappedMemory {
    this.#shared ??= MappedMemory.shared(this.fd, this.#sizeBytesMax);
    return this.#shared;
  }

  get private(): MappedMemory {
    this.#private ??= MappedMemory.private(this.fd, this.#sizeBytesMax);
    return this.#private;
  }

  get readerFd(): number {
    this.#readerFd ??= openSync(this.path, constants.O_RDONLY);
    return this.#readerFd;
  }

  get readerMap(): MappedMemory {
    this.#readerMap ??= MappedMemory.sharedReadOnly(this.readerFd, this.#sizeBytesMax);
    return this.#readerMap;
  }

  /** The bytes of a range that ends before the file does, or in a mapping before the last page does. */
  read(how: WayToRead, offsetBytes: number, lengthBytes: number, into: Buffer): Buffer {
    switch (how) {
      case 'read':
        return readFully(this.fd, offsetBytes, into.subarray(0, lengthBytes));
      case 'direct':
        return readFully(this.directFd, offsetBytes, into.subarray(0, lengthBytes));
      case 'reader':
        return readFully(this.readerFd, offsetBytes, into.subarray(0, lengthBytes));
      case 'readerMap':
        return this.access.read(this.readerMap.bytes, offsetBytes, lengthBytes, into);
      case 'shared':
        return this.access.read(this.shared.bytes, offsetBytes, lengthBytes, into);
      case 'private':
        return this.access.read(this.private.bytes, offsetBytes, lengthBytes, into);
    }
  }

  /** Through the shared mapping. */
  writeMapped(offsetBytes: number, data: Uint8Array): void {
    const { bytes } = this.shared;
    this.#hasDirtyPages = true;
    this.access.write(bytes, offsetBytes, data);
  }

  /** What mappings have changed reaches the file system. */
  writeBack(): void {
    if (!this.#hasDirtyPages) return;
    writeBackFile(this.fd);
    // Where the mount is lost, the kernel drops what it cannot write, and says nothing.
    this.access.requireMounted(this.path);
    this.wroteBack();
  }

  /** What mappings have changed has reached the file system. */
  wroteBack(): void {
    this.#hasDirtyPages = false;
    this.remains?.writtenBack();
  }

  /** So that the kernel may drop the file's pages. */
  forgetPages(): void {
    this.#shared?.forgetPages();
    this.#private?.forgetPages();
    this.#readerMap?.forgetPages();
  }

  /** Opens and maps what is not: it may lose its name then. */
  hold(): readonly MappedMemory[] {
    return [this.shared, this.private];
  }

  /** Whoever writes it lets go of it; whoever reads it goes on. */
  stopWriting(): void {
    this.unmap();
    this.close();
  }

  letGo(): void {
    this.stopWriting();
    this.#readerMap?.unmap();
    this.#readerMap = undefined;
    const readerFd = this.#readerFd;
    this.#readerFd = undefined;
    if (readerFd !== undefined) closeSync(readerFd);
  }

  unmap(): void {
    const wrote = this.#shared !== undefined;
    this.#shared?.unmap();
    this.#private?.unmap();
    this.#shared = undefined;
    this.#private = undefined;
    if (!wrote) return;
    this.access.requireMounted(this.path);
    this.wroteBack();
  }

  /** Mappings outlive descriptors. */
  close(): void {
    const [fd, directFd] = [this.#fd, this.#directFd];
    this.#fd = this.#directFd = undefined;
    try {
      if (fd !== undefined) {
        closeSync(fd);
        this.wroteBack();
      }
    } finally {
      if (directFd !== undefined) closeSync(directFd);
    }
  }

  /** Lets go of a mount that is lost: nothing of it says any more what the file holds. */
  abandon(): void {
    for (const memory of [this.#shared, this.#private, this.#readerMap]) memory?.unmap();
    for (const fd of [this.#fd, this.#directFd, this.#readerFd]) if (fd !== undefined) closeLost(fd);
    this.#shared = this.#private = this.#readerMap = undefined;
    this.#fd = this.#directFd = this.#readerFd = undefined;
    this.#hasDirtyPages = false;
  }
}

/** As much as there is: less than the file has only where a read fails, and then the next one says why. */
function readFully(fd: number, offsetBytes: number, into: Buffer): Buffer {
  let done = 0;
  while (done < into.length) {
    const count = readSync(fd, into, done, into.length - done, offsetBytes + done);
    if (count === 0) break;
    done += count;
  }
  return into.subarray(0, done);
}

function closeLost(fd: number): void {
  try {
    closeSync(fd);
  } catch {
    // It is closed; that nothing of it could be written was known.
  }
}
