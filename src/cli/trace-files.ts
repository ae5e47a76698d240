import type { Trace, TraceEntry } from '../repo/index.js';

/** The chunks of one file that a trace names. */
export interface TracedFile {
  readonly path: string;
  readonly entries: readonly TraceEntry[];
  /** Up to the last chunk that is named; the file may be longer. */
  readonly chunks: number;
}

/** The files of a trace, those with the most chunks first. */
export function filesOfTrace({ entries }: Trace): readonly TracedFile[] {
  const byPath = new Map<string, TraceEntry[]>();
  for (const entry of entries) {
    const ofFile = byPath.get(entry.path);
    if (ofFile === undefined) byPath.set(entry.path, [entry]);
    else ofFile.push(entry);
  }
  return [...byPath]
    .map(([path, ofFile]) => {
      const last = ofFile.reduce((most, { chunkIndex }) => Math.max(most, chunkIndex), 0);
      return { path, entries: ofFile, chunks: last + 1 };
    })
    .sort((one, other) => other.entries.length - one.entries.length);
}

export function lastTouchMs({ entries }: Trace): number {
  return entries.reduce((last, { atMs }) => Math.max(last, atMs), 0);
}
