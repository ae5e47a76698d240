import {
  windowBytes,
  windowPages,
  type EntryOwner,
  type LocalReadTable,
  type WindowState,
} from '../resident/index.js';
import type { FileContent } from './file-content.js';

/** After a window that was read, as many more are entered: a sequential reader then meets them in the table. */
const windowsAhead = 31;

/** A change of more windows than this takes them out of the table; they come back when they are read. */
const windowsRewrittenMax = 8;

/** The windows of one file that are in the table. */
export class FileWindows implements EntryOwner {
  readonly #table: LocalReadTable;
  readonly #inode: number;
  readonly #content: FileContent;
  readonly #entered = new Set<number>();

  constructor(table: LocalReadTable, inode: number, content: FileContent) {
    this.#table = table;
    this.#inode = inode;
    this.#content = content;
  }

  /** The range was read: other threads are to answer the next such read. */
  enterRead(offsetBytes: number, lengthBytes: number): void {
    const first = Math.floor(offsetBytes / windowBytes);
    const last = Math.floor((offsetBytes + lengthBytes - 1) / windowBytes);
    const isNew = !this.#entered.has(first);
    for (let window = first; window <= last; window += 1) this.#enter(window);
    if (!isNew) return;
    const end = Math.min(last + 1 + windowsAhead, Math.ceil(this.#content.sizeBytes / windowBytes));
    for (let window = last + 1; window < end; window += 1) {
      if (!this.#entered.has(window)) this.#enter(window);
    }
  }

  /** Pages were stored or the file has grown, and nobody was told yet. */
  changed(firstPage: number, pageCount: number): void {
    if (this.#entered.size === 0 || pageCount === 0) return;
    const first = Math.floor(firstPage / windowPages);
    const last = Math.floor((firstPage + pageCount - 1) / windowPages);
    if (last - first >= windowsRewrittenMax) {
      this.withdrawFrom(first);
      return;
    }
    for (let window = first; window <= last; window += 1) {
      if (this.#entered.has(window)) this.#enter(window);
    }
  }

  /** The file is about to end elsewhere, or does so already and nobody was told. The last window that stays tells a length, too. */
  resized(fromBytes: number, toBytes: number): void {
    if (toBytes < fromBytes) {
      this.withdrawFrom(Math.floor(toBytes / windowBytes));
      return;
    }
    const last = Math.floor(fromBytes / windowBytes);
    if (this.#entered.has(last)) this.#withdraw(last);
  }

  /** Data of a window, or of one after it, is about to go. */
  withdrawFrom(firstWindow: number): void {
    for (const window of this.#entered) {
      if (window >= firstWindow) this.#withdraw(window);
    }
  }

  displaced(window: number): void {
    this.#entered.delete(window);
  }

  #enter(window: number): void {
    const state = this.#describe(window);
    if (state === undefined) {
      if (this.#entered.has(window)) this.#withdraw(window);
      return;
    }
    this.#entered.add(window);
    this.#table.enter(this, this.#inode, window, state);
  }

  #withdraw(window: number): void {
    this.#entered.delete(window);
    this.#table.withdraw(this.#inode, window);
  }

  /** Undefined where other threads could answer nothing. */
  #describe(window: number): WindowState | undefined {
    const content = this.#content;
    const start = window * windowBytes;
    const pages = content.pages.word(window);
    const baseBytes = within(content.baseLimitBytes - start);
    const base = baseBytes === 0 ? undefined : content.residentBase(start, windowBytes);
    if (pages === 0 && baseBytes > 0 && base === undefined) return undefined;
    const descriptor = pages === 0 ? -1 : content.data.sharedDescriptor();
    if (pages !== 0 && descriptor < 0) return undefined;
    return { pages, descriptor, lengthBytes: within(content.sizeBytes - start), baseBytes, base };
  }
}

function within(bytes: number): number {
  return Math.min(Math.max(bytes, 0), windowBytes);
}
