import { limits, type MaybePromise } from '../../src/base/index.js';
import type { notLocal } from '../../src/fs/index.js';
import {
  FileSystemError,
  rootInode,
  type AllocateMode,
  type AttributeChanges,
  type Attributes,
  type Caller,
  type DirectoryEntry,
  type ErrnoName,
  type ExtendedAttributeMode,
  type FilePosition,
  type FileSystem,
  type FileSystemUsage,
  type HandleId,
  type InodeNumber,
  type ReadIntent,
  type RenameMode,
} from '../../src/fs/index.js';

const pageBytes = 4096;
const nodeLimit = 100_000;
const attributeValueBytesMax = 64 * 1024;
const attributesBytesMax = 64 * 1024;
const setGroupId = 0o2000;

const typeMask = 0o170000;
const modeTypes = { directory: 0o040000, file: 0o100000, symlink: 0o120000, fifo: 0o010000 } as const;

/** open(2) flags on Linux. */
const accessModeMask = 0o3;
const writeOnly = 0o1;
const readOnly = 0o0;
const truncateFlag = 0o1000;

interface NodeCommon {
  readonly inode: InodeNumber;
  permissions: number;
  uid: number;
  gid: number;
  linkCount: number;
  accessTimeNs: bigint;
  modifyTimeNs: bigint;
  changeTimeNs: bigint;
  readonly extendedAttributes: Map<string, Uint8Array>;
}

type FileNode = NodeCommon & {
  readonly kind: 'file';
  sizeBytes: number;
  /** Pages that were written; a missing page is a hole. */
  readonly pages: Map<number, Uint8Array>;
};
type DirectoryNode = NodeCommon & {
  readonly kind: 'directory';
  parent: InodeNumber;
  readonly entries: Map<string, InodeNumber>;
};
type SymlinkNode = NodeCommon & { readonly kind: 'symlink'; readonly target: string };
type FifoNode = NodeCommon & { readonly kind: 'fifo' };
type Node = FileNode | DirectoryNode | SymlinkNode | FifoNode;

interface Handle {
  readonly node: FileNode;
  readonly flags: number;
}

export interface ModelRead {
  readonly inode: InodeNumber;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly intent: ReadIntent;
  readonly signal: AbortSignal | undefined;
}

export interface ModelHooks {
  /** Called before every read: may wait (slow), throw (failing), or answer `notLocal`. */
  beforeRead?: (read: ModelRead) => MaybePromise<typeof notLocal | undefined>;
  /** Called before every write: may wait or throw. */
  beforeWrite?: (write: { readonly inode: InodeNumber; readonly lengthBytes: number }) => MaybePromise<void>;
}

function fail(errno: ErrnoName, why: string): never {
  throw new FileSystemError(errno, why);
}

/**
 * The reference that real file systems are compared with, and the test double of the engines: everything in memory,
 * nothing clever. Behaves like a local Linux file system mounted `noatime`; an inode that is gone is `ESTALE`.
 */
export class ModelFileSystem implements FileSystem {
  /** May be replaced at any time. */
  hooks: ModelHooks = {};

  readonly #nodes = new Map<InodeNumber, Node>();
  readonly #handles = new Map<HandleId, Handle>();
  readonly #held = new Set<InodeNumber>();
  readonly #clock: () => bigint;
  #nextInode = 1;
  #nextHandle = 1;

  constructor(clock: () => bigint = () => BigInt(Date.now()) * 1_000_000n) {
    this.#clock = clock;
    const root = this.#makeDirectoryNode(rootInode, 0o755, { uid: 0, gid: 0 });
    root.linkCount = 2;
  }

  /** Inodes that exist, unlinked open ones included. */
  get inodeCount(): number {
    return this.#nodes.size;
  }

  get openHandles(): number {
    return this.#handles.size;
  }

  lookup(parent: InodeNumber, name: string): Attributes {
    return attributesOf(this.#child(this.#directory(parent), name));
  }

  hold(inode: InodeNumber): void {
    this.#held.add(this.#node(inode).inode);
  }

  forget(inode: InodeNumber): void {
    this.#held.delete(inode);
    const node = this.#nodes.get(inode);
    if (node !== undefined) this.#forgetIfUnused(node);
  }

  getAttributes(inode: InodeNumber): Attributes {
    return attributesOf(this.#node(inode));
  }

  setAttributes(inode: InodeNumber, changes: AttributeChanges): Attributes {
    const node = this.#node(inode);
    if (changes.sizeBytes !== undefined) this.#resize(regularFile(node), changes.sizeBytes);
    if (changes.permissions !== undefined) node.permissions = changes.permissions & 0o7777;
    if (changes.uid !== undefined) node.uid = changes.uid;
    if (changes.gid !== undefined) node.gid = changes.gid;
    const now = this.#clock();
    if (changes.accessTimeNs !== undefined) {
      node.accessTimeNs = changes.accessTimeNs === 'now' ? now : changes.accessTimeNs;
    }
    if (changes.modifyTimeNs !== undefined) {
      node.modifyTimeNs = changes.modifyTimeNs === 'now' ? now : changes.modifyTimeNs;
    }
    node.changeTimeNs = now;
    return attributesOf(node);
  }

  readLink(inode: InodeNumber): string {
    const node = this.#node(inode);
    return node.kind === 'symlink' ? node.target : fail('EINVAL', 'not a symbolic link');
  }

  makeDirectory(parent: InodeNumber, name: string, permissions: number, caller: Caller): Attributes {
    const directory = this.#directoryForNew(parent, name);
    const inherited = directory.permissions & setGroupId;
    const node = this.#makeDirectoryNode(parent, permissions | inherited, ownerIn(directory, caller));
    this.#attach(directory, name, node);
    return attributesOf(node);
  }

  makeSymlink(parent: InodeNumber, name: string, target: string, caller: Caller): Attributes {
    const directory = this.#directoryForNew(parent, name);
    if (target === '') fail('ENOENT', 'empty symbolic link target');
    if (Buffer.byteLength(target) > 4095) fail('ENAMETOOLONG', 'symbolic link target too long');
    const node: SymlinkNode = { ...this.#common(0o777, ownerIn(directory, caller)), kind: 'symlink', target };
    this.#attach(directory, name, node);
    return attributesOf(node);
  }

  makeNode(parent: InodeNumber, name: string, mode: number, caller: Caller): Attributes {
    const directory = this.#directoryForNew(parent, name);
    const type = mode & typeMask;
    if (type === modeTypes.fifo) {
      const node: FifoNode = { ...this.#common(mode, ownerIn(directory, caller)), kind: 'fifo' };
      this.#attach(directory, name, node);
      return attributesOf(node);
    }
    if (type !== modeTypes.file && type !== 0) fail('EPERM', 'devices and sockets are not supported');
    const node = this.#makeFileNode(mode, ownerIn(directory, caller));
    this.#attach(directory, name, node);
    return attributesOf(node);
  }

  create(
    parent: InodeNumber,
    name: string,
    permissions: number,
    flags: number,
    caller: Caller,
  ): { readonly attributes: Attributes; readonly handle: HandleId } {
    const directory = this.#directoryForNew(parent, name);
    const node = this.#makeFileNode(permissions, ownerIn(directory, caller));
    this.#attach(directory, name, node);
    return { attributes: attributesOf(node), handle: this.#openNode(node, flags) };
  }

  link(inode: InodeNumber, newParent: InodeNumber, newName: string): Attributes {
    const node = this.#node(inode);
    if (node.kind === 'directory') fail('EPERM', 'directories have one name');
    if (node.linkCount === 0) fail('ENOENT', 'the file was unlinked');
    this.#attach(this.#directoryForNew(newParent, newName), newName, node);
    node.changeTimeNs = this.#clock();
    return attributesOf(node);
  }

  unlink(parent: InodeNumber, name: string): void {
    const directory = this.#directory(parent);
    const node = this.#child(directory, name);
    if (node.kind === 'directory') fail('EISDIR', `${name} is a directory`);
    this.#detach(directory, name, node);
  }

  removeDirectory(parent: InodeNumber, name: string): void {
    const directory = this.#directory(parent);
    const node = this.#child(directory, name);
    if (node.kind !== 'directory') fail('ENOTDIR', `${name} is not a directory`);
    if (node.entries.size > 0) fail('ENOTEMPTY', `${name} is not empty`);
    this.#detach(directory, name, node);
  }

  rename(parent: InodeNumber, name: string, newParent: InodeNumber, newName: string, mode: RenameMode): void {
    const from = this.#directory(parent);
    const to = this.#directory(newParent);
    const node = this.#child(from, name);
    checkName(newName);
    if (to.linkCount === 0) fail('ENOENT', 'the directory was removed');
    const targetInode = to.entries.get(newName);
    const target = targetInode === undefined ? undefined : this.#node(targetInode);
    if (this.#isWithin(to, node)) fail('EINVAL', 'a directory cannot move into itself');

    if (mode === 'exchange') {
      if (target === undefined) fail('ENOENT', `${newName} does not exist`);
      if (this.#isWithin(from, target)) fail('EINVAL', 'a directory cannot move into itself');
      if (node === target) return;
      this.#detachKeeping(from, name, node);
      this.#detachKeeping(to, newName, target);
      this.#attach(from, name, target);
      this.#attach(to, newName, node);
      target.changeTimeNs = node.changeTimeNs = this.#clock();
      return;
    }
    if (target !== undefined) {
      if (mode === 'noReplace') fail('EEXIST', `${newName} exists`);
      if (node === target) return;
      if (node.kind === 'directory' && target.kind !== 'directory') fail('ENOTDIR', `${newName} is a file`);
      if (node.kind !== 'directory' && target.kind === 'directory')
        fail('EISDIR', `${newName} is a directory`);
      if (target.kind === 'directory' && target.entries.size > 0)
        fail('ENOTEMPTY', `${newName} is not empty`);
      this.#detach(to, newName, target);
    }
    this.#detachKeeping(from, name, node);
    this.#attach(to, newName, node);
    node.changeTimeNs = this.#clock();
  }

  open(inode: InodeNumber, flags: number): HandleId {
    const node = this.#node(inode);
    if (node.kind === 'symlink') fail('ELOOP', 'a symbolic link cannot be opened');
    if (node.kind === 'fifo') fail('ENXIO', 'a fifo is opened by the kernel');
    const file = regularFile(node);
    if ((flags & truncateFlag) !== 0) this.#resize(file, 0);
    return this.#openNode(file, flags);
  }

  release(handle: HandleId): void {
    const { node } = this.#handle(handle);
    this.#handles.delete(handle);
    this.#forgetIfUnused(node);
  }

  inodeOf(handle: HandleId): InodeNumber {
    return this.#handle(handle).node.inode;
  }

  read(
    handle: HandleId,
    offsetBytes: number,
    into: Uint8Array,
    intent: ReadIntent,
    signal?: AbortSignal,
  ): MaybePromise<number | typeof notLocal> {
    const { node, flags } = this.#handle(handle);
    if ((flags & accessModeMask) === writeOnly) fail('EBADF', 'the file is open for writing only');
    if (signal?.aborted === true) fail('EINTR', 'the read was interrupted');
    const read = { inode: node.inode, offsetBytes, lengthBytes: into.length, intent, signal };
    const hooked = this.hooks.beforeRead?.(read);
    if (hooked instanceof Promise) {
      return hooked.then((answer) => answer ?? readFile(node, offsetBytes, into));
    }
    return hooked ?? readFile(node, offsetBytes, into);
  }

  write(handle: HandleId, offsetBytes: number, data: Uint8Array): MaybePromise<number> {
    const { node, flags } = this.#handle(handle);
    if ((flags & accessModeMask) === readOnly) fail('EBADF', 'the file is open for reading only');
    if (offsetBytes + data.length > limits.fileBytesMax) fail('EFBIG', 'the file would be too large');
    const hooked = this.hooks.beforeWrite?.({ inode: node.inode, lengthBytes: data.length });
    if (hooked instanceof Promise) return hooked.then(() => this.#write(node, offsetBytes, data));
    return this.#write(node, offsetBytes, data);
  }

  async fsync(handle: HandleId): Promise<void> {
    this.#handle(handle);
    return Promise.resolve();
  }

  async syncAll(): Promise<void> {
    return Promise.resolve();
  }

  allocate(handle: HandleId, mode: AllocateMode, offsetBytes: number, lengthBytes: number): void {
    const { node, flags } = this.#handle(handle);
    if ((flags & accessModeMask) === readOnly) fail('EBADF', 'the file is open for reading only');
    if (offsetBytes < 0 || lengthBytes <= 0) fail('EINVAL', 'an empty or negative range');
    const endBytes = offsetBytes + lengthBytes;
    if (endBytes > limits.fileBytesMax) fail('EFBIG', 'the file would be too large');
    if (mode !== 'allocate' && mode !== 'allocateKeepSize') {
      clearRange(node, offsetBytes, Math.min(endBytes, node.sizeBytes));
    }
    if ((mode === 'allocate' || mode === 'zeroRange') && endBytes > node.sizeBytes) node.sizeBytes = endBytes;
    node.modifyTimeNs = node.changeTimeNs = this.#clock();
  }

  seek(handle: HandleId, offsetBytes: number, whence: 'data' | 'hole'): number {
    const { node } = this.#handle(handle);
    if (offsetBytes < 0 || offsetBytes >= node.sizeBytes) fail('ENXIO', 'past the end of the file');
    const firstPage = Math.floor(offsetBytes / pageBytes);
    if (whence === 'hole') {
      let page = firstPage;
      while (node.pages.has(page)) page += 1;
      return Math.min(Math.max(page * pageBytes, offsetBytes), node.sizeBytes);
    }
    const dataPages = [...node.pages.keys()].filter((page) => page >= firstPage);
    if (dataPages.length === 0) fail('ENXIO', 'no data from here on');
    const found = dataPages.reduce((least, page) => Math.min(least, page));
    return Math.max(found * pageBytes, offsetBytes);
  }

  copyRange(source: FilePosition, target: FilePosition, lengthBytes: number): MaybePromise<number> {
    const { node } = this.#handle(source.handle);
    const into = this.#handle(target.handle);
    if ((into.flags & accessModeMask) === readOnly) fail('EBADF', 'the file is open for reading only');
    const length = Math.min(lengthBytes, node.sizeBytes - source.offsetBytes);
    if (length <= 0) return 0;
    if (target.offsetBytes + length > limits.fileBytesMax) fail('EFBIG', 'the file would be too large');
    if (node === into.node && Math.abs(source.offsetBytes - target.offsetBytes) < length) {
      fail('EINVAL', 'the ranges overlap');
    }
    const pieces = [...node.pages].flatMap(([page, content]) => {
      const start = Math.max(source.offsetBytes - page * pageBytes, 0);
      const end = Math.min(source.offsetBytes + length - page * pageBytes, pageBytes);
      const at = target.offsetBytes + page * pageBytes + start - source.offsetBytes;
      return start < end ? [{ at, content: content.slice(start, end) }] : [];
    });
    const endBytes = target.offsetBytes + length;
    clearRange(into.node, target.offsetBytes, Math.min(endBytes, into.node.sizeBytes));
    for (const { at, content } of pieces) this.#write(into.node, at, content);
    into.node.sizeBytes = Math.max(into.node.sizeBytes, endBytes);
    into.node.modifyTimeNs = into.node.changeTimeNs = this.#clock();
    return length;
  }

  readDirectory(inode: InodeNumber): readonly DirectoryEntry[] {
    return Array.from(this.#directory(inode).entries, ([name, child]) => ({
      name,
      attributes: attributesOf(this.#node(child)),
    }));
  }

  parentOf(directory: InodeNumber): InodeNumber {
    return this.#directory(directory).parent;
  }

  usage(): FileSystemUsage {
    let usedBytes = 0;
    for (const node of this.#nodes.values()) if (node.kind === 'file') usedBytes += node.sizeBytes;
    const availableBytes = 2 ** 40;
    return {
      usedBytes,
      freeBytes: availableBytes,
      availableBytes,
      totalBytes: usedBytes + availableBytes,
      inodes: this.#nodes.size,
      freeInodes: nodeLimit - this.#nodes.size,
    };
  }

  getExtendedAttribute(inode: InodeNumber, name: string): Uint8Array {
    checkAttributeName(name);
    return this.#node(inode).extendedAttributes.get(name) ?? fail('ENODATA', `no attribute ${name}`);
  }

  listExtendedAttributes(inode: InodeNumber): readonly string[] {
    return [...this.#node(inode).extendedAttributes.keys()];
  }

  setExtendedAttribute(
    inode: InodeNumber,
    name: string,
    value: Uint8Array,
    mode: ExtendedAttributeMode,
  ): void {
    const node = this.#node(inode);
    checkAttributeName(name);
    if (value.length > attributeValueBytesMax) fail('E2BIG', 'attribute value too long');
    const exists = node.extendedAttributes.has(name);
    if (mode === 'create' && exists) fail('EEXIST', `attribute ${name} exists`);
    if (mode === 'replace' && !exists) fail('ENODATA', `no attribute ${name}`);
    const others = [...node.extendedAttributes].filter(([other]) => other !== name);
    const totalBytes = [...others, [name, value] as const].reduce(
      (sum, [each, { length }]) => sum + Buffer.byteLength(each) + length,
      0,
    );
    if (totalBytes > attributesBytesMax) fail('ENOSPC', 'too many attributes');
    node.extendedAttributes.set(name, Uint8Array.from(value));
    node.changeTimeNs = this.#clock();
  }

  removeExtendedAttribute(inode: InodeNumber, name: string): void {
    const node = this.#node(inode);
    checkAttributeName(name);
    if (!node.extendedAttributes.delete(name)) fail('ENODATA', `no attribute ${name}`);
    node.changeTimeNs = this.#clock();
  }

  /** It dies with its process. */
  recall(): undefined {
    return undefined;
  }

  #node(inode: InodeNumber): Node {
    return this.#nodes.get(inode) ?? fail('ESTALE', `inode ${inode} is gone`);
  }

  #directory(inode: InodeNumber): DirectoryNode {
    const node = this.#node(inode);
    return node.kind === 'directory' ? node : fail('ENOTDIR', `inode ${inode} is not a directory`);
  }

  #handle(handle: HandleId): Handle {
    return this.#handles.get(handle) ?? fail('EBADF', `handle ${handle} is not open`);
  }

  #child(directory: DirectoryNode, name: string): Node {
    checkName(name);
    const inode = directory.entries.get(name) ?? fail('ENOENT', `${name} does not exist`);
    return this.#node(inode);
  }

  #directoryForNew(parent: InodeNumber, name: string): DirectoryNode {
    const directory = this.#directory(parent);
    checkName(name);
    if (directory.entries.has(name)) fail('EEXIST', `${name} exists`);
    if (directory.linkCount === 0) fail('ENOENT', 'the directory was removed');
    if (this.#nodes.size >= nodeLimit) fail('ENOSPC', 'too many inodes');
    return directory;
  }

  #common(permissions: number, caller: Caller): NodeCommon {
    const now = this.#clock();
    return {
      inode: this.#nextInode++ as InodeNumber,
      permissions: permissions & 0o7777,
      uid: caller.uid,
      gid: caller.gid,
      linkCount: 0,
      accessTimeNs: now,
      modifyTimeNs: now,
      changeTimeNs: now,
      extendedAttributes: new Map(),
    };
  }

  #makeFileNode(permissions: number, caller: Caller): FileNode {
    const common = this.#common(permissions, caller);
    return { ...common, kind: 'file', sizeBytes: 0, pages: new Map() };
  }

  #makeDirectoryNode(parent: InodeNumber, permissions: number, caller: Caller): DirectoryNode {
    const common = this.#common(permissions, caller);
    const node: DirectoryNode = { ...common, kind: 'directory', parent, entries: new Map(), linkCount: 1 };
    this.#nodes.set(node.inode, node);
    return node;
  }

  #attach(directory: DirectoryNode, name: string, node: Node): void {
    this.#nodes.set(node.inode, node);
    directory.entries.set(name, node.inode);
    node.linkCount += 1;
    if (node.kind === 'directory') {
      node.parent = directory.inode;
      directory.linkCount += 1;
    }
    directory.modifyTimeNs = directory.changeTimeNs = this.#clock();
  }

  #detachKeeping(directory: DirectoryNode, name: string, node: Node): void {
    directory.entries.delete(name);
    node.linkCount -= 1;
    if (node.kind === 'directory') directory.linkCount -= 1;
    directory.modifyTimeNs = directory.changeTimeNs = this.#clock();
  }

  #detach(directory: DirectoryNode, name: string, node: Node): void {
    this.#detachKeeping(directory, name, node);
    if (node.kind === 'directory') node.linkCount = 0;
    node.changeTimeNs = this.#clock();
    this.#forgetIfUnused(node);
  }

  #forgetIfUnused(node: Node): void {
    if (node.linkCount > 0 || this.#held.has(node.inode)) return;
    for (const handle of this.#handles.values()) if (handle.node === node) return;
    this.#nodes.delete(node.inode);
  }

  #isWithin(directory: DirectoryNode, ancestor: Node): boolean {
    let current = directory;
    while (current !== ancestor) {
      if (current.inode === rootInode) return false;
      current = this.#directory(current.parent);
    }
    return true;
  }

  #openNode(node: FileNode, flags: number): HandleId {
    const handle = this.#nextHandle++ as HandleId;
    this.#handles.set(handle, { node, flags });
    return handle;
  }

  #resize(node: FileNode, sizeBytes: number): void {
    if (sizeBytes < 0) fail('EINVAL', 'a negative size');
    if (sizeBytes > limits.fileBytesMax) fail('EFBIG', 'the file would be too large');
    if (sizeBytes < node.sizeBytes) clearRange(node, sizeBytes, node.sizeBytes);
    node.sizeBytes = sizeBytes;
    node.modifyTimeNs = node.changeTimeNs = this.#clock();
  }

  #write(node: FileNode, offsetBytes: number, data: Uint8Array): number {
    if (data.length === 0) return 0;
    forEachPage(offsetBytes, offsetBytes + data.length, (page, start, end, doneBytes) => {
      let content = node.pages.get(page);
      if (content === undefined) node.pages.set(page, (content = new Uint8Array(pageBytes)));
      content.set(data.subarray(doneBytes, doneBytes + end - start), start);
    });
    node.sizeBytes = Math.max(node.sizeBytes, offsetBytes + data.length);
    node.modifyTimeNs = node.changeTimeNs = this.#clock();
    return data.length;
  }
}

function regularFile(node: Node): FileNode {
  if (node.kind === 'directory') fail('EISDIR', 'a directory');
  return node.kind === 'file' ? node : fail('EINVAL', 'not a regular file');
}

/** A directory with the bit passes its group on. */
function ownerIn(directory: DirectoryNode, { uid, gid }: Caller): Caller {
  return { uid, gid: (directory.permissions & setGroupId) === 0 ? gid : directory.gid };
}

function checkAttributeName(name: string): void {
  const nameSpace = ['user.', 'trusted.', 'security.'].find((prefix) => name.startsWith(prefix));
  if (nameSpace === undefined) fail('EOPNOTSUPP', 'a name space that is not supported');
  if (name === nameSpace) fail('EINVAL', 'no name in its name space');
  if (Buffer.byteLength(name) > limits.fileNameBytesMax) fail('ERANGE', 'an attribute name is too long');
}

function checkName(name: string): void {
  if (name === '' || name === '.' || name === '..' || name.includes('/') || name.includes('\0')) {
    fail('EINVAL', 'not a file name');
  }
  if (Buffer.byteLength(name) > limits.fileNameBytesMax) fail('ENAMETOOLONG', 'file name too long');
}

function sizeOf(node: Node): number {
  switch (node.kind) {
    case 'file':
      return node.sizeBytes;
    case 'symlink':
      return Buffer.byteLength(node.target);
    case 'directory':
    case 'fifo':
      return 0;
  }
}

function attributesOf(node: Node): Attributes {
  return {
    inode: node.inode,
    mode: modeTypes[node.kind] | node.permissions,
    linkCount: node.linkCount,
    uid: node.uid,
    gid: node.gid,
    sizeBytes: sizeOf(node),
    blocks: node.kind === 'file' ? node.pages.size * (pageBytes / 512) : 0,
    accessTimeNs: node.accessTimeNs,
    modifyTimeNs: node.modifyTimeNs,
    changeTimeNs: node.changeTimeNs,
  };
}

/** Visits each page of `[startBytes, endBytes)` with the part of the page that lies in it. */
function forEachPage(
  startBytes: number,
  endBytes: number,
  visit: (page: number, start: number, end: number, doneBytes: number) => void,
): void {
  for (let position = startBytes; position < endBytes;) {
    const page = Math.floor(position / pageBytes);
    const start = position - page * pageBytes;
    const end = Math.min(pageBytes, endBytes - page * pageBytes);
    visit(page, start, end, position - startBytes);
    position += end - start;
  }
}

function readFile(node: FileNode, offsetBytes: number, into: Uint8Array): number {
  const endBytes = Math.min(offsetBytes + into.length, node.sizeBytes);
  if (endBytes <= offsetBytes) return 0;
  forEachPage(offsetBytes, endBytes, (page, start, end, doneBytes) => {
    const content = node.pages.get(page);
    if (content === undefined) into.fill(0, doneBytes, doneBytes + end - start);
    else into.set(content.subarray(start, end), doneBytes);
  });
  return endBytes - offsetBytes;
}

/** Makes `[startBytes, endBytes)` zero: whole pages become holes. The last page of the file counts as whole. */
function clearRange(node: FileNode, startBytes: number, endBytes: number): void {
  for (const [page, content] of [...node.pages]) {
    const start = Math.max(startBytes - page * pageBytes, 0);
    const pageEnd = Math.min(pageBytes, node.sizeBytes - page * pageBytes);
    const end = Math.min(endBytes - page * pageBytes, pageEnd);
    if (start >= end) continue;
    if (start === 0 && end === pageEnd) node.pages.delete(page);
    else content.fill(0, start, end);
  }
}
