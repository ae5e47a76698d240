import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { localDiskError } from './errors.js';
import type { HandleId, RequestId } from './types.js';

/** What is remembered of an open file. */
export interface OpenFileEntry {
  readonly handle: HandleId;
  readonly inode: number;
  /** As of open(2). */
  readonly flags: number;
  /** The request that opened it, where the engine said which. */
  readonly request: RequestId | undefined;
}

/** Handle, inode, flags, request; exact numbers all. A page holds whole slots, so that none is ever written in part. */
const numbersPerSlot = 4;
const slotBytes = numbersPerSlot * Float64Array.BYTES_PER_ELEMENT;

/** The file grows by this many slots: a full disk must not keep programs from opening files to read. */
const slotsPerGrowth = 2048;

const free = 0;

/**
 * The files that are open through a mount, in a file: if the process dies and the mount does not, the next one knows
 * what the kernel's handles mean, which unlinked files still live, and who may write. So are inodes that have lost their last
 * name and that the kernel still knows: their slot has the number, negative, in place of a handle. It needs to survive the
 * process only, not the host: a mount does neither.
 */
export class OpenFileTable {
  /** What was open when the table was opened. */
  readonly found: readonly OpenFileEntry[];
  /** Inodes that had no name and were known to the kernel. */
  readonly foundNameless: readonly number[];
  readonly #path: string;
  readonly #fd: number;
  readonly #slots = new Map<HandleId, number>();
  readonly #free: number[] = [];
  readonly #slot = new Float64Array(numbersPerSlot);
  #slotCount = 0;

  /** `goesOn`: the mount that the table was written for is still there. @throws FileSystemError for the local disk */
  constructor(path: string, goesOn: boolean) {
    this.#path = path;
    const truncate = goesOn ? 0 : constants.O_TRUNC;
    try {
      this.#fd = openSync(path, constants.O_RDWR | constants.O_CREAT | truncate, 0o600);
    } catch (error) {
      throw localDiskError(error, `opening ${path}`);
    }
    try {
      const found = this.#read();
      this.found = found.filter(({ handle }) => handle > 0);
      this.foundNameless = found.flatMap(({ handle, inode }) => (handle > 0 ? [] : [inode]));
      if (this.#slotCount === 0) this.#grow();
    } catch (error) {
      closeSync(this.#fd);
      throw localDiskError(error, `reading ${path}`);
    }
  }

  /** @throws FileSystemError `ENOSPC`, and nothing is remembered */
  add({ handle, inode, flags, request }: OpenFileEntry): void {
    try {
      if (this.#free.length === 0) this.#grow();
      const slot = this.#free[this.#free.length - 1] ?? 0;
      this.#slot.set([handle, inode, flags, request ?? free]);
      this.#write(slot);
      this.#free.pop();
      this.#slots.set(handle, slot);
    } catch (error) {
      throw localDiskError(error, `writing ${this.#path}`);
    }
  }

  remove(handle: HandleId): void {
    const slot = this.#slots.get(handle);
    if (slot === undefined) return;
    this.#slots.delete(handle);
    this.#free.push(slot);
    this.#slot.fill(free);
    this.#write(slot);
  }

  /** An inode that the kernel knows is about to lose its last name. @throws FileSystemError */
  addNameless(inode: number): void {
    const handle = namelessHandle(inode);
    if (!this.#slots.has(handle)) this.add({ handle, inode, flags: 0, request: undefined });
  }

  /** The kernel has forgotten an inode. */
  removeNameless(inode: number): void {
    this.remove(namelessHandle(inode));
  }

  close(): void {
    closeSync(this.#fd);
  }

  #write(slot: number): void {
    writeSync(this.#fd, this.#slot, 0, slotBytes, slot * slotBytes);
  }

  #grow(): void {
    const zeros = Buffer.alloc(slotsPerGrowth * slotBytes);
    const written = writeSync(this.#fd, zeros, 0, zeros.length, this.#slotCount * slotBytes);
    const until = this.#slotCount + Math.floor(written / slotBytes);
    for (let slot = until - 1; slot >= this.#slotCount; slot--) this.#free.push(slot);
    this.#slotCount = until;
  }

  #read(): OpenFileEntry[] {
    const slots = new Float64Array(Math.floor(fstatSync(this.#fd).size / slotBytes) * numbersPerSlot);
    for (let done = 0; done < slots.byteLength;) {
      const bytes = readSync(this.#fd, slots, done, slots.byteLength - done, done);
      if (bytes === 0) break;
      done += bytes;
    }
    const found: OpenFileEntry[] = [];
    this.#slotCount = slots.length / numbersPerSlot;
    for (let slot = this.#slotCount - 1; slot >= 0; slot--) {
      const [handle = free, inode = 0, flags = 0, request = free] = slots.subarray(
        slot * numbersPerSlot,
        (slot + 1) * numbersPerSlot,
      );
      if (handle === free) {
        this.#free.push(slot);
        continue;
      }
      this.#slots.set(handle as HandleId, slot);
      found.push({
        handle: handle as HandleId,
        inode,
        flags,
        request: request === free ? undefined : (request as RequestId),
      });
    }
    return found;
  }
}

function namelessHandle(inode: number): HandleId {
  return -inode as HandleId;
}
