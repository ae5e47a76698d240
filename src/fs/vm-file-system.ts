import { constants, mkdirSync, statfsSync, type StatsFs } from 'node:fs';
import { join } from 'node:path';
import createDebug from 'debug';
import { limits, systemClock, type Clock, type MaybePromise } from '../base/index.js';
import type { BaseFile, StallListener } from '../fetch/index.js';
import type { FileMap, Manifest, PublishSource } from '../repo/index.js';
import {
  LocalReadTable,
  noChunkCells,
  type SharedChunkCells,
  type SharedLocalReads,
} from '../resident/index.js';
import { bootId } from '../system/index.js';
import { FileSystemBusy, FileSystemError, localDiskError } from './errors.js';
import { checkNewAttribute, extendedAttribute } from './extended-attributes.js';
import { checkOffset, checkSize, FileAccess } from './file-access.js';
import type { TouchListener } from './first-touches.js';
import { Gate } from './gate.js';
import { Handles } from './handles.js';
import { attributesOf, isUnlinked, modeTypes, type FileInode, type Inode } from './inode.js';
import { NameSpace, type NamesChange } from './name-space.js';
import { Overlay } from './overlay.js';
import { OpenFileTable } from './open-file-table.js';
import { overlayPublishSource } from './publish-source.js';
import { QuietChunks } from './quiet-chunks.js';
import { RangeCopies } from './range-copies.js';
import type { AnnouncedCommits, AttributePatch, Change, StoredInode } from './records.js';
import {
  rootInode,
  type AllocateMode,
  type AttributeChanges,
  type Attributes,
  type Caller,
  type DirectoryEntry,
  type ExtendedAttributeMode,
  type FilePosition,
  type FileSystem,
  type FileSystemUsage,
  type HandleId,
  type InodeNumber,
  type notLocal,
  type ReadIntent,
  type Recalled,
  type RenameMode,
  type RequestId,
} from './types.js';

const debug = createDebug('isr:fs');

export interface OpenOverlayOptions {
  /** Where the changes are kept on this host; made if absent. Must belong to this process alone while it is open. */
  readonly directory: string;
  /**
   * The version that is changed. `identity` names it, and an overlay is only ever opened over the same one. An overlay that is
   * there does not need the manifest.
   */
  readonly base: { readonly manifest: Manifest | undefined; readonly identity: string };
  readonly openFile: (map: FileMap) => BaseFile;
  /** The memory that `BaseFile.resident` speaks of, for `VmFileSystem.shareReads`. */
  readonly chunkMemory?: SharedChunkCells;
  /**
   * Numbers of a new overlay's inodes start here (the root is 1 always). Overlays that follow each other at one path
   * should not share numbers: the kernel may still have pages of the old ones.
   */
  readonly firstInodeNumber?: number;
  readonly clock?: Pick<Clock, 'wallMs'>;
  /**
   * For a mount: which files are open is remembered in the directory, so that the mount can outlive this process.
   * `life` counts the processes that have served it before; from 1 on, what they had open is open.
   */
  readonly mount?: { readonly life: number };
  /** Told of damage and failures, also of those that no caller waits for. */
  readonly onError?: (error: unknown) => void;
  /** For tests: what `bootId` of `system/` says. */
  readonly bootId?: string | undefined;
  /** For tests: how far the journal may grow before it is written anew. */
  readonly journalGrowthBytes?: number;
}

/**
 * Opens the overlay in a directory, or makes a new one, and shows it over its base version. Rejects with
 * `OverlayMismatch` if the overlay there has another base, with `OverlayDamaged` or `OverlayFormatUnknown`.
 */
export async function openOverlay(options: OpenOverlayOptions): Promise<VmFileSystem> {
  const onError = options.onError ?? ((error: unknown) => debug('%o', error));
  const life = options.mount?.life ?? 0;
  const openFiles = options.mount === undefined ? undefined : openTable(options.directory, life);
  try {
    const overlay = await Overlay.open({
      ...options,
      pinned: life === 0 || openFiles === undefined ? undefined : usedInodes(openFiles),
      firstInodeNumber: options.firstInodeNumber ?? rootInode + 1,
      journalGrowthBytes: options.journalGrowthBytes ?? limits.overlayJournalBytes,
      bootId: 'bootId' in options ? options.bootId : bootId(),
      onError,
    });
    const handles = new Handles(openFiles, life);
    for (const entry of openFiles?.found ?? []) handles.restore(entry, overlay.table.file(entry.inode));
    // The kernel may know any of them, from an earlier process, and then it will say when it has forgotten it.
    if (life > 0) for (const inode of overlay.table.inodes.values()) inode.held = true;
    overlay.unpin();
    return new VmFileSystem(overlay, { ...options, clock: options.clock ?? systemClock, handles, onError });
  } catch (error) {
    openFiles?.close();
    throw error;
  }
}

function usedInodes({ found, foundNameless }: OpenFileTable): ReadonlySet<number> {
  return new Set([...found.map(({ inode }) => inode), ...foundNameless]);
}

function openTable(directory: string, life: number): OpenFileTable {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw localDiskError(error, `making ${directory}`);
  }
  return new OpenFileTable(join(directory, 'open-files'), life > 0);
}

/** The file system that a VM sees: an overlay over a version. Owns the overlay. */
export class VmFileSystem implements FileSystem, AsyncDisposable {
  readonly #overlay: Overlay;
  readonly #names: NameSpace;
  readonly #access: FileAccess;
  readonly #copies: RangeCopies;
  readonly #gate = new Gate();
  readonly #directory: string;
  readonly #clock: Pick<Clock, 'wallMs'>;
  readonly #chunkMemory: SharedChunkCells;
  #localReads: LocalReadTable | undefined;

  /** Use `openOverlay`. */
  constructor(
    overlay: Overlay,
    options: {
      readonly directory: string;
      readonly clock: Pick<Clock, 'wallMs'>;
      readonly handles: Handles;
      readonly onError: (error: unknown) => void;
      readonly chunkMemory?: SharedChunkCells;
    },
  ) {
    this.#overlay = overlay;
    this.#chunkMemory = options.chunkMemory ?? noChunkCells;
    this.#names = new NameSpace(overlay.table);
    this.#directory = options.directory;
    this.#clock = options.clock;
    const now = (): bigint => this.#now();
    const { handles, onError } = options;
    this.#access = new FileAccess({ overlay, gate: this.#gate, handles, now, onError });
    this.#copies = new RangeCopies(this.#access);
  }

  lookup(parent: InodeNumber, name: string): Attributes {
    return attributesOf(this.#names.child(this.#names.directory(parent), name));
  }

  hold(inode: InodeNumber): void {
    this.#names.inode(inode).held = true;
  }

  forget(number: InodeNumber): void {
    const inode = this.#overlay.table.inodes.get(number);
    if (inode === undefined) return;
    inode.held = false;
    if (isUnlinked(inode)) this.#access.handles.forget(number);
    this.#overlay.released(inode);
  }

  getAttributes(inode: InodeNumber): Attributes {
    return attributesOf(this.#names.inode(inode));
  }

  setAttributes(number: InodeNumber, changes: AttributeChanges): MaybePromise<Attributes> {
    return this.#change(() => {
      const inode = this.#names.inode(number);
      const patch = attributePatch(inode, changes, this.#now());
      if (changes.sizeBytes === undefined) this.#overlay.commit({ type: 'change', attributes: [patch] });
      else this.#resize(regularFile(inode), changes.sizeBytes, patch);
      return attributesOf(inode);
    });
  }

  readLink(number: InodeNumber): string {
    const inode = this.#names.inode(number);
    if (inode.kind !== 'symlink') throw new FileSystemError('EINVAL', 'This is no symbolic link.');
    return inode.target;
  }

  makeDirectory(
    parent: InodeNumber,
    name: string,
    permissions: number,
    caller: Caller,
  ): MaybePromise<Attributes> {
    return this.#change(() => this.#create(parent, name, { kind: 'directory' }, permissions, caller));
  }

  makeSymlink(parent: InodeNumber, name: string, target: string, caller: Caller): MaybePromise<Attributes> {
    if (target === '') throw new FileSystemError('ENOENT', 'A symbolic link needs a target.');
    if (Buffer.byteLength(target) > limits.symlinkTargetBytesMax) {
      throw new FileSystemError('ENAMETOOLONG', 'The target of a symbolic link is too long.');
    }
    return this.#change(() => this.#create(parent, name, { kind: 'symlink', target }, 0o777, caller));
  }

  makeNode(parent: InodeNumber, name: string, mode: number, caller: Caller): MaybePromise<Attributes> {
    const type = mode & modeTypes.mask;
    if (type === modeTypes.fifo) {
      return this.#change(() => this.#create(parent, name, { kind: 'fifo' }, mode, caller));
    }
    if (type !== modeTypes.file && type !== 0) {
      throw new FileSystemError('EPERM', 'A VM directory has no devices and sockets.');
    }
    return this.#change(() => this.#create(parent, name, emptyFile, mode, caller));
  }

  create(
    parent: InodeNumber,
    name: string,
    permissions: number,
    flags: number,
    caller: Caller,
  ): MaybePromise<{ readonly attributes: Attributes; readonly handle: HandleId }> {
    return this.#change(() => {
      const attributes = this.#create(parent, name, emptyFile, permissions, caller);
      const file = regularFile(this.#names.inode(attributes.inode));
      return { attributes, handle: this.#access.handles.open(file, flags, caller.request) };
    });
  }

  link(
    inode: InodeNumber,
    newParent: InodeNumber,
    newName: string,
    request?: RequestId,
  ): MaybePromise<Attributes> {
    return this.#change(() =>
      this.#commit(this.#names.link(inode, newParent, newName, this.#now()), request),
    );
  }

  unlink(parent: InodeNumber, name: string, request?: RequestId): MaybePromise<void> {
    return this.#change(() => {
      const { change } = this.#names.unlink(parent, name, this.#now());
      this.#keepKnown(change);
      this.#overlay.commit(madeBy(request, change));
    });
  }

  removeDirectory(parent: InodeNumber, name: string, request?: RequestId): MaybePromise<void> {
    return this.#change(() => {
      const { change } = this.#names.removeDirectory(parent, name, this.#now());
      this.#keepKnown(change);
      this.#overlay.commit(madeBy(request, change));
    });
  }

  rename(
    parent: InodeNumber,
    name: string,
    newParent: InodeNumber,
    newName: string,
    mode: RenameMode,
    request?: RequestId,
  ): MaybePromise<void> {
    return this.#change(() => {
      const renaming = this.#names.rename(parent, name, newParent, newName, mode, this.#now());
      if (renaming === undefined) return;
      const change = madeBy(request, renaming.change);
      if (renaming.replaces) this.#keepKnown(change);
      if (renaming.replaces) this.#overlay.commitReplacement(change, renaming.moved);
      else this.#overlay.commit(change);
    });
  }

  open(number: InodeNumber, flags: number, request?: RequestId): MaybePromise<HandleId> {
    const file = openable(this.#names.inode(number));
    if ((flags & constants.O_TRUNC) === 0) return this.#access.handles.open(file, flags, request);
    return this.#change(() => {
      const current = openable(this.#names.inode(number));
      this.#resize(current, 0, attributePatch(current, { sizeBytes: 0 }, this.#now()));
      return this.#access.handles.open(current, flags, request);
    });
  }

  release(handle: HandleId): void {
    this.#overlay.released(this.#access.handles.release(handle));
  }

  inodeOf(handle: HandleId): InodeNumber {
    return this.#access.handles.get(handle).file.number;
  }

  read(
    handle: HandleId,
    offsetBytes: number,
    into: Uint8Array,
    intent: ReadIntent,
    signal?: AbortSignal,
  ): MaybePromise<number | typeof notLocal> {
    return this.#access.read(handle, offsetBytes, into, intent, signal);
  }

  /** From now on `listener` is told of the first read of each chunk of the version; of none any more if undefined. */
  watchTouches(listener: TouchListener | undefined): void {
    this.#access.watchTouches(listener);
  }

  /** From now on `listener` is told of requests that have to wait for the version; of none any more if undefined. */
  watchStalls(listener: StallListener | undefined): void {
    this.#access.watchStalls(listener);
  }

  shareReads(): SharedLocalReads {
    this.#localReads ??= new LocalReadTable(limits.localReadWindows, this.#chunkMemory);
    this.#access.share(this.#localReads);
    return this.#localReads.shared;
  }

  write(handle: HandleId, offsetBytes: number, data: Uint8Array, signal?: AbortSignal): MaybePromise<number> {
    return this.#access.write(handle, offsetBytes, data, signal);
  }

  async fsync(handle: HandleId, dataOnly: boolean): Promise<void> {
    await this.#overlay.flushFile(this.#access.handles.get(handle).file, dataOnly);
  }

  syncAll(): Promise<void> {
    return this.#overlay.flush();
  }

  allocate(
    handle: HandleId,
    mode: AllocateMode,
    offsetBytes: number,
    lengthBytes: number,
    signal?: AbortSignal,
  ): MaybePromise<void> {
    this.#access.writableFile(handle);
    checkOffset(offsetBytes);
    if (lengthBytes <= 0) throw new FileSystemError('EINVAL', 'An empty range cannot be allocated.');
    checkSize(offsetBytes + lengthBytes);
    if (mode !== 'allocate' && mode !== 'allocateKeepSize') {
      return this.#access.writeZeros(handle, offsetBytes, lengthBytes, mode === 'zeroRange', signal);
    }
    return this.#change(() => {
      const file = this.#access.writableFile(handle);
      this.#requireSpace(file, lengthBytes);
      file.content.data.reserve(offsetBytes, lengthBytes);
      const patch = attributePatch(file, { modifyTimeNs: 'now' }, this.#now());
      const endBytes = offsetBytes + lengthBytes;
      const grows = mode === 'allocate' && endBytes > file.content.sizeBytes;
      if (grows) this.#resize(file, endBytes, patch);
      else this.#overlay.commit({ type: 'change', attributes: [patch] });
    });
  }

  seek(
    handle: HandleId,
    offsetBytes: number,
    whence: 'data' | 'hole',
    signal?: AbortSignal,
  ): MaybePromise<number> {
    const { content } = this.#access.handles.get(handle).file;
    checkOffset(offsetBytes);
    const range = { startBytes: offsetBytes, limitBytes: Infinity };
    const found =
      offsetBytes < content.sizeBytes ? this.#access.find(handle, whence, range, signal) : Infinity;
    const within = (bytes: number): number => {
      if (bytes < content.sizeBytes || (whence === 'hole' && bytes === content.sizeBytes)) return bytes;
      throw new FileSystemError('ENXIO', 'Nothing follows in this file.');
    };
    return found instanceof Promise ? found.then(within) : within(found);
  }

  copyRange(
    source: FilePosition,
    target: FilePosition,
    lengthBytes: number,
    signal?: AbortSignal,
  ): Promise<number> {
    return this.#copies.copy({ source, target, lengthBytes, signal });
  }

  readDirectory(inode: InodeNumber): readonly DirectoryEntry[] {
    return Array.from(this.#names.directory(inode).entries, ([name, child]) => ({
      name,
      attributes: attributesOf(child),
    }));
  }

  parentOf(directory: InodeNumber): InodeNumber {
    return this.#names.directory(directory).parent?.number ?? rootInode;
  }

  usage(): FileSystemUsage {
    const { inodes } = this.#overlay.table;
    let usedBytes = 0;
    for (const file of this.#overlay.table.files()) usedBytes += file.content.sizeBytes;
    try {
      const disk = statfsSync(this.#directory);
      return {
        usedBytes,
        freeBytes: disk.bfree * disk.bsize,
        availableBytes: disk.bavail * disk.bsize,
        totalBytes: disk.blocks * disk.bsize,
        inodes: inodes.size,
        freeInodes: Math.max(Math.min(limits.manifestInodesMax - inodes.size, freeInodesOf(disk)), 0),
      };
    } catch (error) {
      throw localDiskError(error, `asking ${this.#directory} for its space`);
    }
  }

  getExtendedAttribute(inode: InodeNumber, name: string): Uint8Array {
    return extendedAttribute(this.#names.inode(inode), name);
  }

  listExtendedAttributes(inode: InodeNumber): readonly string[] {
    return [...this.#names.inode(inode).extendedAttributes.keys()];
  }

  setExtendedAttribute(
    number: InodeNumber,
    name: string,
    value: Uint8Array,
    mode: ExtendedAttributeMode,
    request?: RequestId,
  ): MaybePromise<void> {
    return this.#change(() => {
      checkNewAttribute(this.#names.inode(number), name, value, mode);
      this.#patchAttribute(number, name, Buffer.from(value).toString('base64'), request);
    });
  }

  removeExtendedAttribute(number: InodeNumber, name: string, request?: RequestId): MaybePromise<void> {
    return this.#change(() => {
      extendedAttribute(this.#names.inode(number), name);
      this.#patchAttribute(number, name, null, request);
    });
  }

  recall(request: RequestId): Recalled | undefined {
    const inode = this.#overlay.recall(request);
    const handle = this.#access.handles.openedFor(request);
    if (inode === undefined && handle === undefined) return undefined;
    return {
      ...(typeof inode === 'number' ? { inode: inode as InodeNumber } : {}),
      ...(handle === undefined ? {} : { handle }),
    };
  }

  /** Makes everything acknowledged flushed. */
  flush(): Promise<void> {
    return this.#overlay.flush();
  }

  /** What no version has: bytes of whole pages, and how many inodes were changed, made or removed. */
  dirty(): { readonly bytes: number; readonly changedFiles: number } {
    const { table } = this.#overlay;
    return { bytes: table.overlayBytes(), changedFiles: table.changedCount() };
  }

  /**
   * Holds back all changes until `thaw`, so that a version can be published; reading goes on. Throws
   * `FileSystemBusy` while files are open for writing, unless `force`.
   */
  freeze(options: { readonly force?: boolean } = {}): void {
    if (options.force !== true) {
      const writers = [...this.#access.handles.writers()].filter((file) => !isUnlinked(file));
      if (writers.length > 0) {
        throw new FileSystemBusy(writers.map((file) => this.#overlay.table.pathOf(file)));
      }
    }
    this.#gate.close();
  }

  /** Lets changes go on. Idempotent. */
  thaw(): void {
    this.#gate.open();
  }

  /** From now on tells which chunks are quiet, so that they can be stored ahead of a publish. Of several the last counts. */
  quietChunks(chunkBytes: number): QuietChunks {
    const quiet = new QuietChunks(this.#overlay.table, chunkBytes);
    this.#overlay.onWrite = (file, first, count) => quiet.wrote(file, first, count);
    return quiet;
  }

  /** What to publish; `chunkBytes` is the repository's. Only while frozen. */
  publishSource(chunkBytes: number): PublishSource {
    this.#requireFrozen();
    return overlayPublishSource(this.#overlay.table, chunkBytes);
  }

  /**
   * While frozen, before the commit: the state as it is now is about to become a version. Durable when this resolves;
   * `announced` then tells, in this process or a later one, until `rebase`.
   */
  announceCommit(commit: string): Promise<void> {
    this.#requireFrozen();
    return this.#overlay.announceCommit(commit);
  }

  get announced(): AnnouncedCommits {
    return this.#overlay.announced;
  }

  /**
   * After publishing, still frozen: the version becomes the base and the overlay is empty, in one step that is
   * durable when this resolves. `files` has the published content of every file, by inode number.
   */
  rebase(identity: string, files: ReadonlyMap<number, FileMap>): Promise<void> {
    this.#requireFrozen();
    return this.#overlay.rebase(identity, files);
  }

  /** Flushes and closes; changes that wait for a thaw fail. Idempotent. */
  close(): Promise<void> {
    const closing = this.#overlay.close().finally(() => this.#access.handles.close());
    this.#gate.open();
    return closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #now(): bigint {
    return BigInt(this.#clock.wallMs()) * 1_000_000n;
  }

  #requireFrozen(): void {
    if (!this.#gate.isClosed()) throw new Error('the file system is not frozen');
  }

  /** Makes a change at once, or when the file system is not frozen any more. */
  #change<T>(change: () => T): MaybePromise<T> {
    return this.#gate.isClosed() ? this.#changeLater(change) : change();
  }

  async #changeLater<T>(change: () => T): Promise<T> {
    while (this.#gate.isClosed()) await this.#gate.passed();
    return change();
  }

  #create(
    parent: InodeNumber,
    name: string,
    body: StoredInode['body'],
    permissions: number,
    caller: Caller,
  ): Attributes {
    const creation = this.#names.create(parent, name, { body, permissions, caller }, this.#now());
    return this.#commit(creation, caller.request);
  }

  /** What is about to lose its last name, while the kernel knows it, is to outlive this process. */
  #keepKnown(change: Change): void {
    for (const inode of this.#overlay.table.losers(change)) {
      if (inode.held && (inode.kind === 'directory' || inode.linkCount === 1)) {
        this.#access.handles.keepNameless(inode.number);
      }
    }
  }

  #commit({ change, number }: NamesChange, request: RequestId | undefined): Attributes {
    this.#overlay.commit(madeBy(request, change));
    return attributesOf(this.#names.inode(number));
  }

  /** Disks take what they have before they say that it is not enough; what cannot be enough is not tried. */
  #requireSpace(file: FileInode, lengthBytes: number): void {
    const usedBytes = file.content.data.blocks() * 512;
    if (lengthBytes > this.usage().freeBytes + usedBytes) {
      throw new FileSystemError('ENOSPC', 'The disk is too small to reserve so much.');
    }
  }

  #resize(file: FileInode, sizeBytes: number, patch: AttributePatch): void {
    checkOffset(sizeBytes);
    checkSize(sizeBytes);
    const change: Change = {
      type: 'change',
      attributes: [patch],
      truncate: { inode: file.number, size: sizeBytes },
    };
    this.#overlay.commitResize(change, file);
  }

  #patchAttribute(
    inode: InodeNumber,
    name: string,
    value: string | null,
    request: RequestId | undefined,
  ): void {
    const patch = { inode, changed: String(this.#now()), extendedAttribute: { name, value } };
    this.#overlay.commit(madeBy(request, { type: 'change', attributes: [patch] }));
  }
}

function madeBy(request: RequestId | undefined, change: Change): Change {
  return request === undefined ? change : { ...change, request };
}

/** Some file systems do not count inodes, and say 0 of 0. */
function freeInodesOf({ files, ffree }: StatsFs): number {
  return files === 0 ? Infinity : ffree;
}

const emptyFile: StoredInode['body'] = { kind: 'file', size: 0, baseLimit: 0, base: null };

function regularFile(inode: Inode): FileInode {
  if (inode.kind === 'file') return inode;
  if (inode.kind === 'directory') throw new FileSystemError('EISDIR', 'This is a directory.');
  throw new FileSystemError('EINVAL', 'This is no regular file.');
}

function openable(inode: Inode): FileInode {
  if (inode.kind === 'symlink') throw new FileSystemError('ELOOP', 'A symbolic link cannot be opened.');
  if (inode.kind === 'fifo') throw new FileSystemError('ENXIO', 'The kernel opens fifos itself.');
  return regularFile(inode);
}

/** The attributes that a call changes, times that follow from it included. */
function attributePatch(inode: Inode, changes: AttributeChanges, now: bigint): AttributePatch {
  const { permissions, uid, gid } = changes;
  const time = (wanted: bigint | 'now'): string => String(wanted === 'now' ? now : wanted);
  const modified = changes.modifyTimeNs ?? (changes.sizeBytes === undefined ? undefined : now);
  return {
    inode: inode.number,
    ...(permissions === undefined ? {} : { permissions: permissions & 0o7777 }),
    ...(uid === undefined ? {} : { uid }),
    ...(gid === undefined ? {} : { gid }),
    ...(changes.accessTimeNs === undefined ? {} : { accessed: time(changes.accessTimeNs) }),
    ...(modified === undefined ? {} : { modified: time(modified) }),
    changed: String(now),
  };
}
