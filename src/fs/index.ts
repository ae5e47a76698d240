/** The file system that a VM sees: name space, attributes, and a copy-on-write overlay over a version. Knows no engine. */
export {
  FileSystemBusy,
  FileSystemError,
  OverlayDamaged,
  OverlayFormatUnknown,
  OverlayMismatch,
} from './errors.js';
export {
  discardOverlay,
  overlayExists,
  readOverlaySummary,
  type OverlaySummary,
} from './overlay-directory.js';
export type { QuietChunks } from './quiet-chunks.js';
export type { TouchListener } from './first-touches.js';
export type { AnnouncedCommits } from './records.js';
export { notLocal, rootInode } from './types.js';
export type {
  AllocateMode,
  AttributeChanges,
  Attributes,
  Caller,
  DirectoryEntry,
  ErrnoName,
  ExtendedAttributeMode,
  FilePosition,
  FileSystem,
  FileSystemUsage,
  HandleId,
  InodeNumber,
  ReadIntent,
  Recalled,
  RenameMode,
  RequestId,
} from './types.js';
export { openOverlay, VmFileSystem, type OpenOverlayOptions } from './vm-file-system.js';
