import type { BaseFile, FetchOptions, SoughtBytes } from '../../../src/fetch/index.js';
import type { BlobId, FileMap, Manifest, ManifestInode, PackId } from '../../../src/repo/index.js';

export const chunkBytes = 16 * 1024;

export interface FakeRead {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly options: FetchOptions;
}

/** A version in memory whose chunks are where a test wants them. */
export class FakeVersion {
  /** What `readSync` answers from. */
  inMemory: (offsetBytes: number, lengthBytes: number) => boolean = () => true;
  /** What needs no store. */
  isLocal: (offsetBytes: number, lengthBytes: number) => boolean = () => true;
  /** Called for every read that waits; may delay it or fail. */
  beforeRead: (read: FakeRead) => Promise<void> = () => Promise.resolve();
  /** Called for every range that is fetched ahead. */
  duringWarm: () => Promise<void> = () => Promise.resolve();
  readonly warmed: FakeRead[] = [];
  /** Reads that waited. */
  readonly reads: FakeRead[] = [];
  readonly #contents = new Map<string, { readonly sizeBytes: number; readonly bytes: Uint8Array }>();

  /** The map of a file; `sizeBytes` may exceed the bytes, which zeros then follow. */
  addFile(bytes: Uint8Array, sizeBytes = bytes.length): FileMap {
    const id = String(this.#contents.size + 1).padStart(32, '0');
    this.#contents.set(id, { sizeBytes, bytes: Uint8Array.from(bytes) });
    const root =
      bytes.length === 0
        ? 'zero'
        : {
            packId: id as PackId,
            offsetBytes: 0,
            sealedBytes: 1,
            counter: 1,
            id: id as BlobId,
          };
    return { sizeBytes, chunkBytes, height: 0, root };
  }

  readonly openFile = (map: FileMap): BaseFile => {
    const content = map.root === 'zero' ? undefined : this.#contents.get(map.root.id);
    const bytes = content?.bytes ?? new Uint8Array();
    const fill = (offsetBytes: number, into: Uint8Array): void => {
      into.fill(0);
      into.set(bytes.subarray(offsetBytes, offsetBytes + into.length));
    };
    const find = (sought: SoughtBytes, startBytes: number, endBytes: number): number => {
      for (let at = startBytes - (startBytes % chunkBytes); at < endBytes; at += chunkBytes) {
        const chunk = bytes.subarray(at, at + chunkBytes);
        const isHole = at >= map.sizeBytes || chunk.every((byte) => byte === 0);
        if (isHole === (sought === 'hole')) return Math.max(at, startBytes);
        if (sought === 'data' && at >= bytes.length) break;
      }
      return sought === 'hole' ? Math.min(Math.max(map.sizeBytes, startBytes), endBytes) : endBytes;
    };
    return {
      map,
      findSync: (sought, startBytes, endBytes) =>
        this.inMemory(startBytes, endBytes - startBytes) ? find(sought, startBytes, endBytes) : undefined,
      find: async (sought, startBytes, endBytes, options) => {
        await this.beforeRead({ offsetBytes: startBytes, lengthBytes: endBytes - startBytes, options });
        return find(sought, startBytes, endBytes);
      },
      readSync: (offsetBytes, into) => {
        if (!this.inMemory(offsetBytes, into.length)) {
          into.fill(0xee);
          return false;
        }
        fill(offsetBytes, into);
        return true;
      },
      resident: () => (map.root === 'zero' ? 'zero' : undefined),
      isLocal: (offsetBytes, lengthBytes) => this.isLocal(offsetBytes, lengthBytes),
      read: async (offsetBytes, into, options) => {
        const read = { offsetBytes, lengthBytes: into.length, options };
        this.reads.push(read);
        await this.beforeRead(read);
        fill(offsetBytes, into);
      },
      residency: () => Promise.resolve({ chunks: 0, localChunks: 0 }),
      placedChunks: () => {
        throw new Error('a file system does not ask which chunks there are');
      },
      changedSince: () => {
        throw new Error('a file system knows of no earlier version');
      },
      chunk: () => Promise.reject(new Error('a file system does not ask where chunks lie')),
      warm: (offsetBytes, lengthBytes, options) => {
        this.warmed.push({ offsetBytes, lengthBytes, options });
        return this.duringWarm().then(() => ({ chunks: 0, fetchedChunks: 0, fetchedBytes: 0 }));
      },
    };
  };
}

export type TreeNode =
  | { readonly file: FileMap }
  | { readonly directory: Readonly<Record<string, TreeNode>> }
  | { readonly symlink: string };

/** The manifest of a directory tree; all inodes belong to user 1000. */
export function manifestOf(tree: Readonly<Record<string, TreeNode>>, timeNs = 1n): Manifest {
  const inodes = new Map<number, ManifestInode>();
  let next = 1;
  const add = (node: TreeNode): number => {
    const number = next++;
    const metadata = {
      number,
      permissions: 'directory' in node ? 0o755 : 0o644,
      uid: 1000,
      gid: 1000,
      accessTimeNs: timeNs,
      modifyTimeNs: timeNs,
      changeTimeNs: timeNs,
      extendedAttributes: new Map<string, Uint8Array>(),
    };
    if ('file' in node) inodes.set(number, { ...metadata, kind: 'file', content: node.file });
    else if ('symlink' in node) inodes.set(number, { ...metadata, kind: 'symlink', target: node.symlink });
    else {
      const entries = new Map<string, number>();
      inodes.set(number, { ...metadata, kind: 'directory', entries });
      for (const [name, child] of Object.entries(node.directory)) entries.set(name, add(child));
    }
    return number;
  };
  add({ directory: tree });
  return { inodes };
}
