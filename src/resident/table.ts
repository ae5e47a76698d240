import type { ChunkPlace, SharedChunkCells } from './chunk-cells.js';

/**
 * What threads need to answer reads of local data in place. One thread, the file system's, writes the table; any number
 * reads it.
 *
 * A file is seen as windows of 32 pages. An entry of the table tells all there is to know about one window: which pages
 * lie in which data file of the overlay, and where the base's bytes are in memory. Entries are a cache: what is not in
 * the table, the file system's thread answers, and enters.
 *
 * Each entry has a sequence number, odd while the entry is being written. A reader takes the entry down, gathers the
 * bytes, and then asks whether the number is still the one that it began with. If not, it has gathered nothing of worth,
 * and hands the request to the file system's thread. The writer changes an entry
 *
 * - after data was stored and before the write is acknowledged, so that who knows of a write reads what it wrote;
 * - before data is destroyed (a descriptor closed, a file truncated, an overlay emptied), so that whoever gathered some of what
 *   followed finds the number changed.
 *
 * All members are read and written with `Atomics`, which no processor and no compiler reorders among each other. The bytes
 * themselves are not: those of the data file come by a system call, for those of the base see `isStillThere`.
 */
export interface SharedLocalReads {
  /** `entryWords` 32-bit numbers for each entry. */
  readonly entries: SharedArrayBuffer;
  readonly chunks: SharedChunkCells;
}

export const windowPages = 32;
export const windowBytes = windowPages * 4096;

/** A cache line an entry. */
export const entryWords = 16;

/** Places of an entry's members. Numbers beyond 32 bits have a low and a high half. */
export const member = {
  sequence: 0,
  inodeLow: 1,
  inodeHigh: 2,
  windowLow: 3,
  windowHigh: 4,
  /** Bit n: page n of the window lies in the data file, at its own offset. */
  pages: 5,
  descriptor: 6,
  /** Bytes of the window up to the end of the file. */
  lengthBytes: 7,
  /** Bytes of the window up to where the base is seen; zeros follow. */
  baseBytes: 8,
  /** One of `baseKind`. */
  base: 9,
  cell: 10,
  cellSequence: 11,
  /** Where in its cell the window starts. */
  cellOffset: 12,
} as const;

export const baseKind = { absent: 0, zero: 1, cell: 2 } as const;

/** What an entry says of a window. */
export interface WindowState {
  readonly pages: number;
  /** -1 if no page is in the data file. */
  readonly descriptor: number;
  readonly lengthBytes: number;
  readonly baseBytes: number;
  readonly base: 'zero' | (ChunkPlace & { readonly offsetBytes: number }) | undefined;
}

/** Where the entry of a window would be: neighbours in a file are neighbours in the table. */
export function entryIndex(entries: number, inode: number, window: number): number {
  return (Math.imul(inode, 0x9e37_79b1) + window) & (entries - 1);
}

export const lowHalf = (number: number): number => number | 0;
export const highHalf = (number: number): number => Math.floor(number / 2 ** 32);

/** Told that an entry went to somebody else. */
export interface EntryOwner {
  displaced(window: number): void;
}

/** The writing side. */
export class LocalReadTable {
  readonly shared: SharedLocalReads;
  readonly #words: Int32Array;
  readonly #count: number;
  readonly #owners: ({ readonly owner: EntryOwner; readonly window: number } | undefined)[];

  /** `entries`: a power of two. */
  constructor(entries: number, chunks: SharedChunkCells) {
    this.#count = entries;
    this.shared = { entries: new SharedArrayBuffer(entries * entryWords * 4), chunks };
    this.#words = new Int32Array(this.shared.entries);
    this.#owners = new Array<undefined>(entries).fill(undefined);
  }

  /** Enters a window, in place of whatever was there. */
  enter(owner: EntryOwner, inode: number, window: number, state: WindowState): void {
    const index = entryIndex(this.#count, inode, window);
    const before = this.#owners[index];
    if (before?.owner !== owner || before.window !== window) {
      before?.owner.displaced(before.window);
      this.#owners[index] = { owner, window };
    }
    const { base } = state;
    const at = index * entryWords;
    const put = (place: number, value: number): void => {
      Atomics.store(this.#words, at + place, value);
    };
    Atomics.add(this.#words, at + member.sequence, 1);
    put(member.inodeLow, lowHalf(inode));
    put(member.inodeHigh, highHalf(inode));
    put(member.windowLow, lowHalf(window));
    put(member.windowHigh, highHalf(window));
    put(member.pages, state.pages);
    put(member.descriptor, state.descriptor);
    put(member.lengthBytes, state.lengthBytes);
    put(member.baseBytes, state.baseBytes);
    if (base === undefined || base === 'zero') {
      put(member.base, base === undefined ? baseKind.absent : baseKind.zero);
    } else {
      put(member.base, baseKind.cell);
      put(member.cell, base.cell);
      put(member.cellSequence, base.sequence);
      put(member.cellOffset, base.offsetBytes);
    }
    Atomics.add(this.#words, at + member.sequence, 1);
  }

  /** Takes a window out that `owner` has entered and was not told to have lost. */
  withdraw(inode: number, window: number): void {
    const index = entryIndex(this.#count, inode, window);
    this.#owners[index] = undefined;
    const at = index * entryWords;
    Atomics.add(this.#words, at + member.sequence, 1);
    // No inode has this number.
    Atomics.store(this.#words, at + member.inodeLow, 0);
    Atomics.store(this.#words, at + member.inodeHigh, 0);
    Atomics.add(this.#words, at + member.sequence, 1);
  }
}
