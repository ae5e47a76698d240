import type {
  ChangedRange,
  FileMap,
  InodeMetadata,
  PublishSource,
  SourceFile,
  SourceInode,
} from '../repo/index.js';
import type { FileContent } from './file-content.js';
import { isUnlinked, type DirectoryInode, type Inode } from './inode.js';
import type { InodeTable } from './inode-table.js';
import { pageBytes } from './page-bitmap.js';

/**
 * The file system as `publish` wants it: changed chunks are those with a page in the overlay. `chunkBytes` is the
 * repository's. Inodes keep their numbers. The file system must be frozen until publishing has ended.
 */
export function overlayPublishSource(table: InodeTable, chunkBytes: number): PublishSource {
  return {
    *inodes() {
      for (const inode of table.inodes.values()) if (!isUnlinked(inode)) yield sourceInode(inode, chunkBytes);
    },
  };
}

function sourceInode(inode: Inode, chunkBytes: number): SourceInode {
  const metadata: InodeMetadata & { readonly number: number } = {
    number: inode.number,
    permissions: inode.permissions,
    uid: inode.uid,
    gid: inode.gid,
    accessTimeNs: inode.accessTimeNs,
    modifyTimeNs: inode.modifyTimeNs,
    changeTimeNs: inode.changeTimeNs,
    extendedAttributes: inode.extendedAttributes,
  };
  switch (inode.kind) {
    case 'file':
      return { ...metadata, kind: 'file', content: new OverlaySourceFile(inode.content, chunkBytes) };
    case 'directory':
      return { ...metadata, kind: 'directory', entries: entryNumbers(inode) };
    case 'symlink':
      return { ...metadata, kind: 'symlink', target: inode.target };
    case 'fifo':
      return { ...metadata, kind: 'fifo' };
  }
}

function entryNumbers(directory: DirectoryInode): Map<string, number> {
  return new Map(Array.from(directory.entries, ([name, { number }]) => [name, number]));
}

class OverlaySourceFile implements SourceFile {
  readonly sizeBytes: number;
  /** Undefined also where the base has chunks of another size: then everything is read and stored again. */
  readonly base: FileMap | undefined;
  readonly #content: FileContent;
  readonly #chunkBytes: number;

  constructor(content: FileContent, chunkBytes: number) {
    this.sizeBytes = content.sizeBytes;
    this.base = content.baseMap?.chunkBytes === chunkBytes ? content.baseMap : undefined;
    this.#content = content;
    this.#chunkBytes = chunkBytes;
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- the interface is for sources that wait
  async *changedChunks(): AsyncGenerator<ChangedRange, void> {
    const chunks = Math.ceil(this.sizeBytes / this.#chunkBytes);
    for (const { first, end } of mergeRanges(this.#changedChunkRanges())) {
      yield* this.#splitZeros(first, Math.min(end, chunks));
    }
  }

  async readChunks(first: number, into: Uint8Array): Promise<void> {
    const offsetBytes = first * this.#chunkBytes;
    const lengthBytes = Math.max(Math.min(into.length, this.sizeBytes - offsetBytes), 0);
    const wanted = into.subarray(0, lengthBytes);
    into.fill(0, lengthBytes);
    if (lengthBytes === 0 || this.#content.readNow(offsetBytes, wanted)) return;
    await this.#content.readLater(offsetBytes, wanted, { fetchClass: 'demand' });
  }

  /** Half-open ranges of chunks, ascending by their start. */
  *#changedChunkRanges(): Generator<{ first: number; end: number }, void> {
    const { pages, baseLimitBytes, baseMap } = this.#content;
    const baseBytes = baseMap?.sizeBytes ?? 0;
    // What the base has, but the file does not show: it was cut off. And all of it, where its chunks are of no use.
    const hidden = {
      first: this.base === undefined ? 0 : Math.floor(baseLimitBytes / this.#chunkBytes),
      end: Math.ceil(Math.min(baseBytes, this.sizeBytes) / this.#chunkBytes),
    };
    let hiddenGiven = hidden.first >= hidden.end || (this.base !== undefined && baseLimitBytes >= baseBytes);
    for (const run of pages.runs()) {
      const first = Math.floor((run.first * pageBytes) / this.#chunkBytes);
      if (!hiddenGiven && hidden.first <= first) {
        hiddenGiven = true;
        yield hidden;
      }
      yield { first, end: Math.ceil(((run.first + run.count) * pageBytes) / this.#chunkBytes) };
    }
    if (!hiddenGiven) yield hidden;
  }

  /** Parts of a changed range that are holes of the data file, with nothing of the base to show, are known to be zero. */
  *#splitZeros(first: number, end: number): Generator<ChangedRange, void> {
    for (let chunk = first; chunk < end;) {
      const zeroEnd = Math.min(this.#zeroEnd(chunk, end), end);
      if (zeroEnd > chunk) {
        yield { first: chunk, count: zeroEnd - chunk, zero: true };
        chunk = zeroEnd;
        continue;
      }
      let dataEnd = chunk + 1;
      while (dataEnd < end && this.#zeroEnd(dataEnd, end) === dataEnd) dataEnd += 1;
      yield { first: chunk, count: dataEnd - chunk };
      chunk = dataEnd;
    }
  }

  /** The first chunk from `chunk` on that may hold something. */
  #zeroEnd(chunk: number, end: number): number {
    const { data, baseHasData, baseLimitBytes, pages } = this.#content;
    const startBytes = chunk * this.#chunkBytes;
    let limitBytes = end * this.#chunkBytes;
    if (baseHasData && startBytes < baseLimitBytes) {
      const page = startBytes / pageBytes;
      if (!pages.has(page)) return chunk;
      const presentEnd = pages.runEnd(page, Math.ceil(limitBytes / pageBytes)) * pageBytes;
      if (presentEnd < baseLimitBytes) limitBytes = Math.min(limitBytes, presentEnd);
    }
    const dataAt = pages.count === 0 ? undefined : data.nextData(startBytes);
    return Math.floor(Math.min(dataAt ?? limitBytes, limitBytes) / this.#chunkBytes);
  }
}

function* mergeRanges(
  ranges: Iterable<{ readonly first: number; readonly end: number }>,
): Generator<{ readonly first: number; readonly end: number }, void> {
  let pending: { first: number; end: number } | undefined;
  for (const range of ranges) {
    if (pending !== undefined && range.first <= pending.end) {
      pending.end = Math.max(pending.end, range.end);
      continue;
    }
    if (pending !== undefined) yield pending;
    pending = { ...range };
  }
  if (pending !== undefined) yield pending;
}
