/** The file system that a VM sees: name space, attributes, and a copy-on-write overlay over a version. Knows no engine. */
export { FileSystemError } from './errors.js';
export { notLocal, rootInode } from './types.js';
export type {
  AllocateMode,
  AttributeChanges,
  Attributes,
  Caller,
  DirectoryEntry,
  ErrnoName,
  ExtendedAttributeMode,
  FileSystem,
  FileSystemUsage,
  HandleId,
  InodeNumber,
  RenameMode,
} from './types.js';
