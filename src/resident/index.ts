/** Local data that any thread may read in place: a table of what lies where, and chunks in shared memory. Imports nothing: threads that serve requests load it. */
export { isStillThere, noChunkCells, type ChunkPlace, type SharedChunkCells } from './chunk-cells.js';
export { LocalReader, unknownLocally } from './reader.js';
export {
  LocalReadTable,
  windowBytes,
  windowPages,
  type EntryOwner,
  type SharedLocalReads,
  type WindowState,
} from './table.js';
