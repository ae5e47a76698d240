import type { ChangedRange, MapEntry, SourceFile } from '../types.js';
import { chunkCount } from '../chunk-map/shape.js';

/** What became of a chunk that was stored ahead of its file. */
export type LaidOut = MapEntry | 'unchanged';

/**
 * What the source says has changed. A file that was cut within a chunk has changed there too: the base's chunk holds
 * bytes past the new end.
 */
export async function* changedRanges(
  file: SourceFile,
  chunkBytes: number,
): AsyncGenerator<ChangedRange, void> {
  const chunks = chunkCount(file.sizeBytes, chunkBytes);
  let reported = 0;
  for await (const range of file.changedChunks()) {
    yield range;
    reported = range.first + range.count;
  }
  const isCut =
    file.base !== undefined && file.base.sizeBytes > file.sizeBytes && file.sizeBytes % chunkBytes > 0;
  if (isCut && reported < chunks) yield { first: chunks - 1, count: 1 };
}

export interface RangeOrLaidOut extends ChangedRange {
  /** Of a single chunk that is stored already. */
  readonly entry?: LaidOut;
}

/** The ranges with chunks that were stored ahead taken out of them and put in their place; both ascend. */
export async function* withLaidOut(
  laidOut: readonly (readonly [index: number, entry: LaidOut])[],
  ranges: AsyncIterable<ChangedRange>,
): AsyncGenerator<RangeOrLaidOut, void> {
  let position = 0;
  for await (const { first, count, ...range } of ranges) {
    let begin = first;
    for (; position < laidOut.length; position += 1) {
      const next = laidOut[position];
      if (next === undefined || next[0] >= first + count) break;
      const [index, entry] = next;
      if (index > begin) yield { ...range, first: begin, count: index - begin };
      yield { first: index, count: 1, entry };
      begin = Math.max(begin, index + 1);
    }
    if (begin < first + count) yield { ...range, first: begin, count: first + count - begin };
  }
  for (const [index, entry] of laidOut.slice(position)) yield { first: index, count: 1, entry };
}
