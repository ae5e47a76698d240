/**
 * Chunks in memory as every thread sees them: cells of equal size that hold one chunk each, and a sequence number for each
 * cell, odd while the cell is being filled. One thread fills cells: it makes the number odd before the first byte changes,
 * and even again, and higher, after the last one.
 */
export interface SharedChunkCells {
  readonly cellBytes: number;
  readonly cells: SharedArrayBuffer;
  readonly sequences: SharedArrayBuffer;
}

/** Where a chunk lies: for as long as the cell's sequence number is this one. */
export interface ChunkPlace {
  readonly cell: number;
  readonly sequence: number;
}

/** No chunk at all. */
export const noChunkCells: SharedChunkCells = {
  cellBytes: 0,
  cells: new SharedArrayBuffer(0),
  sequences: new SharedArrayBuffer(0),
};

/**
 * Whether a cell still held what a place says after everything that was copied from it before this call. The exchange
 * writes, if only what is there already: a processor may let a mere load overtake the copying that it is to prove right.
 */
export function isStillThere(sequences: Int32Array, { cell, sequence }: ChunkPlace): boolean {
  return Atomics.compareExchange(sequences, cell, sequence, sequence) === sequence;
}
