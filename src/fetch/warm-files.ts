import { InvalidInput, type ProgressListener } from '../base/index.js';
import type { FileMap, Manifest } from '../repo/index.js';
import type { Fetcher, WarmResult } from './types.js';

/** What to make local: a part of a file, a file, or everything. */
export interface WarmRequest {
  /** Path within the VM's directory; undefined: every file. */
  readonly file: string | undefined;
  /** Undefined: all of it. */
  readonly range: { readonly offsetBytes: number; readonly lengthBytes: number } | undefined;
}

/**
 * Fetches files of a version into the local cache, in the background class: demand always goes first. Safe to
 * interrupt and to repeat: what is local already costs nothing. Progress counts logical bytes of chunks that are not zero.
 *
 * @throws InvalidInput for a file that the version does not have
 */
export async function warmFiles(
  manifest: Manifest,
  fetcher: Fetcher,
  request: WarmRequest,
  options: { readonly signal?: AbortSignal; readonly onProgress?: ProgressListener },
): Promise<WarmResult & { readonly seconds: number }> {
  const startedMs = performance.now();
  const total = { chunks: 0, fetchedChunks: 0, fetchedBytes: 0 };
  let doneBytes = 0;
  for (const [path, map] of chosenFiles(manifest, request.file)) {
    const { offsetBytes, lengthBytes } = request.range ?? { offsetBytes: 0, lengthBytes: map.sizeBytes };
    const warmed = await fetcher.openFile(map).warm(offsetBytes, lengthBytes, {
      fetchClass: 'background',
      onChunk: () => {
        doneBytes += map.chunkBytes;
        options.onProgress?.({ doneBytes, totalBytes: undefined, detail: path });
      },
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    total.chunks += warmed.chunks;
    total.fetchedChunks += warmed.fetchedChunks;
    total.fetchedBytes += warmed.fetchedBytes;
  }
  return { ...total, seconds: (performance.now() - startedMs) / 1000 };
}

function chosenFiles(manifest: Manifest, wanted: string | undefined): ReadonlyMap<string, FileMap> {
  const files = new Map<string, FileMap>();
  collectFiles(manifest, rootNumber, '', files);
  if (wanted === undefined) return files;
  const map = files.get(wanted);
  if (map === undefined) {
    throw new InvalidInput(`The version has no file ${wanted}.`, {
      facts: { file: wanted },
      remedy: 'Name a file by its path within the VM directory.',
    });
  }
  return new Map([[wanted, map]]);
}

/** The VM directory itself. */
const rootNumber = 1;

function collectFiles(manifest: Manifest, number: number, path: string, files: Map<string, FileMap>): void {
  const inode = manifest.inodes.get(number);
  if (inode?.kind === 'file') files.set(path, inode.content);
  if (inode?.kind !== 'directory') return;
  for (const [name, child] of inode.entries) {
    collectFiles(manifest, child, path === '' ? name : `${path}/${name}`, files);
  }
}
