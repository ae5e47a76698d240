import { limits } from '../../base/index.js';
import { chunkCount } from '../chunk-map/shape.js';
import { manifestPaths } from '../manifest-paths.js';
import { packRanges } from '../pack-ranges.js';
import type { BlobReference, ChangedRange, SourceFile, SourceInode, Touch } from '../types.js';

/** A chunk that a resume is expected to want. */
export type WantedChunk = Pick<Touch, 'path' | 'chunkIndex'>;

/** A chunk of a source. */
export interface SourceChunk {
  readonly file: SourceFile;
  readonly index: number;
}

/** Consecutive chunks of one file. */
export interface SourceRun {
  readonly file: SourceFile;
  readonly first: number;
  readonly count: number;
}

/** Chunks that a resume is expected to want, in that order. */
export interface Layout {
  /** Those that may have changed. */
  readonly changed: readonly SourceChunk[];
  /** Those that did not, and lie where the base has them. */
  readonly unchanged: readonly SourceChunk[];
}

/** What of the wanted chunks a source has; those that it says are zero are left out. */
export async function findLayout(
  wanted: readonly WantedChunk[],
  inodes: readonly SourceInode[],
  changedRanges: (file: SourceFile) => AsyncIterable<ChangedRange>,
  chunkBytes: number,
): Promise<Layout> {
  const files = filesByPath(inodes);
  const chunks = wanted.flatMap(({ path, chunkIndex: index }): SourceChunk[] => {
    const file = files.get(path);
    return file !== undefined && index < chunkCount(file.sizeBytes, chunkBytes) ? [{ file, index }] : [];
  });
  const indexes = new Map<SourceFile, number[]>();
  for (const { file, index } of chunks) {
    const ofFile = indexes.get(file);
    if (ofFile === undefined) indexes.set(file, [index]);
    else ofFile.push(index);
  }
  const changes = new Map<SourceFile, ReadonlyMap<number, 'data' | 'zero'>>();
  for (const [file, ofFile] of indexes) changes.set(file, await changesAmong(ofFile, changedRanges(file)));
  const changeOf = ({ file, index }: SourceChunk) => changes.get(file)?.get(index);
  return {
    changed: chunks.filter((chunk) => changeOf(chunk) === 'data'),
    unchanged: chunks.filter((chunk) => changeOf(chunk) === undefined),
  };
}

function filesByPath(inodes: readonly SourceInode[]): ReadonlyMap<string, SourceFile> {
  const byNumber = new Map(inodes.map((inode) => [inode.number, inode]));
  const files = new Map<string, SourceFile>();
  for (const [number, path] of manifestPaths({ inodes: byNumber })) {
    const inode = byNumber.get(number);
    if (inode?.kind === 'file') files.set(path, inode.content);
  }
  return files;
}

async function changesAmong(
  indexes: readonly number[],
  ranges: AsyncIterable<ChangedRange>,
): Promise<ReadonlyMap<number, 'data' | 'zero'>> {
  const ascending = [...indexes].sort((one, other) => one - other);
  const changes = new Map<number, 'data' | 'zero'>();
  let position = 0;
  for await (const { first, count, zero } of ranges) {
    while ((ascending[position] ?? Infinity) < first) position += 1;
    for (; position < ascending.length; position += 1) {
      const index = ascending[position];
      if (index === undefined || index >= first + count) break;
      changes.set(index, zero === true ? 'zero' : 'data');
    }
  }
  return changes;
}

/** Chunks in their order, those that follow each other in a file together. */
export function* runsOf(chunks: readonly SourceChunk[], chunksPerRun: number): Generator<SourceRun, void> {
  let run: { readonly file: SourceFile; readonly first: number; count: number } | undefined;
  for (const { file, index } of chunks) {
    if (run?.file === file && index === run.first + run.count && run.count < chunksPerRun) {
      run.count += 1;
      continue;
    }
    if (run !== undefined) yield run;
    run = { file, first: index, count: 1 };
  }
  if (run !== undefined) yield run;
}

/** A chunk that did not change, and where it is. */
export interface PlacedSourceChunk extends SourceChunk {
  readonly reference: BlobReference;
}

/**
 * Which chunks are worth their bytes if they are stored again: those that cost a request of their own because nothing else
 * that is wanted lies near. The smallest groups first, since each costs one request, until `budgetBytes` are spent.
 */
export function chooseRewrites(
  chunks: readonly PlacedSourceChunk[],
  budgetBytes: number,
): readonly PlacedSourceChunk[] {
  const byPlace = new Map(chunks.map((chunk) => [placeOf(chunk.reference), chunk.reference]));
  const groups = [
    ...packRanges([...byPlace.values()], { gapBytes: limits.warmGapBytes, rangeBytes: Infinity }),
  ].map(({ references }) => ({
    references,
    sealedBytes: references.reduce((sum, { sealedBytes }) => sum + sealedBytes, 0),
  }));
  const chosen = new Set<string>();
  let spentBytes = 0;
  for (const { references, sealedBytes } of groups.sort(
    (one, other) => one.sealedBytes - other.sealedBytes,
  )) {
    spentBytes += sealedBytes;
    if (spentBytes > budgetBytes) break;
    for (const reference of references) chosen.add(placeOf(reference));
  }
  return chunks.filter(({ reference }) => chosen.has(placeOf(reference)));
}

function placeOf({ packId, counter }: BlobReference): string {
  return `${packId} ${counter}`;
}
