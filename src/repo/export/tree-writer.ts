import { chmod, lchown, link, mkdir, open, symlink, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { Cancelled, limits, systemErrorCode, type ProgressListener } from '../../base/index.js';
import { makeFifo, setTimes, setUserAttribute } from '../../system/index.js';
import { ChunkMap } from '../chunk-map.js';
import { NodeCache } from '../chunk-map/node-cache.js';
import type { PlacedChunk } from '../chunk-map/shape.js';
import { DamagedObject } from '../errors.js';
import { packKey } from '../format/object-keys.js';
import { inOrder } from '../in-order.js';
import { throttled } from '../throttled.js';
import type { BlobReader, FileMap, Manifest, ManifestInode } from '../types.js';
import { syncDirectory } from './sync-directory.js';

type FileInode = Extract<ManifestInode, { kind: 'file' }>;

export interface WrittenTree {
  readonly files: number;
  /** Sum of the sizes of the files. */
  readonly logicalBytes: number;
  /** Without holes. */
  readonly writtenBytes: number;
  /** False where this process may not give files away: then all belong to its user. */
  readonly ownersKept: boolean;
  /** False where the file system refused an extended attribute. */
  readonly attributesKept: boolean;
}

export interface TreeWriterOptions {
  readonly manifest: Manifest;
  readonly reader: BlobReader;
  readonly onProgress: ProgressListener | undefined;
  readonly signal: AbortSignal | undefined;
}

const rootNumber = 1;

/**
 * Writes the directory of a manifest below a directory that it alone uses. Nothing outside can be reached: the manifest
 * is a tree of single names (`loadManifest` checked that), and everything is made new, never followed.
 */
export class TreeWriter {
  readonly #manifest: Manifest;
  readonly #reader: BlobReader;
  readonly #signal: AbortSignal | undefined;
  readonly #nodes = new NodeCache();
  readonly #report: ProgressListener;
  /** Where an inode was written first; further names become links. */
  readonly #paths = new Map<number, string>();
  /** Parents before children. */
  readonly #directories: { readonly path: string; readonly inode: ManifestInode }[] = [];
  readonly #totalBytes: number;
  readonly #mayChown = process.getuid?.() === 0;
  #files = 0;
  #logicalBytes = 0;
  #writtenBytes = 0;
  #attributesKept = true;

  constructor({ manifest, reader, onProgress, signal }: TreeWriterOptions) {
    this.#manifest = manifest;
    this.#reader = reader;
    this.#signal = signal;
    this.#report = throttled(onProgress);
    this.#totalBytes = 0;
    for (const inode of manifest.inodes.values()) {
      if (inode.kind === 'file') this.#totalBytes += inode.content.sizeBytes;
    }
  }

  /** Everything is durable but the name of `directory` itself, which must exist and be empty. */
  async write(directory: string): Promise<WrittenTree> {
    await this.#writeDirectory(directory, this.#inode(rootNumber));
    // Last, and children first: a directory that must not be written to could not be filled, nor removed on failure.
    for (const { path, inode } of this.#directories.reverse()) {
      await this.#setMetadata(path, inode);
      await syncDirectory(path);
    }
    return {
      files: this.#files,
      logicalBytes: this.#logicalBytes,
      writtenBytes: this.#writtenBytes,
      ownersKept: this.#mayChown,
      attributesKept: this.#attributesKept,
    };
  }

  async #writeDirectory(path: string, inode: ManifestInode): Promise<void> {
    if (inode.kind !== 'directory') throw new Error(`inode ${inode.number} is no directory`);
    this.#directories.push({ path, inode });
    for (const [name, number] of inode.entries) await this.#writeEntry(join(path, name), number);
  }

  async #writeEntry(path: string, number: number): Promise<void> {
    if (this.#signal?.aborted === true) throw new Cancelled('The export');
    const existing = this.#paths.get(number);
    if (existing !== undefined) {
      await link(existing, path);
      return;
    }
    this.#paths.set(number, path);
    const inode = this.#inode(number);
    switch (inode.kind) {
      case 'directory':
        await mkdir(path, { mode: 0o700 });
        await this.#writeDirectory(path, inode);
        return;
      case 'file':
        await this.#writeFile(path, inode);
        break;
      case 'symlink':
        await symlink(inode.target, path);
        break;
      case 'fifo':
        makeFifo(path, 0o600);
        break;
    }
    await this.#setMetadata(path, inode);
  }

  async #writeFile(path: string, { content }: FileInode): Promise<void> {
    const file = await open(path, 'wx', 0o600);
    try {
      await file.truncate(content.sizeBytes);
      await this.#writeChunks(file, content, path);
      await file.sync();
    } finally {
      await file.close();
    }
    this.#files += 1;
    this.#logicalBytes += content.sizeBytes;
    this.#reportPosition(path, 0);
  }

  async #writeChunks(file: FileHandle, map: FileMap, path: string): Promise<void> {
    const chunks = new ChunkMap(map, this.#reader, this.#nodes);
    const write = async (chunk: PlacedChunk): Promise<number> => {
      const offsetBytes = chunk.index * map.chunkBytes;
      const plaintext = await this.#readChunk(chunk, map);
      const lengthBytes = Math.min(map.chunkBytes, map.sizeBytes - offsetBytes);
      await writeFully(file, plaintext.subarray(0, lengthBytes), offsetBytes);
      this.#writtenBytes += lengthBytes;
      return offsetBytes + lengthBytes;
    };
    const entries = chunks.entries(0, chunks.chunkCount, this.#readOptions());
    for await (const doneBytes of inOrder(entries, write, limits.exportChunksInFlight)) {
      if (this.#signal?.aborted === true) throw new Cancelled('The export');
      this.#reportPosition(path, doneBytes);
    }
  }

  async #readChunk({ reference }: PlacedChunk, map: FileMap): Promise<Uint8Array> {
    const plaintext = await this.#reader.readBlob(reference, 'chunk', this.#readOptions());
    if (plaintext.length !== map.chunkBytes) {
      throw new DamagedObject(
        packKey(reference.packId),
        `a chunk has ${plaintext.length} bytes instead of ${map.chunkBytes}`,
      );
    }
    return plaintext;
  }

  async #setMetadata(path: string, inode: ManifestInode): Promise<void> {
    if (this.#mayChown) await lchown(path, inode.uid, inode.gid);
    // After the owner: changing that clears the set-user-id bit.
    if (inode.kind !== 'symlink') await chmod(path, inode.permissions);
    for (const [name, value] of inode.extendedAttributes) this.#setAttribute(path, name, value);
    setTimes(path, inode.accessTimeNs, inode.modifyTimeNs);
  }

  #setAttribute(path: string, name: string, value: Uint8Array): void {
    try {
      setUserAttribute(path, name, value);
    } catch (error) {
      const code = systemErrorCode(error);
      if (code !== 'EOPNOTSUPP' && code !== 'EPERM') throw error;
      this.#attributesKept = false;
    }
  }

  #inode(number: number): ManifestInode {
    const inode = this.#manifest.inodes.get(number);
    if (inode === undefined) throw new Error(`inode ${number} is missing in a checked manifest`);
    return inode;
  }

  #reportPosition(detail: string, fileBytes: number): void {
    this.#report({ doneBytes: this.#logicalBytes + fileBytes, totalBytes: this.#totalBytes, detail });
  }

  #readOptions(): { readonly signal?: AbortSignal } {
    return this.#signal === undefined ? {} : { signal: this.#signal };
  }
}

async function writeFully(file: FileHandle, bytes: Uint8Array, offsetBytes: number): Promise<void> {
  for (let written = 0; written < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, written, bytes.length - written, offsetBytes + written);
    written += bytesWritten;
  }
}
