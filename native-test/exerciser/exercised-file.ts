import { closeSync, constants, openSync, readSync } from 'node:fs';
import { FileModel } from './file-model.js';
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
  /** A mapping may have changed pages that the file system has not seen. */
  hasDirtyPages = false;
  readonly #sizeBytesMax: number;
  #fd: number | undefined;
  #directFd: number | undefined;
  #shared: MappedMemory | undefined;
  #private: MappedMemory | undefined;
  /** Open for reading only, as is its mapping: both may stay while a version is published. */
  #readerFd: number | undefined;
  #readerMap: MappedMemory | undefined;

  constructor(index: number, path: string, sizeBytesMax: number) {
    this.index = index;
    this.path = path;
    this.#sizeBytesMax = sizeBytesMax;
    this.model = new FileModel(sizeBytesMax);
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
        return into.subarray(0, readSync(this.fd, into, 0, lengthBytes, offsetBytes));
      case 'direct':
        return into.subarray(0, readSync(this.directFd, into, 0, lengthBytes, offsetBytes));
      case 'reader':
        return into.subarray(0, readSync(this.readerFd, into, 0, lengthBytes, offsetBytes));
      case 'readerMap':
        return this.readerMap.bytes.subarray(offsetBytes, offsetBytes + lengthBytes);
      case 'shared':
        return this.shared.bytes.subarray(offsetBytes, offsetBytes + lengthBytes);
      case 'private':
        return this.private.bytes.subarray(offsetBytes, offsetBytes + lengthBytes);
    }
  }

  /** What mappings have changed reaches the file system. */
  writeBack(): void {
    if (!this.hasDirtyPages) return;
    writeBackFile(this.fd);
    this.hasDirtyPages = false;
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
    this.hasDirtyPages = false;
  }

  letGo(): void {
    this.stopWriting();
    this.#readerMap?.unmap();
    this.#readerMap = undefined;
    if (this.#readerFd !== undefined) closeSync(this.#readerFd);
    this.#readerFd = undefined;
  }

  unmap(): void {
    this.#shared?.unmap();
    this.#private?.unmap();
    this.#shared = undefined;
    this.#private = undefined;
  }

  /** Mappings outlive descriptors. */
  close(): void {
    for (const fd of [this.#fd, this.#directFd]) if (fd !== undefined) closeSync(fd);
    this.#fd = undefined;
    this.#directFd = undefined;
  }
}
