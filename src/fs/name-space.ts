import { limits } from '../base/index.js';
import { FileSystemError } from './errors.js';
import { isUnlinked, setGroupId, type DirectoryInode, type Inode } from './inode.js';
import type { InodeTable } from './inode-table.js';
import type { AttributePatch, Change, StoredInode } from './records.js';
import type { Caller, InodeNumber, RenameMode } from './types.js';

/** A change of names that the rules of Linux allow, to be committed. */
export interface NamesChange {
  readonly change: Change;
  /** The inode that the call made or named. */
  readonly number: InodeNumber;
}

/** A rename to be committed. */
export interface RenameChange {
  readonly change: Change;
  readonly moved: Inode;
  readonly replaces: boolean;
}

/**
 * The rules of the name space: looks names up, and works out what each call changes. Changes nothing itself.
 * Errors are those of Linux on a local file system.
 */
export class NameSpace {
  readonly #table: InodeTable;

  constructor(table: InodeTable) {
    this.#table = table;
  }

  inode(number: InodeNumber): Inode {
    const inode = this.#table.inodes.get(number);
    if (inode === undefined) throw new FileSystemError('ESTALE', `Inode ${number} is gone.`);
    return inode;
  }

  directory(number: InodeNumber): DirectoryInode {
    const inode = this.inode(number);
    if (inode.kind !== 'directory') throw new FileSystemError('ENOTDIR', `Inode ${number} is no directory.`);
    return inode;
  }

  child(directory: DirectoryInode, name: string): Inode {
    const inode = directory.entries.get(name);
    if (inode !== undefined) return inode;
    checkName(name);
    throw new FileSystemError('ENOENT', `There is no ${name}.`);
  }

  create(
    parent: InodeNumber,
    name: string,
    made: { readonly body: StoredInode['body']; readonly permissions: number; readonly caller: Caller },
    timeNs: bigint,
  ): NamesChange {
    const directory = this.#directoryForNew(parent, name);
    if (this.#table.inodes.size >= limits.manifestInodesMax) {
      throw new FileSystemError('ENOSPC', `A VM directory may hold ${limits.manifestInodesMax} files.`);
    }
    const { body, permissions, caller } = made;
    if (body.kind === 'directory') checkLinkCount(directory);
    const inheritsGroup = (directory.permissions & setGroupId) !== 0;
    const time = String(timeNs);
    const number = this.#table.nextInode as InodeNumber;
    const created: StoredInode = {
      inode: number,
      permissions: (permissions & 0o7777) | (inheritsGroup && body.kind === 'directory' ? setGroupId : 0),
      uid: caller.uid,
      gid: inheritsGroup ? directory.gid : caller.gid,
      accessed: time,
      modified: time,
      changed: time,
      extendedAttributes: {},
      origin: 'new',
      body,
    };
    const entries = [{ directory: parent, name, inode: number }];
    const attributes = [entriesChanged(directory, timeNs)];
    return { change: { type: 'change', created, entries, attributes }, number };
  }

  link(number: InodeNumber, newParent: InodeNumber, newName: string, timeNs: bigint): NamesChange {
    const inode = this.inode(number);
    if (inode.kind === 'directory') throw new FileSystemError('EPERM', 'A directory has one name.');
    if (isUnlinked(inode)) throw new FileSystemError('ENOENT', 'The file was removed.');
    checkLinkCount(inode);
    const directory = this.#directoryForNew(newParent, newName);
    const entries = [{ directory: newParent, name: newName, inode: number }];
    const attributes = [entriesChanged(directory, timeNs), changed(inode, timeNs)];
    return { change: { type: 'change', entries, attributes }, number };
  }

  unlink(parent: InodeNumber, name: string, timeNs: bigint): NamesChange {
    const directory = this.directory(parent);
    const inode = this.child(directory, name);
    if (inode.kind === 'directory') throw new FileSystemError('EISDIR', `${name} is a directory.`);
    return removal(directory, name, inode, timeNs);
  }

  removeDirectory(parent: InodeNumber, name: string, timeNs: bigint): NamesChange {
    const directory = this.directory(parent);
    const inode = this.child(directory, name);
    if (inode.kind !== 'directory') throw new FileSystemError('ENOTDIR', `${name} is no directory.`);
    if (inode.entries.size > 0) throw new FileSystemError('ENOTEMPTY', `${name} is not empty.`);
    return removal(directory, name, inode, timeNs);
  }

  /** Undefined where nothing is to be done: both names are of one inode. */
  rename(
    parent: InodeNumber,
    name: string,
    newParent: InodeNumber,
    newName: string,
    mode: RenameMode,
    timeNs: bigint,
  ): RenameChange | undefined {
    const from = this.directory(parent);
    const to = this.directory(newParent);
    const moved = this.child(from, name);
    checkName(newName);
    if (isUnlinked(to)) throw new FileSystemError('ENOENT', 'The directory was removed.');
    const target = to.entries.get(newName);
    if (target !== undefined && mode === 'noReplace') {
      throw new FileSystemError('EEXIST', `${newName} exists.`);
    }
    if (target === undefined && mode === 'exchange') {
      throw new FileSystemError('ENOENT', `There is no ${newName}.`);
    }
    checkNotInside(to, moved);
    if (target !== undefined && mode === 'exchange') checkNotInside(from, target);
    if (moved === target) return undefined;
    if (target !== undefined && mode === 'replace') checkReplaceable(moved, target, newName);
    if (moved.kind === 'directory' && to !== from && target?.kind !== 'directory') checkLinkCount(to);

    const attributes = [entriesChanged(from, timeNs), entriesChanged(to, timeNs), changed(moved, timeNs)];
    if (target !== undefined) attributes.push(changed(target, timeNs));
    const left = mode === 'exchange' && target !== undefined ? target.number : null;
    const entries = [
      { directory: parent, name, inode: left },
      { directory: newParent, name: newName, inode: moved.number },
    ];
    const replaces = target !== undefined && mode === 'replace';
    return { change: { type: 'change', entries, attributes }, moved, replaces };
  }

  #directoryForNew(parent: InodeNumber, name: string): DirectoryInode {
    const directory = this.directory(parent);
    checkName(name);
    if (directory.entries.has(name)) throw new FileSystemError('EEXIST', `${name} exists.`);
    if (isUnlinked(directory)) throw new FileSystemError('ENOENT', 'The directory was removed.');
    return directory;
  }
}

function removal(directory: DirectoryInode, name: string, inode: Inode, timeNs: bigint): NamesChange {
  const entries = [{ directory: directory.number, name, inode: null }];
  const attributes = [entriesChanged(directory, timeNs), changed(inode, timeNs)];
  return { change: { type: 'change', entries, attributes }, number: inode.number };
}

function entriesChanged(directory: DirectoryInode, timeNs: bigint): AttributePatch {
  return { inode: directory.number, modified: String(timeNs), changed: String(timeNs) };
}

function changed(inode: Inode, timeNs: bigint): AttributePatch {
  return { inode: inode.number, changed: String(timeNs) };
}

function checkLinkCount(inode: Inode): void {
  if (inode.linkCount >= limits.linkCountMax)
    throw new FileSystemError('EMLINK', 'There are too many links.');
}

function checkNotInside(directory: DirectoryInode, moved: Inode): void {
  for (let at: DirectoryInode | undefined = directory; at !== undefined; at = at.parent) {
    if (at === moved) throw new FileSystemError('EINVAL', 'A directory cannot be moved into itself.');
  }
}

function checkReplaceable(moved: Inode, target: Inode, newName: string): void {
  if (target.kind === 'directory') {
    if (moved.kind !== 'directory') throw new FileSystemError('EISDIR', `${newName} is a directory.`);
    if (target.entries.size > 0) throw new FileSystemError('ENOTEMPTY', `${newName} is not empty.`);
  } else if (moved.kind === 'directory') {
    throw new FileSystemError('ENOTDIR', `${newName} is no directory.`);
  }
}

/** A lone surrogate stands for bytes that are not UTF-8, or would become such. */
const loneSurrogate = /\p{Surrogate}/u;

function checkName(name: string): void {
  const isSegment = name !== '' && name !== '.' && name !== '..' && !/[/\0]/.test(name);
  if (!isSegment || loneSurrogate.test(name)) {
    throw new FileSystemError('EINVAL', `${JSON.stringify(name)} cannot be a file name.`);
  }
  if (Buffer.byteLength(name) > limits.fileNameBytesMax) {
    throw new FileSystemError('ENAMETOOLONG', `File names have at most ${limits.fileNameBytesMax} bytes.`);
  }
}
