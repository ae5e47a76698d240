import type { FileContent } from './file-content.js';
import { pageBytes } from './page-bitmap.js';
import type { StoredInode } from './records.js';
import type { Attributes, InodeNumber } from './types.js';

interface InodeCommon {
  readonly number: InodeNumber;
  permissions: number;
  uid: number;
  gid: number;
  /** Names; for a directory: its own name and `.`, and the `..` of the directories in it. */
  linkCount: number;
  accessTimeNs: bigint;
  modifyTimeNs: bigint;
  changeTimeNs: bigint;
  readonly extendedAttributes: Map<string, Buffer>;
  /** See `FileSystem.hold`. */
  held: boolean;
  origin: StoredInode['origin'];
}

export interface FileInode extends InodeCommon {
  readonly kind: 'file';
  readonly content: FileContent;
  openHandles: number;
  /** Times in memory that no record has. */
  timesUnrecorded: boolean;
}

export interface DirectoryInode extends InodeCommon {
  readonly kind: 'directory';
  readonly entries: Map<string, Inode>;
  /** The root has none. */
  parent: DirectoryInode | undefined;
}

export interface SymlinkInode extends InodeCommon {
  readonly kind: 'symlink';
  readonly target: string;
}

export interface FifoInode extends InodeCommon {
  readonly kind: 'fifo';
}

export type Inode = FileInode | DirectoryInode | SymlinkInode | FifoInode;

/** File types of `st_mode`, see inode(7). */
export const modeTypes = {
  mask: 0o170000,
  fifo: 0o010000,
  directory: 0o040000,
  file: 0o100000,
  symlink: 0o120000,
} as const;

export const setGroupId = 0o2000;

export function attributesOf(inode: Inode): Attributes {
  return {
    inode: inode.number,
    mode: modeTypes[inode.kind] | inode.permissions,
    linkCount: isUnlinked(inode) ? 0 : inode.linkCount,
    uid: inode.uid,
    gid: inode.gid,
    sizeBytes: sizeOf(inode),
    // Costs a system call, and most calls do not ask for it.
    get blocks() {
      return inode.kind === 'file' ? blocksOf(inode.content) : 0;
    },
    accessTimeNs: inode.accessTimeNs,
    modifyTimeNs: inode.modifyTimeNs,
    changeTimeNs: inode.changeTimeNs,
  };
}

/** Without a name. A directory still counts its `.`. */
export function isUnlinked(inode: Inode): boolean {
  return inode.linkCount === (inode.kind === 'directory' ? 1 : 0);
}

function blocksOf(content: FileContent): number {
  const least = content.pages.count > 0 || content.baseHasData ? pageBytes / 512 : 0;
  return Math.max(content.data.blocks(), least);
}

function sizeOf(inode: Inode): number {
  switch (inode.kind) {
    case 'file':
      return inode.content.sizeBytes;
    case 'symlink':
      return Buffer.byteLength(inode.target);
    case 'directory':
    case 'fifo':
      return 0;
  }
}
