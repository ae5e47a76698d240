import type { BaseFile, FetchOptions } from '../fetch/index.js';
import type { FileMap } from '../repo/index.js';
import type { ChunkPlace, LocalReadTable } from '../resident/index.js';
import type { DataFile } from './data-file.js';
import { FileWindows } from './file-windows.js';
import { PageBitmap, pageBytes } from './page-bitmap.js';

const zeroPage = Buffer.alloc(pageBytes);

/** Room for the base's bytes of the pages that a write covers in part: its first, and its last if that is another. */
export interface PageEdges {
  readonly head: Uint8Array;
  readonly tail: Uint8Array;
}

export function newPageEdges(): PageEdges {
  return { head: Buffer.allocUnsafe(pageBytes), tail: Buffer.allocUnsafe(pageBytes) };
}

/** Pages to be marked as present once their data is stored; may be empty. */
export interface StoredRange {
  readonly first: number;
  readonly count: number;
}

/**
 * The content of one regular file: pages of the overlay over the base version's file.
 *
 * - A page that is present is wholly in the data file, zeros after the end of the file included.
 * - A page that is not is the base's up to `baseLimitBytes`, zeros after it.
 *
 * `store…` puts data into the data file and nothing else; the pages count when `markWritten` is told, after the
 * journal was: data first, then the bit.
 */
export class FileContent {
  readonly pages = new PageBitmap();
  readonly data: DataFile;
  sizeBytes: number;
  /** Bytes of the base from here on are never seen: the file was shorter once. */
  baseLimitBytes: number;
  /** Grows when the base is replaced: bytes of the old one must not be merged into pages any more. */
  generation = 0;
  /** Grows with every change of the data file. */
  stores = 0;
  /** The number of the last record that said of pages or of the size; -1 when there was none. */
  recordedAt = -1;
  /** Records below count after power loss: their data was synced, and a record says so. */
  believedBelow = 0;
  readonly #openFile: (map: FileMap) => BaseFile;
  #map: FileMap | undefined;
  #base: BaseFile | undefined;
  /** What other threads know of the content. */
  #windows: FileWindows | undefined;

  constructor(options: {
    readonly data: DataFile;
    readonly openFile: (map: FileMap) => BaseFile;
    readonly map: FileMap | undefined;
    readonly sizeBytes: number;
    readonly baseLimitBytes: number;
  }) {
    this.data = options.data;
    this.#openFile = options.openFile;
    this.#map = options.map;
    this.sizeBytes = options.sizeBytes;
    this.baseLimitBytes = options.baseLimitBytes;
  }

  get baseMap(): FileMap | undefined {
    return this.#map;
  }

  /** Whether the base can have anything but zeros. */
  get baseHasData(): boolean {
    return this.#map !== undefined && this.#map.root !== 'zero';
  }

  /** The base version's file. Only where there is one. */
  base(): BaseFile {
    if (this.#base === undefined) {
      if (this.#map === undefined) throw new Error('a new file has no base');
      this.#base = this.#openFile(this.#map);
    }
    return this.#base;
  }

  /**
   * Fills `into` if everything needed is in the overlay or in memory, and says whether it did; `into` is
   * unspecified otherwise. The range ends at or before the end of the file.
   */
  readNow(offsetBytes: number, into: Uint8Array): boolean {
    if (this.pages.count === 0) return this.#readBaseNow(offsetBytes, into);
    const endBytes = offsetBytes + into.length;
    const endPage = Math.ceil(endBytes / pageBytes);
    for (let at = offsetBytes; at < endBytes;) {
      const page = Math.floor(at / pageBytes);
      const to = Math.min(this.pages.runEnd(page, endPage) * pageBytes, endBytes);
      const piece = to - at === into.length ? into : into.subarray(at - offsetBytes, to - offsetBytes);
      if (this.pages.has(page)) this.data.read(at, piece);
      else if (!this.#readBaseNow(at, piece)) return false;
      at = to;
    }
    return true;
  }

  /** As `readNow`, waiting for what is not in memory. Pages of the overlay are as they are now. */
  async readLater(offsetBytes: number, into: Uint8Array, options: FetchOptions): Promise<void> {
    const missing: { readonly at: number; readonly piece: Uint8Array }[] = [];
    this.#forEachRun(offsetBytes, into.length, (at, lengthBytes, present) => {
      const piece = into.subarray(at - offsetBytes, at - offsetBytes + lengthBytes);
      if (present) this.data.read(at, piece);
      else if (!this.#readBaseNow(at, piece)) {
        missing.push({ at, piece: piece.subarray(0, this.#visibleBytes(at, lengthBytes)) });
      }
    });
    const base = this.base();
    await Promise.all(missing.map(({ at, piece }) => base.read(at, piece, options)));
  }

  /** Makes what the base may show of a range local, before anybody wants it. */
  async fetchBase(offsetBytes: number, lengthBytes: number): Promise<void> {
    const visible = this.#visibleBytes(offsetBytes, lengthBytes);
    if (visible > 0) await this.base().warm(offsetBytes, visible, { fetchClass: 'around' });
  }

  /** Whether reading the range needs no store, nor the opening of more sealed bytes in one run of the base's pages. */
  isLocal(offsetBytes: number, lengthBytes: number, openBytesMax: number): boolean {
    let local = true;
    this.#forEachRun(offsetBytes, lengthBytes, (at, runBytes, present) => {
      const visible = present ? 0 : this.#visibleBytes(at, runBytes);
      if (local && visible > 0) local = this.base().isLocal(at, visible, openBytesMax);
    });
    return local;
  }

  /** Chunks of the base that a read of the range looks into, as far as they are known not to be zero. */
  baseChunks(offsetBytes: number, lengthBytes: number): readonly number[] {
    const found: number[] = [];
    this.#forEachRun(offsetBytes, lengthBytes, (at, runBytes, present) => {
      const visible = present ? 0 : this.#visibleBytes(at, runBytes);
      if (visible === 0) return;
      const base = this.base();
      const { chunkBytes } = base.map;
      const last = Math.floor((at + visible - 1) / chunkBytes);
      for (let chunk = Math.floor(at / chunkBytes); chunk <= last; chunk += 1) {
        if (base.resident(chunk) !== 'zero') found.push(chunk);
      }
    });
    return found;
  }

  /**
   * Loads what a write of this range needs of the base, if that is in memory, and says whether it was. Most writes
   * need nothing: whole pages, pages that the overlay has, pages after the base.
   */
  loadEdges(offsetBytes: number, lengthBytes: number, edges: PageEdges): boolean {
    if (lengthBytes === 0) return true;
    const endBytes = offsetBytes + lengthBytes;
    const first = Math.floor(offsetBytes / pageBytes);
    const last = Math.floor((endBytes - 1) / pageBytes);
    if (this.#needsBase(first, offsetBytes, endBytes)) {
      if (!this.base().readSync(first * pageBytes, edges.head)) return false;
    }
    if (last === first || !this.#needsBase(last, offsetBytes, endBytes)) return true;
    return this.base().readSync(last * pageBytes, edges.tail);
  }

  /** As `loadEdges`, waiting. */
  async fetchEdges(
    offsetBytes: number,
    lengthBytes: number,
    edges: PageEdges,
    options: FetchOptions,
  ): Promise<void> {
    if (lengthBytes === 0) return;
    const endBytes = offsetBytes + lengthBytes;
    const first = Math.floor(offsetBytes / pageBytes);
    const last = Math.floor((endBytes - 1) / pageBytes);
    const fetch = async (page: number, into: Uint8Array): Promise<void> => {
      if (!this.#needsBase(page, offsetBytes, endBytes)) return;
      await this.base().read(page * pageBytes, into, options);
    };
    await Promise.all([fetch(first, edges.head), last > first ? fetch(last, edges.tail) : undefined]);
  }

  /** Stores a write whose edges were loaded. All of `edges` may be overwritten. */
  store(offsetBytes: number, data: Uint8Array, edges: PageEdges): void {
    this.stores += 1;
    const endBytes = offsetBytes + data.length;
    const firstPage = Math.floor(offsetBytes / pageBytes);
    const lastPage = Math.floor((endBytes - 1) / pageBytes);
    let at = offsetBytes;
    let middleEnd = endBytes;
    if (!this.#coversPage(firstPage, offsetBytes, endBytes) && !this.pages.has(firstPage)) {
      at = Math.min((firstPage + 1) * pageBytes, endBytes);
      this.#composePage(firstPage, offsetBytes, data.subarray(0, at - offsetBytes), edges.head);
    }
    const tailStart = lastPage * pageBytes;
    const hasTail = lastPage > firstPage && endBytes - tailStart < pageBytes && !this.pages.has(lastPage);
    if (hasTail) middleEnd = tailStart;
    if (at < middleEnd) {
      const whole = middleEnd - at === data.length;
      this.data.write(at, whole ? data : data.subarray(at - offsetBytes, middleEnd - offsetBytes));
    }
    if (hasTail) this.#composePage(lastPage, tailStart, data.subarray(tailStart - offsetBytes), edges.tail);
  }

  /**
   * Makes a range zero, whole pages as holes; its edges were loaded. Only pages that would show the base otherwise
   * become present, so that a hole after the base costs nothing.
   */
  storeZeros(offsetBytes: number, endBytes: number, edges: PageEdges): StoredRange {
    this.stores += 1;
    const wholeFirst = Math.ceil(offsetBytes / pageBytes);
    const wholeEnd = Math.floor(endBytes / pageBytes);
    const headEnd = Math.min(wholeFirst * pageBytes, endBytes);
    const tailStart = Math.max(wholeEnd * pageBytes, headEnd);
    const head = offsetBytes < headEnd && this.#storeZerosInPage(offsetBytes, headEnd, edges.head);
    const tailEdge = tailStart === offsetBytes ? edges.head : edges.tail;
    const tail = tailStart < endBytes && this.#storeZerosInPage(tailStart, endBytes, tailEdge);
    const markEnd = Math.min(wholeEnd, Math.ceil(this.baseLimitBytes / pageBytes));
    const zeroEnd = Math.max(markEnd, Math.min(wholeEnd, this.pages.end));
    if (wholeFirst < zeroEnd) {
      this.data.zero(wholeFirst * pageBytes, (zeroEnd - wholeFirst) * pageBytes);
    }
    const first = head ? wholeFirst - 1 : wholeFirst;
    const end = tail ? wholeEnd + 1 : Math.max(markEnd, head ? wholeFirst : 0);
    return { first, count: Math.max(end - first, 0) };
  }

  /** The pages are stored, and the journal knows. */
  markWritten(first: number, count: number, sizeBytes: number): void {
    if (count > 0) this.pages.add(first, count);
    const sizeBefore = this.sizeBytes;
    this.sizeBytes = sizeBytes;
    this.#windows?.changed(first, count);
    if (sizeBytes !== sizeBefore) this.#windows?.resized(sizeBefore, sizeBytes);
  }

  /** Forgets what lies past the new end. The data file is left to `clearTail` and to whoever gives space back. */
  resize(sizeBytes: number): void {
    this.#windows?.resized(this.sizeBytes, sizeBytes);
    if (sizeBytes < this.sizeBytes) {
      this.pages.removeFrom(Math.ceil(sizeBytes / pageBytes));
      this.baseLimitBytes = Math.min(this.baseLimitBytes, sizeBytes);
    }
    this.sizeBytes = sizeBytes;
  }

  /** Zeros after the end of the file in its last page, where that is present. */
  clearTail(): void {
    const used = this.sizeBytes % pageBytes;
    if (used === 0 || !this.pages.has(Math.floor(this.sizeBytes / pageBytes))) return;
    this.stores += 1;
    this.data.tidy(this.sizeBytes, zeroPage.subarray(used));
  }

  /** Gives disk space of pages from `page` on back, where they are not present. */
  discardFrom(page: number): void {
    const end = Math.max(this.pages.end, page);
    this.data.cut(end * pageBytes);
    for (let at = page; at < end;) {
      const runEnd = this.pages.runEnd(at, end);
      if (!this.pages.has(at)) this.data.discard(at * pageBytes, (runEnd - at) * pageBytes);
      at = runEnd;
    }
  }

  /** The published content is the base now: the overlay has nothing of its own. */
  rebase(map: FileMap): void {
    if (map.sizeBytes !== this.sizeBytes) {
      throw new Error(`a base of ${map.sizeBytes} bytes for a file of ${this.sizeBytes}`);
    }
    this.#windows?.withdrawFrom(0);
    this.generation += 1;
    this.#map = map;
    this.#base = undefined;
    this.baseLimitBytes = map.sizeBytes;
    this.pages.removeFrom(0);
    this.recordedAt = -1;
  }

  /** The range was read in place: from now on other threads can do so, too. */
  share(table: LocalReadTable, inode: number, offsetBytes: number, lengthBytes: number): void {
    if (this.#windows === undefined) {
      const windows = new FileWindows(table, inode, this);
      this.#windows = windows;
      this.data.onClosing = () => windows.withdrawFrom(0);
    }
    this.#windows.enterRead(offsetBytes, lengthBytes);
  }

  /** Where the base's bytes of a range are in memory, if they are in one piece. */
  residentBase(
    offsetBytes: number,
    lengthBytes: number,
  ): 'zero' | (ChunkPlace & { readonly offsetBytes: number }) | undefined {
    const base = this.base();
    const { chunkBytes } = base.map;
    const chunkIndex = Math.floor(offsetBytes / chunkBytes);
    const offsetInChunk = offsetBytes - chunkIndex * chunkBytes;
    if (offsetInChunk + lengthBytes > chunkBytes) return undefined;
    const found = base.resident(chunkIndex);
    return found === undefined || found === 'zero' ? found : { ...found, offsetBytes: offsetInChunk };
  }

  /** How many bytes of a range, from its start, the base may show. */
  #visibleBytes(offsetBytes: number, lengthBytes: number): number {
    return Math.min(Math.max(this.baseLimitBytes - offsetBytes, 0), lengthBytes);
  }

  /** Fills bytes after the base's with zeros in any case. */
  #readBaseNow(offsetBytes: number, into: Uint8Array): boolean {
    const visible = this.#visibleBytes(offsetBytes, into.length);
    if (visible === into.length) return this.base().readSync(offsetBytes, into);
    into.fill(0, visible);
    return visible === 0 || this.base().readSync(offsetBytes, into.subarray(0, visible));
  }

  #forEachRun(
    offsetBytes: number,
    lengthBytes: number,
    visit: (at: number, lengthBytes: number, present: boolean) => void,
  ): void {
    const endBytes = offsetBytes + lengthBytes;
    const endPage = Math.ceil(endBytes / pageBytes);
    for (let at = offsetBytes; at < endBytes;) {
      const page = Math.floor(at / pageBytes);
      const to = Math.min(this.pages.runEnd(page, endPage) * pageBytes, endBytes);
      visit(at, to - at, this.pages.has(page));
      at = to;
    }
  }

  #coversPage(page: number, offsetBytes: number, endBytes: number): boolean {
    return offsetBytes <= page * pageBytes && endBytes >= (page + 1) * pageBytes;
  }

  /** Whether the page shows bytes of the base outside of the range. */
  #needsBase(page: number, offsetBytes: number, endBytes: number): boolean {
    const start = page * pageBytes;
    const visible = this.#visibleBytes(start, pageBytes);
    if (visible === 0 || (offsetBytes <= start && endBytes >= start + visible)) return false;
    return !this.pages.has(page);
  }

  /** Stores a page that was not present: `data` over what the base shows, which `page` holds where it is needed. */
  #composePage(page: number, offsetBytes: number, data: Uint8Array, bytes: Uint8Array): void {
    const start = page * pageBytes;
    const needsBase = this.#needsBase(page, offsetBytes, offsetBytes + data.length);
    bytes.fill(0, needsBase ? this.#visibleBytes(start, pageBytes) : 0);
    bytes.set(data, offsetBytes - start);
    this.data.write(start, bytes);
  }

  /** Answers whether the page is to become present. */
  #storeZerosInPage(offsetBytes: number, endBytes: number, edge: Uint8Array): boolean {
    const page = Math.floor(offsetBytes / pageBytes);
    const zeros = zeroPage.subarray(0, endBytes - offsetBytes);
    if (this.pages.has(page)) {
      this.data.write(offsetBytes, zeros);
      return false;
    }
    if (this.baseLimitBytes <= offsetBytes) return false;
    this.#composePage(page, offsetBytes, zeros, edge);
    return true;
  }
}
