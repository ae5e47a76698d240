import { mkdtemp, readdir, realpath, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { Cancelled, systemErrorCode, type ProgressListener } from '../base/index.js';
import { ExportFailed, TargetNotEmpty } from './export/errors.js';
import { syncDirectory } from './export/sync-directory.js';
import { TreeWriter, type WrittenTree } from './export/tree-writer.js';
import { loadManifest } from './load-manifest.js';
import type { BlobReader, CommitDraft } from './types.js';

export interface ExportRequest {
  /** A version's commit, or a branch's. */
  readonly commit: CommitDraft;
  readonly reader: BlobReader;
  /** Must not exist, or be an empty directory; its parent must exist. */
  readonly targetDirectory: string;
  /** In bytes of the files, holes included. */
  readonly onProgress?: ProgressListener;
  readonly signal?: AbortSignal;
}

/**
 * Writes a version out as plain files: sparse, every byte verified, with permissions, times, links, extended
 * attributes and (as root) owners. The target appears complete and durable, or not at all: everything is written
 * beside it, into `TARGET.partial-…`, which is removed on failure.
 *
 * Rejects with `TargetNotEmpty`, `ExportFailed` (the local file system), `Cancelled`, and what the reader rejects with.
 * Memory: `limits.exportChunksInFlight` chunks, `limits.mapCacheBytes` of map nodes, the manifest.
 */
export async function exportVersion(request: ExportRequest): Promise<WrittenTree> {
  const { commit, reader, onProgress, signal } = request;
  return explained(request.targetDirectory, async () => {
    const target = await checkedTarget(request.targetDirectory);
    const manifest = await loadManifest(commit.manifest, reader, signal === undefined ? {} : { signal });
    const partial = await mkdtemp(join(dirname(target), `${basename(target)}.partial-`));
    try {
      const written = await new TreeWriter({ manifest, reader, onProgress, signal }).write(partial);
      if (signal?.aborted === true) throw new Cancelled('The export');
      await rename(partial, target);
      await syncDirectory(dirname(target));
      return written;
    } catch (error) {
      await rm(partial, { recursive: true, force: true });
      throw error;
    }
  });
}

/** The absolute path, links resolved, of a directory that may come to be there. */
async function checkedTarget(path: string): Promise<string> {
  try {
    const target = await realpath(path);
    if ((await readdir(target)).length > 0) throw new TargetNotEmpty(path);
    return target;
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === 'ENOENT') return join(await realpath(dirname(resolve(path))), basename(resolve(path)));
    if (code === 'ENOTDIR') throw new TargetNotEmpty(path);
    throw error;
  }
}

/** The local file system's errors as one sentence. Errors of a reader are not system errors. */
async function explained<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Error && systemErrorCode(error) !== undefined) throw new ExportFailed(path, error);
    throw error;
  }
}
