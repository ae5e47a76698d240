import { isUtf8 } from 'node:buffer';
import type { BigIntStats } from 'node:fs';
import { constants, lstat, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { LimitExceeded, limits, systemErrorCode, type MaybePromise } from '../../base/index.js';
import { userAttributes } from '../../system/index.js';
import type { InodeMetadata, Manifest, ManifestInode, PublishSource, SourceInode } from '../types.js';
import { SourceUnreadable, UnsupportedFile } from './errors.js';
import { SourceRegularFile } from './source-regular-file.js';

export interface DirectorySourceOptions {
  /** The repository's chunk size, `header.chunkBytes`. */
  readonly chunkBytes: number;
  /** The version that the directory was made from or resembles: chunks that are equal there are not stored again. */
  readonly base?: { readonly manifest: Manifest } | undefined;
}

/**
 * A plain directory as a source: regular files (holes are skipped), directories, symbolic links and fifos; hard links
 * stay links to one inode. The tree is scanned now, files are read when they are published.
 *
 * Of extended attributes, those in the `user` name space are kept: the others belong to the host.
 *
 * Rejects with `SourceUnreadable`; with `UnsupportedFile` for sockets, devices and names that are not UTF-8; with
 * `LimitExceeded` for too many files. Publishing rejects with `SourceChanged` if a file changes while it is read.
 */
export async function directorySource(
  path: string,
  options: DirectorySourceOptions,
): Promise<DirectorySource> {
  const scan = new DirectoryScan(options);
  await scan.addRoot(path);
  return new DirectorySource(scan.inodes);
}

/** Owns the open files of a publish under way. */
export class DirectorySource implements PublishSource, AsyncDisposable {
  readonly #inodes: readonly SourceInode[];

  constructor(inodes: readonly SourceInode[]) {
    this.#inodes = inodes;
  }

  inodes(): Iterable<SourceInode> {
    return this.#inodes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const inode of this.#inodes) {
      if (inode.kind === 'file' && inode.content instanceof SourceRegularFile) await inode.content.close();
    }
  }
}

const rootNumber = 1;

class DirectoryScan {
  readonly inodes: SourceInode[] = [];
  readonly #chunkBytes: number;
  readonly #base: ReadonlyMap<number, ManifestInode>;
  /** Numbers of inodes with several names, by device and inode of the file system. */
  readonly #linked = new Map<string, number>();
  readonly #usedNumbers = new Set<number>([rootNumber]);
  #nextNumber: number;

  constructor(options: DirectorySourceOptions) {
    this.#chunkBytes = options.chunkBytes;
    this.#base = options.base?.manifest.inodes ?? new Map<number, ManifestInode>();
    this.#nextNumber = rootNumber + 1;
    for (const number of this.#base.keys()) this.#nextNumber = Math.max(this.#nextNumber, number + 1);
  }

  async addRoot(path: string): Promise<void> {
    const stats = await readable(path, () => lstat(path, { bigint: true }));
    if (!stats.isDirectory()) throw new UnsupportedFile(path, 'a VM directory must be a directory');
    await this.#addDirectory(path, stats, rootNumber, this.#base.get(rootNumber));
  }

  /** Adds the inode at `path` unless a link to it was seen before, and everything below it. Answers its number. */
  async #add(path: string, base: ManifestInode | undefined): Promise<number> {
    const stats = await readable(path, () => lstat(path, { bigint: true }));
    const identity = stats.isDirectory() || stats.nlink === 1n ? undefined : `${stats.dev}:${stats.ino}`;
    const known = identity === undefined ? undefined : this.#linked.get(identity);
    if (known !== undefined) return known;
    const number = this.#takeNumber(base);
    if (identity !== undefined) this.#linked.set(identity, number);
    if (stats.isDirectory()) await this.#addDirectory(path, stats, number, base);
    else this.#push(await this.#leafInode(path, stats, number, base));
    return number;
  }

  async #addDirectory(
    path: string,
    stats: BigIntStats,
    number: number,
    base: ManifestInode | undefined,
  ): Promise<void> {
    const baseEntries = base?.kind === 'directory' ? base.entries : undefined;
    const entries = new Map<string, number>();
    this.#push({
      ...(await readable(path, () => metadataOf(path, stats))),
      number,
      kind: 'directory',
      entries,
    });
    for (const name of await namesIn(path)) {
      const baseNumber = baseEntries?.get(name);
      const baseInode = baseNumber === undefined ? undefined : this.#base.get(baseNumber);
      entries.set(name, await this.#add(join(path, name), baseInode));
    }
  }

  async #leafInode(
    path: string,
    stats: BigIntStats,
    number: number,
    base: ManifestInode | undefined,
  ): Promise<SourceInode> {
    const metadata = { ...(await readable(path, () => metadataOf(path, stats))), number };
    switch (Number(stats.mode) & constants.S_IFMT) {
      case constants.S_IFREG: {
        const baseMap = base?.kind === 'file' ? base.content : undefined;
        const content = new SourceRegularFile(path, stats, this.#chunkBytes, baseMap);
        return { ...metadata, kind: 'file', content };
      }
      case constants.S_IFLNK:
        return { ...metadata, kind: 'symlink', target: await readTarget(path) };
      case constants.S_IFIFO:
        return { ...metadata, kind: 'fifo' };
      case constants.S_IFSOCK:
        throw new UnsupportedFile(path, 'it is a socket');
      default:
        throw new UnsupportedFile(path, 'it is a device');
    }
  }

  #push(inode: SourceInode): void {
    if (this.inodes.length >= limits.manifestInodesMax) {
      throw new LimitExceeded(`A VM directory may hold at most ${limits.manifestInodesMax} files.`);
    }
    this.inodes.push(inode);
  }

  /** The number that the base gives to the same path, so that unchanged inodes stay equal; else a new one. */
  #takeNumber(base: ManifestInode | undefined): number {
    let number = base?.number;
    if (number === undefined || this.#usedNumbers.has(number)) {
      number = this.#nextNumber;
      this.#nextNumber += 1;
    }
    this.#usedNumbers.add(number);
    return number;
  }
}

async function namesIn(path: string): Promise<string[]> {
  const names = await readable(path, () => readdir(path, { encoding: 'buffer' }));
  return names.map((name) => utf8(name, path, 'the name of a file in it is not UTF-8')).sort();
}

async function readTarget(path: string): Promise<string> {
  const target = await readable(path, () => readlink(path, { encoding: 'buffer' }));
  return utf8(target, path, 'its target is not UTF-8');
}

function utf8(bytes: Buffer, path: string, otherwise: string): string {
  if (!isUtf8(bytes))
    throw new UnsupportedFile(path, `${otherwise}: ${JSON.stringify(bytes.toString('latin1'))}`);
  return bytes.toString('utf8');
}

async function readable<T>(path: string, read: () => MaybePromise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof Error && systemErrorCode(error) !== undefined)
      throw new SourceUnreadable(path, error);
    throw error;
  }
}

function metadataOf(path: string, stats: BigIntStats): InodeMetadata {
  return {
    permissions: Number(stats.mode) & 0o7777,
    uid: Number(stats.uid),
    gid: Number(stats.gid),
    accessTimeNs: stats.atimeNs,
    modifyTimeNs: stats.mtimeNs,
    changeTimeNs: stats.ctimeNs,
    extendedAttributes: userAttributes(path),
  };
}
