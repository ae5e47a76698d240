import { Cancelled, limits, type ProgressListener } from '../base/index.js';
import type { RequestOptions } from '../store/index.js';
import { NodeCache } from './chunk-map/node-cache.js';
import { chunksBelow, type PlacedChunk } from './chunk-map/shape.js';
import type { MapNode } from './format/map-node.js';
import { packKey } from './format/object-keys.js';
import { loadManifest } from './load-manifest.js';
import { manifestPaths } from './manifest-paths.js';
import type { Repository } from './repository.js';
import { throttled } from './throttled.js';
import type { BlobReference, CommitDraft, FileMap, Manifest, MapEntry } from './types.js';
import { BlobChecker } from './verify/blob-checker.js';
import { problemOf } from './verify/problem.js';
import { DamageList, type Damage } from './verify/report.js';

export interface VerifyRequest {
  readonly repository: Repository;
  /** A version's commit, or a branch's. */
  readonly commit: CommitDraft;
  /** In bytes of the files, holes included. */
  readonly onProgress?: ProgressListener;
  readonly signal?: AbortSignal;
}

export interface VerifyReport {
  /** Whether every byte of the version can be read back, and every pack that it needs is whole. */
  readonly intact: boolean;
  readonly files: number;
  readonly checkedBlobs: number;
  readonly checkedSealedBytes: number;
  readonly damages: readonly Damage[];
  /** Damages beyond `limits.verifyDamagesListed`. */
  readonly omittedDamages: number;
}

/**
 * Reads and authenticates everything that a version needs: manifest, map nodes, chunks (ids are computed again from the
 * content), and the header and index of every pack. Goes on after damage, and reports what it affects.
 *
 * Rejects with `Cancelled`, and where the store cannot be asked (`StoreUnreachable`, `StoreRefused`).
 * Memory: see `BlobChecker`, and `limits.mapCacheBytes` of map nodes.
 */
export async function verifyVersion(request: VerifyRequest): Promise<VerifyReport> {
  const { repository, commit, signal } = request;
  const damages = new DamageList();
  const requestOptions: RequestOptions = signal === undefined ? {} : { signal };
  const checker = new BlobChecker(repository, requestOptions, (problem) => {
    damages.add(problem, 'pack', undefined);
  });
  let files = 0;
  try {
    const manifest = await loadManifest(commit.manifest, checker);
    files = await new VersionCheck(manifest, checker, damages, request).run();
  } catch (error) {
    damages.add(problemOf(error, packKey(commit.manifest.packId)), 'manifest', undefined);
  }
  const { blobs: checkedBlobs, sealedBytes: checkedSealedBytes } = checker.totals;
  const intact = damages.listed.length === 0;
  return {
    intact,
    files,
    checkedBlobs,
    checkedSealedBytes,
    damages: damages.listed,
    omittedDamages: damages.omitted,
  };
}

interface FileToCheck {
  readonly path: string;
  readonly map: FileMap;
}

class VersionCheck {
  readonly #files: readonly FileToCheck[];
  readonly #checker: BlobChecker;
  readonly #damages: DamageList;
  readonly #nodes = new NodeCache();
  readonly #report: ProgressListener;
  readonly #signal: AbortSignal | undefined;
  readonly #totalBytes: number;

  constructor(manifest: Manifest, checker: BlobChecker, damages: DamageList, request: VerifyRequest) {
    const paths = manifestPaths(manifest);
    this.#files = [...manifest.inodes.values()].flatMap((inode) =>
      inode.kind === 'file' ? [{ path: paths.get(inode.number) ?? '', map: inode.content }] : [],
    );
    this.#totalBytes = this.#files.reduce((total, { map }) => total + map.sizeBytes, 0);
    this.#checker = checker;
    this.#damages = damages;
    this.#report = throttled(request.onProgress);
    this.#signal = request.signal;
  }

  /** How many files were checked. */
  async run(): Promise<number> {
    let earlierBytes = 0;
    for (const file of this.#files) {
      await this.#checkFile(file, earlierBytes);
      earlierBytes += file.map.sizeBytes;
      this.#report({ doneBytes: earlierBytes, totalBytes: this.#totalBytes, detail: file.path });
    }
    return this.#files.length;
  }

  async #checkFile(file: FileToCheck, earlierBytes: number): Promise<void> {
    let window: PlacedChunk[] = [];
    for await (const chunk of this.#chunks(file, file.map.root, file.map.height, 0)) {
      window.push(chunk);
      if (window.length < limits.verifyWindowChunks) continue;
      await this.#checkWindow(file, window);
      const doneBytes = earlierBytes + chunk.index * file.map.chunkBytes;
      this.#report({ doneBytes, totalBytes: this.#totalBytes, detail: file.path });
      window = [];
    }
    await this.#checkWindow(file, window);
  }

  async #checkWindow(file: FileToCheck, window: readonly PlacedChunk[]): Promise<void> {
    if (this.#signal?.aborted === true) throw new Cancelled('Verifying');
    const references = window.map(({ reference }) => reference);
    const outcomes = await this.#checker.checkChunks(references, file.map.chunkBytes);
    for (const [position, outcome] of outcomes.entries()) {
      const chunk = window[position];
      if (outcome === 'intact' || chunk === undefined) continue;
      this.#damages.add(outcome, 'chunk', rangeOf(file, chunk.index, 1));
    }
  }

  /** The chunks below an entry that are not zero. Of a node that cannot be read, none, and the damage is noted. */
  async *#chunks(
    file: FileToCheck,
    entry: MapEntry,
    height: number,
    first: number,
  ): AsyncGenerator<PlacedChunk, void> {
    if (entry === 'zero') return;
    if (height === 0) {
      yield { index: first, reference: entry };
      return;
    }
    const node = await this.#node(file, entry, height, first);
    if (node === undefined) return;
    const childSpan = chunksBelow(height - 1);
    for (let child = 0; child < limits.mapNodeEntries; child += 1) {
      if (!node.isZero(child)) {
        yield* this.#chunks(file, node.entry(child), height - 1, first + child * childSpan);
      }
    }
  }

  async #node(
    file: FileToCheck,
    reference: BlobReference,
    height: number,
    first: number,
  ): Promise<MapNode | undefined> {
    try {
      return await this.#nodes.load(reference, this.#checker);
    } catch (error) {
      const problem = problemOf(error, packKey(reference.packId));
      this.#damages.add(problem, 'map-node', rangeOf(file, first, chunksBelow(height)));
      return undefined;
    }
  }
}

/** Bytes of a file that some chunks hold. */
function rangeOf({ path, map }: FileToCheck, first: number, count: number): Damage['file'] {
  const offsetBytes = first * map.chunkBytes;
  const endBytes = Math.min((first + count) * map.chunkBytes, map.sizeBytes);
  return { path, offsetBytes, lengthBytes: Math.max(0, endBytes - offsetBytes) };
}
