import type { BaseFile } from '../fetch/index.js';
import type { FileMap } from '../repo/index.js';
import type { DataFiles } from './data-file.js';
import { FileContent } from './file-content.js';
import { isUnlinked, type DirectoryInode, type FileInode, type Inode } from './inode.js';
import type {
  AttributePatch,
  Change,
  OverlayRecord,
  StoredEntry,
  StoredInode,
  StoredPages,
  Wrote,
} from './records.js';
import { pageBytes } from './page-bitmap.js';
import { rootInode, type InodeNumber } from './types.js';

/** Entries of directories that one record of a stored table holds. */
const entriesPerRecord = 256;

/**
 * The state of the file system in memory: what the overlay's records add up to. It changes through `apply` only, the
 * same way when a call makes a change and when the journal is read, so that both come to the same.
 */
export class InodeTable {
  readonly inodes = new Map<number, Inode>();
  nextInode: number;
  /** Inodes that stay although they have lost their last name: somebody has them open. */
  pinned: ReadonlySet<number>;
  /** Inodes of the base that are gone; those without a name that are still open are not. */
  #removed: number;
  readonly #dataFiles: DataFiles;
  readonly #openFile: (map: FileMap) => BaseFile;
  /** Told of each inode that has lost its last name and is not open. */
  onGone: (inode: Inode) => void = () => undefined;

  constructor(options: {
    readonly nextInode: number;
    readonly removed: number;
    readonly pinned?: ReadonlySet<number> | undefined;
    readonly dataFiles: DataFiles;
    readonly openFile: (map: FileMap) => BaseFile;
  }) {
    this.nextInode = options.nextInode;
    this.pinned = options.pinned ?? new Set();
    this.#removed = options.removed;
    this.#dataFiles = options.dataFiles;
    this.#openFile = options.openFile;
  }

  apply(change: Change): void {
    if (change.created !== undefined) this.#create(change.created);
    const unlinked = new Set<Inode>();
    for (const entry of change.entries ?? []) this.#setEntry(entry, unlinked);
    for (const patch of change.attributes ?? []) this.#patch(patch);
    if (change.truncate !== undefined) {
      this.file(change.truncate.inode)?.content.resize(change.truncate.size);
    }
    for (const inode of unlinked) this.dropIfUnused(inode);
  }

  /** Adds pages that the overlay's data file has. */
  loadPages(stored: StoredPages): void {
    const { segment, bits } = stored;
    const file = this.file(stored.inode);
    if (file === undefined) throw new Error(`pages of inode ${stored.inode}, which is no file`);
    file.content.pages.load({ segment, bits: bits === 'full' ? 'full' : Buffer.from(bits, 'base64') });
  }

  /** Undefined also for an inode that is gone: records may follow its end. */
  file(number: number): FileInode | undefined {
    const inode = this.inodes.get(number);
    return inode?.kind === 'file' ? inode : undefined;
  }

  root(): DirectoryInode {
    const root = this.inodes.get(rootInode);
    if (root?.kind !== 'directory') throw new Error('no root directory');
    return root;
  }

  /** The data file of the inode has these pages. */
  applyWrote(wrote: Wrote): void {
    const file = this.file(wrote.inode);
    if (file === undefined) return;
    file.content.markWritten(wrote.first, wrote.count, wrote.size);
    file.modifyTimeNs = file.changeTimeNs = BigInt(wrote.modified);
  }

  /** Every inode with a name is now as the base has it; nothing of the base is gone. */
  rebase(files: ReadonlyMap<number, FileMap>): void {
    this.#removed = 0;
    for (const inode of this.inodes.values()) {
      const map = inode.kind === 'file' ? files.get(inode.number) : undefined;
      // What has no name was not published; to the new base it never existed.
      inode.origin = isUnlinked(inode) ? 'new' : 'base';
      if (inode.kind === 'file' && !isUnlinked(inode) && map !== undefined) inode.content.rebase(map);
    }
  }

  /** Inodes that lose a name to a change, and get none by it: perhaps their last. */
  losers({ entries = [] }: Change): readonly Inode[] {
    const losers: Inode[] = [];
    for (const { directory, name } of entries) {
      const parent = this.inodes.get(directory);
      const inode = parent?.kind === 'directory' ? parent.entries.get(name) : undefined;
      if (inode !== undefined && !entries.some((entry) => entry.inode === inode.number)) losers.push(inode);
    }
    return losers;
  }

  /** Forgets an inode without a name that nobody uses. */
  dropIfUnused(inode: Inode): void {
    if (!isUnlinked(inode) || inode.held || isOpen(inode) || this.pinned.has(inode.number)) return;
    if (!this.inodes.delete(inode.number)) return;
    if (inode.origin !== 'new') this.#removed += 1;
    this.onGone(inode);
  }

  *files(): Generator<FileInode, void> {
    for (const inode of this.inodes.values()) if (inode.kind === 'file') yield inode;
  }

  /** Inodes of the base that are gone for good. */
  get goneCount(): number {
    return this.#removed;
  }

  /** Inodes of the base that have no name any more. */
  removedCount(): number {
    let count = this.#removed;
    for (const inode of this.inodes.values()) if (isUnlinked(inode) && inode.origin !== 'new') count += 1;
    return count;
  }

  /** Whole pages that the overlay has, of files that have a name. */
  overlayBytes(): number {
    let pages = 0;
    for (const file of this.files()) if (!isUnlinked(file)) pages += file.content.pages.count;
    return pages * pageBytes;
  }

  /** Inodes that are not as the base has them, and those that are gone. */
  changedCount(): number {
    let count = this.removedCount();
    for (const inode of this.inodes.values()) if (!isUnlinked(inode) && isChanged(inode)) count += 1;
    return count;
  }

  /**
   * Records that make the same state in an empty table; what has no name and is not used is left out. With `files`:
   * the state that `rebase` makes.
   */
  *store(files?: ReadonlyMap<number, FileMap>): Generator<OverlayRecord, void> {
    const stored = [...this.inodes.values()].filter(
      (inode) => !isUnlinked(inode) || inode.held || isOpen(inode),
    );
    for (const inode of stored) {
      if (files !== undefined && isUnlinked(inode)) {
        yield { type: 'change', created: { ...storedInode(inode), origin: 'new' } };
        if (inode.kind === 'file') yield* storedPages(inode);
        continue;
      }
      if (files !== undefined) {
        yield { type: 'change', created: rebasedInode(inode, files) };
        continue;
      }
      yield { type: 'change', created: storedInode(inode) };
      if (inode.kind === 'file') yield* storedPages(inode);
    }
    for (const inode of stored) if (inode.kind === 'directory') yield* storedEntries(inode);
  }

  /** A path from the mount's root, for messages. Looks through everything. */
  pathOf(wanted: Inode): string {
    for (const directory of this.inodes.values()) {
      if (directory.kind !== 'directory') continue;
      for (const [name, inode] of directory.entries) {
        if (inode === wanted) return [...ancestorNames(directory), name].join('/');
      }
    }
    return `inode ${wanted.number}`;
  }

  #create(stored: StoredInode): void {
    if (this.inodes.has(stored.inode)) throw new Error(`inode ${stored.inode} exists`);
    this.nextInode = Math.max(this.nextInode, stored.inode + 1);
    this.inodes.set(stored.inode, this.#inodeFrom(stored));
  }

  #inodeFrom(stored: StoredInode): Inode {
    const common = {
      number: stored.inode as InodeNumber,
      permissions: stored.permissions,
      uid: stored.uid,
      gid: stored.gid,
      linkCount: 0,
      accessTimeNs: BigInt(stored.accessed),
      modifyTimeNs: BigInt(stored.modified),
      changeTimeNs: BigInt(stored.changed),
      extendedAttributes: new Map(
        Object.entries(stored.extendedAttributes).map(([name, value]) => [
          name,
          Buffer.from(value, 'base64'),
        ]),
      ),
      held: false,
      origin: stored.origin,
    };
    const { body } = stored;
    switch (body.kind) {
      case 'file': {
        const content = new FileContent({
          data: this.#dataFiles.file(stored.inode),
          openFile: this.#openFile,
          map: body.base ?? undefined,
          sizeBytes: body.size,
          baseLimitBytes: body.baseLimit,
        });
        return { ...common, kind: 'file', content, openHandles: 0, timesUnrecorded: false };
      }
      case 'directory': {
        // Its `.`, and for the root the name that the mount point gives it.
        const linkCount = stored.inode === rootInode ? 2 : 1;
        return { ...common, linkCount, kind: 'directory', entries: new Map(), parent: undefined };
      }
      case 'symlink':
        return { ...common, kind: 'symlink', target: body.target };
      case 'fifo':
        return { ...common, kind: 'fifo' };
    }
  }

  #setEntry(entry: StoredEntry, unlinked: Set<Inode>): void {
    const directory = this.inodes.get(entry.directory);
    if (directory?.kind !== 'directory') throw new Error(`inode ${entry.directory} is no directory`);
    const previous = directory.entries.get(entry.name);
    if (previous !== undefined) {
      directory.entries.delete(entry.name);
      previous.linkCount -= 1;
      if (previous.kind === 'directory') directory.linkCount -= 1;
      unlinked.add(previous);
    }
    if (entry.inode === null) return;
    const inode = this.inodes.get(entry.inode);
    if (inode === undefined) throw new Error(`a name for inode ${entry.inode}, which does not exist`);
    directory.entries.set(entry.name, inode);
    inode.linkCount += 1;
    if (inode.kind !== 'directory') return;
    inode.parent = directory;
    directory.linkCount += 1;
  }

  #patch(patch: AttributePatch): void {
    const inode = this.inodes.get(patch.inode);
    if (inode === undefined) return;
    if (patch.permissions !== undefined) inode.permissions = patch.permissions;
    if (patch.uid !== undefined) inode.uid = patch.uid;
    if (patch.gid !== undefined) inode.gid = patch.gid;
    if (patch.accessed !== undefined) inode.accessTimeNs = BigInt(patch.accessed);
    if (patch.modified !== undefined) inode.modifyTimeNs = BigInt(patch.modified);
    if (patch.changed !== undefined) inode.changeTimeNs = BigInt(patch.changed);
    if (patch.extendedAttribute !== undefined) {
      const { name, value } = patch.extendedAttribute;
      if (value === null) inode.extendedAttributes.delete(name);
      else inode.extendedAttributes.set(name, Buffer.from(value, 'base64'));
    }
    if (inode.origin === 'base' && !onlyTimesOfDirectory(inode, patch)) inode.origin = 'altered';
  }
}

/** A directory's times change with its entries, which show in the inodes that came or went. */
function onlyTimesOfDirectory(inode: Inode, patch: AttributePatch): boolean {
  return (
    inode.kind === 'directory' &&
    patch.permissions === undefined &&
    patch.uid === undefined &&
    patch.gid === undefined &&
    patch.extendedAttribute === undefined
  );
}

function isOpen(inode: Inode): boolean {
  return inode.kind === 'file' && inode.openHandles > 0;
}

function isChanged(inode: Inode): boolean {
  if (inode.origin !== 'base') return true;
  if (inode.kind !== 'file') return false;
  const { content } = inode;
  return content.pages.count > 0 || content.sizeBytes !== content.baseMap?.sizeBytes;
}

function storedInode(inode: Inode): StoredInode {
  return {
    inode: inode.number,
    permissions: inode.permissions,
    uid: inode.uid,
    gid: inode.gid,
    accessed: String(inode.accessTimeNs),
    modified: String(inode.modifyTimeNs),
    changed: String(inode.changeTimeNs),
    extendedAttributes: Object.fromEntries(
      Array.from(inode.extendedAttributes, ([name, value]) => [name, value.toString('base64')]),
    ),
    origin: inode.origin,
    body: storedBody(inode),
  };
}

function rebasedInode(inode: Inode, files: ReadonlyMap<number, FileMap>): StoredInode {
  const stored: StoredInode = { ...storedInode(inode), origin: 'base' };
  if (inode.kind !== 'file') return stored;
  const map = files.get(inode.number);
  const { sizeBytes } = inode.content;
  if (map?.sizeBytes !== sizeBytes) throw new Error(`inode ${inode.number} was not published as it is`);
  return { ...stored, body: { kind: 'file', size: sizeBytes, baseLimit: sizeBytes, base: map } };
}

function storedBody(inode: Inode): StoredInode['body'] {
  switch (inode.kind) {
    case 'file': {
      const { sizeBytes, baseLimitBytes, baseMap } = inode.content;
      return { kind: 'file', size: sizeBytes, baseLimit: baseLimitBytes, base: baseMap ?? null };
    }
    case 'symlink':
      return { kind: 'symlink', target: inode.target };
    case 'directory':
    case 'fifo':
      return { kind: inode.kind };
  }
}

function* storedPages(file: FileInode): Generator<StoredPages, void> {
  for (const { segment, bits } of file.content.pages.store()) {
    const text = bits === 'full' ? bits : bits.toString('base64');
    yield { type: 'segment', inode: file.number, segment, bits: text };
  }
}

function* storedEntries(directory: DirectoryInode): Generator<Change, void> {
  const entries = Array.from(directory.entries, ([name, inode]) => ({
    directory: directory.number,
    name,
    inode: inode.number,
  }));
  for (let first = 0; first < entries.length; first += entriesPerRecord) {
    yield { type: 'change', entries: entries.slice(first, first + entriesPerRecord) };
  }
}

function ancestorNames(directory: DirectoryInode): string[] {
  const names: string[] = [];
  for (let at = directory; at.parent !== undefined; at = at.parent) {
    for (const [name, inode] of at.parent.entries) if (inode === at) names.unshift(name);
  }
  return names;
}
