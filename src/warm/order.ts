import { limits } from '../base/index.js';
import type { FetchOptions } from '../fetch/index.js';
import type { BlobReference, PlacedChunk, TraceEntry } from '../repo/index.js';
import { ageInResumes, likelyTouches, timesSeen } from '../trace/index.js';
import { ChunkSet } from './chunk-set.js';
import type { WarmScope, WarmStage, WarmVersion } from './types.js';
import { fileAt, filesOf, type VersionFile } from './version-files.js';

/** A chunk that is to be local, and why. */
export interface WantedChunk {
  readonly stage: WarmStage;
  readonly path: string;
  readonly chunkIndex: number;
  readonly reference: BlobReference;
}

/** What is fetched of a version for a scope: the stages in this order. */
const stagesOf = {
  traced: ['trace'],
  untraced: ['small', 'written'],
  all: ['trace', 'small', 'seen', 'written', 'rest'],
} as const;

/**
 * The chunks of a scope, those first that will most likely be wanted; none twice. Zeros are left out. Loads map nodes, and the
 * earlier version where that matters. Rejects as `BaseFile.chunk` does; `InvalidInput` for a file that is not there.
 */
export async function* warmOrder(
  version: WarmVersion,
  scope: WarmScope,
  options: FetchOptions,
): AsyncGenerator<WantedChunk, void> {
  if (scope.kind === 'file') {
    const { path, range } = scope;
    const map = fileAt(version.manifest, path);
    const { offsetBytes, lengthBytes } = range ?? { offsetBytes: 0, lengthBytes: map.sizeBytes };
    const chunks = version.fetcher.openFile(map).placedChunks(offsetBytes, lengthBytes, options);
    for await (const { index, reference } of chunks)
      yield { stage: 'file', path, chunkIndex: index, reference };
    return;
  }
  const order = new LikelihoodOrder(version, options);
  const working = version.trace === undefined ? stagesOf.untraced : stagesOf.traced;
  for (const stage of scope.kind === 'all' ? stagesOf.all : working) yield* order.stage(stage);
}

class LikelihoodOrder {
  readonly #version: WarmVersion;
  readonly #options: FetchOptions;
  readonly #files: ReadonlyMap<string, VersionFile>;
  readonly #done = new ChunkSet();

  constructor(version: WarmVersion, options: FetchOptions) {
    this.#version = version;
    this.#options = options;
    this.#files = filesOf(version.manifest);
  }

  stage(stage: Exclude<WarmStage, 'file'>): AsyncGenerator<WantedChunk, void> {
    const { trace } = this.#version;
    switch (stage) {
      case 'trace':
        return this.#touched(stage, trace === undefined ? [] : likelyTouches(trace));
      case 'seen':
        return this.#touched(stage, (trace?.entries ?? []).toSorted(byWorth));
      case 'small':
        return this.#whole(stage, this.#recent.filter(isSmall));
      case 'written':
        return this.#written();
      case 'rest':
        return this.#whole(stage, this.#byTouches);
    }
  }

  async *#touched(stage: WarmStage, entries: readonly TraceEntry[]): AsyncGenerator<WantedChunk, void> {
    const { fetcher } = this.#version;
    const open = new Map([...this.#files].map(([path, { map }]) => [path, fetcher.openFile(map)]));
    for (const { path, chunkIndex } of entries) {
      const reference = await open.get(path)?.chunk(chunkIndex, this.#options);
      if (reference === undefined || reference === 'zero' || !this.#done.add(path, chunkIndex)) continue;
      yield { stage, path, chunkIndex, reference };
    }
  }

  async *#written(): AsyncGenerator<WantedChunk, void> {
    const earlier = await this.#version.earlier();
    const before = earlier === undefined ? undefined : filesOf(earlier);
    for (const { path, map } of this.#recent) {
      const file = this.#version.fetcher.openFile(map);
      const earlierMap = before?.get(path)?.map;
      const chunks =
        earlierMap?.chunkBytes === map.chunkBytes
          ? file.changedSince(earlierMap, this.#options)
          : file.placedChunks(0, map.sizeBytes, this.#options);
      yield* this.#newOf('written', path, chunks);
    }
  }

  async *#whole(stage: WarmStage, files: readonly VersionFile[]): AsyncGenerator<WantedChunk, void> {
    for (const { path, map } of files) {
      const chunks = this.#version.fetcher.openFile(map).placedChunks(0, map.sizeBytes, this.#options);
      yield* this.#newOf(stage, path, chunks);
    }
  }

  async *#newOf(
    stage: WarmStage,
    path: string,
    chunks: AsyncIterable<PlacedChunk>,
  ): AsyncGenerator<WantedChunk, void> {
    for await (const { index, reference } of chunks) {
      if (this.#done.add(path, index)) yield { stage, path, chunkIndex: index, reference };
    }
  }

  /** Most recently written first: the device state, then memory and disks. */
  get #recent(): readonly VersionFile[] {
    return [...this.#files.values()].sort(byRecency);
  }

  /** Those of which resumes touched the largest part first. */
  get #byTouches(): readonly VersionFile[] {
    const touches = new Map<string, number>();
    for (const { path } of this.#version.trace?.entries ?? [])
      touches.set(path, (touches.get(path) ?? 0) + 1);
    const density = ({ path, map }: VersionFile) => (touches.get(path) ?? 0) / Math.max(1, map.sizeBytes);
    return this.#recent.toSorted((one, other) => density(other) - density(one));
  }
}

function isSmall({ map }: VersionFile): boolean {
  return map.sizeBytes <= limits.warmSmallFileBytes;
}

function byRecency(one: VersionFile, other: VersionFile): number {
  if (one.modifyTimeNs !== other.modifyTimeNs) return one.modifyTimeNs > other.modifyTimeNs ? -1 : 1;
  return one.map.sizeBytes - other.map.sizeBytes;
}

function byWorth(one: TraceEntry, other: TraceEntry): number {
  return timesSeen(other) - timesSeen(one) || ageInResumes(one) - ageInResumes(other);
}
