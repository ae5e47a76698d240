import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import {
  ChunkMap,
  chunkCount,
  NodeCache,
  type BlobKind,
  type BlobReader,
  type BlobReference,
  type FileMap,
  type Manifest,
} from '../repo/index.js';
import type { Fetcher, FetchOptions } from './types.js';

/** A blob of a version. */
export interface VersionBlob {
  readonly reference: BlobReference;
  readonly kind: BlobKind;
}

/** Nodes of one file that are kept while its map is walked: each is asked for once. */
const nodesKeptBytes = 1024 * 1024;

const blobsPerTurn = 4096;

/**
 * What a version needs to be used without the store: its manifest, then for each file the nodes of its chunk map and its
 * chunks. Blobs that several files share come several times. Loads map nodes, no chunks. Rejects as `Fetcher.readBlob` does.
 */
export async function* versionBlobs(
  version: { readonly manifest: Manifest; readonly reference: BlobReference },
  fetcher: Fetcher,
  options: FetchOptions,
): AsyncGenerator<VersionBlob, void> {
  yield { reference: version.reference, kind: 'manifest' };
  let blobs = 0;
  for (const inode of version.manifest.inodes.values()) {
    if (inode.kind !== 'file') continue;
    for await (const blob of fileBlobs(inode.content, fetcher, options)) {
      yield blob;
      if (++blobs % blobsPerTurn === 0) await eventLoopTurn();
    }
  }
}

async function* fileBlobs(
  map: FileMap,
  fetcher: Fetcher,
  { fetchClass, signal }: FetchOptions,
): AsyncGenerator<VersionBlob, void> {
  const nodes: BlobReference[] = [];
  const reader: BlobReader = {
    readBlob: (reference, kind, options) => {
      nodes.push(reference);
      return fetcher.readBlob(reference, kind, { ...options, fetchClass });
    },
  };
  const chunks = new ChunkMap(map, reader, new NodeCache(nodesKeptBytes));
  const count = chunkCount(map.sizeBytes, map.chunkBytes);
  const entries = chunks.entries(0, count, signal === undefined ? {} : { signal });
  for await (const { reference } of entries) {
    for (const node of nodes.splice(0)) yield { reference: node, kind: 'map-node' };
    yield { reference, kind: 'chunk' };
  }
  for (const node of nodes) yield { reference: node, kind: 'map-node' };
}
