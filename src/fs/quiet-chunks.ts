import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import type { ChangedRange, FileMap, SourceChunk, SourceFile } from '../repo/index.js';
import type { FileContent } from './file-content.js';
import { isUnlinked, type FileInode } from './inode.js';
import type { InodeTable } from './inode-table.js';
import { PageBitmap, pageBytes } from './page-bitmap.js';

/** Chunks of one file, by index. */
interface FileAges {
  /** The period that `writtenNow` is of. */
  period: number;
  writtenNow: PageBitmap;
  writtenBefore: PageBitmap;
  /** Given out, and not written since. */
  readonly given: Set<number>;
}

/** Chunks that are looked at before other work gets its turn. */
const chunksPerTurn = 256;

/**
 * Which chunks of the overlay have been quiet: changed, but not within the last whole period, nor the one that runs. They are
 * given out once, to be stored ahead of a publish, and again when they were written after that.
 *
 * A chunk counts as given from before it is read, and a write takes that back. So whatever was written while a chunk was
 * read, or later, makes it one to be given again; what was read of it then is of no use, and does no harm: a publish reads
 * every changed chunk itself, and takes from what was stored ahead only what has exactly its content.
 */
export class QuietChunks {
  readonly #table: InodeTable;
  readonly #chunkBytes: number;
  readonly #ages = new WeakMap<FileInode, FileAges>();
  #period = 0;

  /** `chunkBytes` is the repository's. */
  constructor(table: InodeTable, chunkBytes: number) {
    this.#table = table;
    this.#chunkBytes = chunkBytes;
  }

  /** For the thread that answers the kernel: pages of a file were written. */
  wrote(file: FileInode, firstPage: number, pageCount: number): void {
    if (pageCount === 0) return;
    const perChunk = this.#chunkBytes / pageBytes;
    const first = Math.floor(firstPage / perChunk);
    const last = Math.floor((firstPage + pageCount - 1) / perChunk);
    const { writtenNow, given } = this.#agesOf(file);
    writtenNow.add(first, last - first + 1);
    if (given.size > last - first) for (let chunk = first; chunk <= last; chunk += 1) given.delete(chunk);
    else for (const chunk of given) if (chunk >= first && chunk <= last) given.delete(chunk);
  }

  /** A period has passed. Nothing is quiet before two of them have. */
  passPeriod(): void {
    this.#period += 1;
  }

  /** Forgets what was given out. */
  reset(): void {
    for (const file of this.#table.files()) this.#ages.get(file)?.given.clear();
  }

  /** Takes back that these were given out. */
  giveBack(chunks: readonly SourceChunk[]): void {
    for (const { file, index } of chunks) if (file instanceof QuietFile) file.given.delete(index);
  }

  /** Bytes of chunks that were given out and not written since. */
  get givenBytes(): number {
    let chunks = 0;
    for (const file of this.#table.files()) {
      if (!isUnlinked(file)) chunks += this.#ages.get(file)?.given.size ?? 0;
    }
    return chunks * this.#chunkBytes;
  }

  /**
   * Gives quiet chunks out, file by file and in order, as the files are when it comes to them. What is being read of them
   * when the signal is aborted rejects with `Cancelled`.
   */
  async *next(signal: AbortSignal): AsyncGenerator<SourceChunk, void> {
    if (this.#period < 2) return;
    const perChunk = this.#chunkBytes / pageBytes;
    let looked = 0;
    for (const file of [...this.#table.files()]) {
      const { content } = file;
      const { generation } = content;
      let source: QuietFile | undefined;
      for (let chunk = 0; !isUnlinked(file) && content.generation === generation; chunk += 1) {
        const page = content.pages.next(chunk * perChunk);
        if (page === undefined) break;
        chunk = Math.floor(page / perChunk);
        if (this.#isQuiet(file, chunk)) {
          const { given } = this.#agesOf(file);
          given.add(chunk);
          if (source?.sizeBytes !== content.sizeBytes) {
            source = new QuietFile(file, { chunkBytes: this.#chunkBytes, given, signal });
          }
          yield { file: source, index: chunk };
        }
        looked += 1;
        if (looked % chunksPerTurn === 0) await eventLoopTurn();
      }
    }
  }

  #isQuiet(file: FileInode, chunk: number): boolean {
    const { writtenNow, writtenBefore, given } = this.#agesOf(file);
    return !given.has(chunk) && !writtenNow.has(chunk) && !writtenBefore.has(chunk);
  }

  #agesOf(file: FileInode): FileAges {
    const period = this.#period;
    let ages = this.#ages.get(file);
    if (ages === undefined) {
      ages = { period, writtenNow: new PageBitmap(), writtenBefore: new PageBitmap(), given: new Set() };
      this.#ages.set(file, ages);
    }
    if (ages.period < period) {
      ages.writtenBefore = ages.period === period - 1 ? ages.writtenNow : new PageBitmap();
      ages.writtenNow = new PageBitmap();
      ages.period = period;
    }
    return ages;
  }
}

/** A file of which chunks are read while it may change. */
class QuietFile implements SourceFile {
  readonly sizeBytes: number;
  readonly base: FileMap | undefined;
  readonly given: Set<number>;
  readonly #file: FileInode;
  readonly #content: FileContent;
  readonly #chunkBytes: number;
  readonly #signal: AbortSignal;

  constructor(
    file: FileInode,
    {
      chunkBytes,
      given,
      signal,
    }: { readonly chunkBytes: number; readonly given: Set<number>; readonly signal: AbortSignal },
  ) {
    const { content } = file;
    this.sizeBytes = content.sizeBytes;
    this.base = content.baseMap?.chunkBytes === chunkBytes ? content.baseMap : undefined;
    this.given = given;
    this.#file = file;
    this.#content = content;
    this.#chunkBytes = chunkBytes;
    this.#signal = signal;
  }

  /** Only chunks that were given out are read. */
  async *changedChunks(): AsyncGenerator<ChangedRange, void> {
    // None.
  }

  /** Each page as it is at one moment; of a file that is gone or shorter by now, zeros. */
  async readChunks(first: number, into: Uint8Array): Promise<void> {
    const offsetBytes = first * this.#chunkBytes;
    // The thread that answers the kernel must not wait for the disk.
    await this.#content.data.load(offsetBytes, into.length);
    const visibleBytes = isUnlinked(this.#file) ? 0 : this.#content.sizeBytes - offsetBytes;
    const wanted = into.subarray(0, Math.max(Math.min(into.length, visibleBytes), 0));
    into.fill(0, wanted.length);
    if (wanted.length === 0 || this.#content.readNow(offsetBytes, wanted)) return;
    await this.#content.readLater(offsetBytes, wanted, { fetchClass: 'background', signal: this.#signal });
  }
}
