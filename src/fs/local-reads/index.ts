/** Reads of local data on other threads than the file system's. */
export { FileWindows } from './file-windows.js';
export { LocalReader, unknown } from './reader.js';
export { LocalReadTable, windowBytes, type SharedLocalReads } from './table.js';
