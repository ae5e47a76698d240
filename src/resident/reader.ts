import { readSync } from 'node:fs';
import { isStillThere } from './chunk-cells.js';
import { baseKind, entryIndex, entryWords, highHalf, lowHalf, member, windowBytes } from './table.js';
import type { SharedLocalReads } from './table.js';

const pageBytes = 4096;

/** The table does not say enough: the file system must answer. */
export const unknownLocally = -1;

/** The reading side: answers reads of local data on any thread, as the table says. */
export class LocalReader {
  readonly #words: Int32Array;
  readonly #count: number;
  readonly #cells: Uint8Array;
  readonly #cellBytes: number;
  readonly #cellSequences: Int32Array;
  /** An entry as it was taken down. */
  readonly #entry = new Int32Array(entryWords);

  constructor(shared: SharedLocalReads) {
    this.#words = new Int32Array(shared.entries);
    this.#count = this.#words.length / entryWords;
    this.#cells = new Uint8Array(shared.chunks.cells);
    this.#cellBytes = shared.chunks.cellBytes;
    this.#cellSequences = new Int32Array(shared.chunks.sequences);
  }

  /**
   * Fills `into` from `offsetBytes` of a file, as `FileSystem.read`: the number of bytes, short only at the end of the file.
   * `unknownLocally`, and anything in `into`, unless all of it is local and known here.
   */
  read(inode: number, offsetBytes: number, into: Uint8Array): number {
    for (let done = 0; done < into.length;) {
      const at = offsetBytes + done;
      const window = Math.floor(at / windowBytes);
      const start = at - window * windowBytes;
      const wanted = Math.min(windowBytes - start, into.length - done);
      const found = this.#readWindow(inode, window, start, into.subarray(done, done + wanted));
      if (found === unknownLocally) return unknownLocally;
      done += found;
      if (found < wanted) return done;
    }
    return into.length;
  }

  #readWindow(inode: number, window: number, start: number, into: Uint8Array): number {
    const at = entryIndex(this.#count, inode, window) * entryWords;
    const entry = this.#entry;
    for (let place = 0; place < entryWords; place += 1) entry[place] = Atomics.load(this.#words, at + place);
    const sequence = entry[member.sequence] as number;
    const isOurs =
      (sequence & 1) === 0 &&
      entry[member.inodeLow] === lowHalf(inode) &&
      entry[member.inodeHigh] === highHalf(inode) &&
      entry[member.windowLow] === lowHalf(window) &&
      entry[member.windowHigh] === highHalf(window);
    if (!isOurs) return unknownLocally;
    const length = Math.min(Math.max((entry[member.lengthBytes] as number) - start, 0), into.length);
    if (!this.#gather(window, start, length === into.length ? into : into.subarray(0, length)))
      return unknownLocally;
    // Writes what is there: a mere load might overtake the copying that it is to prove right.
    const isValid = Atomics.compareExchange(this.#words, at, sequence, sequence) === sequence;
    return isValid ? length : unknownLocally;
  }

  /** Fills `into` from the data file and from the base, run by run. */
  #gather(window: number, start: number, into: Uint8Array): boolean {
    const pages = this.#entry[member.pages] as number;
    const end = start + into.length;
    for (let from = start; from < end;) {
      const page = Math.floor(from / pageBytes);
      const present = ((pages >>> page) & 1) === 1;
      let runEnd = page + 1;
      while (runEnd * pageBytes < end && (((pages >>> runEnd) & 1) === 1) === present) runEnd += 1;
      const to = Math.min(runEnd * pageBytes, end);
      const piece = into.subarray(from - start, to - start);
      const filled = present
        ? this.#readDataFile(window * windowBytes + from, piece)
        : this.#readBase(from, piece);
      if (!filled) return false;
      from = to;
    }
    return true;
  }

  /** A descriptor that was closed meanwhile may fail, or belong to another file: then the entry has changed. */
  #readDataFile(offsetBytes: number, into: Uint8Array): boolean {
    try {
      const descriptor = this.#entry[member.descriptor] as number;
      return readSync(descriptor, into, 0, into.length, offsetBytes) === into.length;
    } catch {
      return false;
    }
  }

  #readBase(start: number, into: Uint8Array): boolean {
    const entry = this.#entry;
    const visible = Math.min(Math.max((entry[member.baseBytes] as number) - start, 0), into.length);
    into.fill(0, visible);
    if (visible === 0) return true;
    switch (entry[member.base]) {
      case baseKind.zero:
        into.fill(0, 0, visible);
        return true;
      case baseKind.cell: {
        const cell = entry[member.cell] as number;
        const sequence = entry[member.cellSequence] as number;
        const from = cell * this.#cellBytes + (entry[member.cellOffset] as number) + start;
        into.set(this.#cells.subarray(from, from + visible));
        return isStillThere(this.#cellSequences, { cell, sequence });
      }
      default:
        return false;
    }
  }
}
