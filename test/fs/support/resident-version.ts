import { ChunkMemory } from '../../../src/fetch/chunk-memory.js';
import type { BaseFile } from '../../../src/fetch/index.js';
import type { BlobId, FileMap, PackId } from '../../../src/repo/index.js';

export const residentChunkBytes = 128 * 1024;

/** A version whose chunks come into a small memory when they are read, and leave it for others. */
export class ResidentVersion {
  readonly memory: ChunkMemory;
  readonly #contents = new Map<string, Uint8Array>();

  constructor(cells: number) {
    this.memory = new ChunkMemory(cells * residentChunkBytes, residentChunkBytes);
  }

  /** Chunks of `content` that hold zeros only are holes of the version. */
  addFile(content: Uint8Array): FileMap {
    const id = String(this.#contents.size + 1).padStart(32, '0');
    this.#contents.set(id, content);
    return {
      sizeBytes: content.length,
      chunkBytes: residentChunkBytes,
      height: 0,
      root: { packId: id as PackId, offsetBytes: 0, sealedBytes: 1, counter: 1, id: id as BlobId },
    };
  }

  readonly openFile = (map: FileMap): BaseFile => {
    const { root } = map;
    const content = root === 'zero' ? new Uint8Array() : (this.#contents.get(root.id) ?? new Uint8Array());
    const chunkOf = (index: number): { readonly id: BlobId; readonly bytes: Uint8Array } | 'zero' => {
      const bytes = new Uint8Array(residentChunkBytes);
      bytes.set(content.subarray(index * residentChunkBytes, (index + 1) * residentChunkBytes));
      if (root === 'zero' || bytes.every((byte) => byte === 0)) return 'zero';
      return { id: `${root.id}/${index}` as BlobId, bytes };
    };
    const indexes = (offsetBytes: number, lengthBytes: number): number[] => {
      const first = Math.floor(offsetBytes / residentChunkBytes);
      const last = Math.floor((offsetBytes + lengthBytes - 1) / residentChunkBytes);
      return Array.from({ length: last - first + 1 }, (_, at) => first + at);
    };
    const fill = (offsetBytes: number, into: Uint8Array): void => {
      into.fill(0);
      into.set(content.subarray(offsetBytes, offsetBytes + into.length));
    };
    return {
      map,
      resident: (index) => {
        const chunk = chunkOf(index);
        return chunk === 'zero' ? chunk : this.memory.place(chunk.id);
      },
      readSync: (offsetBytes, into) => {
        for (const index of indexes(offsetBytes, into.length)) {
          const chunk = chunkOf(index);
          if (chunk !== 'zero' && this.memory.peek(chunk.id) === undefined) return false;
        }
        fill(offsetBytes, into);
        return true;
      },
      isLocal: () => true,
      read: (offsetBytes, into) => {
        for (const index of indexes(offsetBytes, into.length)) {
          const chunk = chunkOf(index);
          if (chunk !== 'zero') this.memory.set(chunk.id, chunk.bytes);
        }
        fill(offsetBytes, into);
        return Promise.resolve();
      },
      findSync: () => undefined,
      placedChunks: () => {
        throw new Error('nobody asks which chunks there are');
      },
      changedSince: () => {
        throw new Error('nobody knows of an earlier version');
      },
      find: () => Promise.reject(new Error('nobody looks for holes here')),
      residency: () => Promise.resolve({ chunks: 0, localChunks: 0 }),
      chunk: () => Promise.reject(new Error('a file system does not ask where chunks lie')),
      warm: () => Promise.reject(new Error('a file system does not warm')),
    };
  };
}
