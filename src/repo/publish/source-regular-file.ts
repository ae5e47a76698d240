import type { BigIntStats } from 'node:fs';
import { constants, lstat, open, type FileHandle } from 'node:fs/promises';
import { InvalidInput, limits, systemErrorCode } from '../../base/index.js';
import { nextData, nextHole } from '../../system/index.js';
import { chunkCount } from '../chunk-map/shape.js';
import type { ChangedRange, FileMap, SourceFile } from '../types.js';
import { SourceChanged, SourceUnreadable } from './errors.js';

/** Never waits for a fifo, never follows a link: either would be a replacement of the file that was scanned. */
const openFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** A regular file of a plain directory. Open between its first read and `finish`. */
export class SourceRegularFile implements SourceFile {
  readonly sizeBytes: number;
  readonly base: FileMap | undefined;
  readonly #path: string;
  readonly #stats: BigIntStats;
  readonly #chunkBytes: number;
  #handle: Promise<FileHandle> | undefined;

  /** `stats`: of the scan; the file must still be the same when `finish` is called. */
  constructor(path: string, stats: BigIntStats, chunkBytes: number, base: FileMap | undefined) {
    if (stats.size > limits.fileBytesMax) {
      throw new InvalidInput(
        `${path} has ${stats.size} bytes; files may have at most ${limits.fileBytesMax}.`,
      );
    }
    this.sizeBytes = Number(stats.size);
    this.base = base;
    this.#path = path;
    this.#stats = stats;
    this.#chunkBytes = chunkBytes;
  }

  /** All chunks, with holes as zero ranges: the base may have had data there. */
  async *changedChunks(): AsyncGenerator<ChangedRange, void> {
    const chunks = chunkCount(this.sizeBytes, this.#chunkBytes);
    if (chunks === 0) return;
    const { fd } = await this.#open();
    for (let chunk = 0; chunk < chunks;) {
      const dataAt = nextData(fd, chunk * this.#chunkBytes) ?? Infinity;
      const firstData = Math.min(Math.floor(dataAt / this.#chunkBytes), chunks);
      if (firstData > chunk) yield { first: chunk, count: firstData - chunk, zero: true };
      if (firstData === chunks) return;
      const endData = Math.min(this.#endOfData(fd, firstData), chunks);
      yield { first: firstData, count: endData - firstData };
      chunk = endData;
    }
  }

  async readChunks(first: number, into: Uint8Array): Promise<void> {
    const offsetBytes = first * this.#chunkBytes;
    const wantedBytes = Math.min(into.length, this.sizeBytes - offsetBytes);
    const handle = await this.#open();
    for (let filled = 0; filled < wantedBytes;) {
      const { bytesRead } = await this.#reading(() =>
        handle.read(into, filled, wantedBytes - filled, offsetBytes + filled),
      );
      if (bytesRead === 0) throw new SourceChanged(this.#path);
      filled += bytesRead;
    }
    into.fill(0, wantedBytes);
  }

  async finish(): Promise<void> {
    const handle = await this.#handle;
    const stats = await this.#reading(() =>
      handle === undefined ? lstat(this.#path, { bigint: true }) : handle.stat({ bigint: true }),
    );
    const before = this.#stats;
    const same =
      stats.dev === before.dev &&
      stats.ino === before.ino &&
      stats.size === before.size &&
      stats.mtimeNs === before.mtimeNs;
    if (!same) throw new SourceChanged(this.#path);
    await this.close();
  }

  async close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await (await handle?.catch(() => undefined))?.close();
  }

  #open(): Promise<FileHandle> {
    this.#handle ??= this.#reading(() => open(this.#path, openFlags));
    return this.#handle;
  }

  /** The first chunk after `chunk`, which holds data, that holds none. */
  #endOfData(fd: number, chunk: number): number {
    for (let end = chunk; ;) {
      const dataAt = nextData(fd, end * this.#chunkBytes);
      if (dataAt === undefined || dataAt >= (end + 1) * this.#chunkBytes) return end;
      const holeAt = nextHole(fd, dataAt) ?? this.sizeBytes;
      end = Math.ceil(holeAt / this.#chunkBytes);
    }
  }

  async #reading<T>(read: () => Promise<T>): Promise<T> {
    try {
      return await read();
    } catch (error) {
      const code = systemErrorCode(error);
      if (code === 'ENOENT' || code === 'ELOOP') throw new SourceChanged(this.#path);
      if (error instanceof Error && code !== undefined) throw new SourceUnreadable(this.#path, error);
      throw error;
    }
  }
}
