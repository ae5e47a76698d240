import assert from 'node:assert/strict';
import { rootInode, type HandleId, type InodeNumber, type VmFileSystem } from '../../../src/fs/index.js';
import type { Below } from './lost-image.js';
import { caller, readWrite } from './open-file-system.js';
import { namesOf } from './read-tree.js';
import type { Names } from './version-history.js';

const pageBytes = 4096;
const fileBytesMax = 6 * pageBytes;
const fileNames = ['one', 'two', 'three', 'four', 'five'];

/** Random changes to a small tree, each made at once, as everything is in memory. */
export class RandomChanges {
  readonly #fileSystem: VmFileSystem;
  readonly #below: Below;
  readonly #handles = new Map<InodeNumber, HandleId>();
  #writes = 0;

  constructor(fileSystem: VmFileSystem, below: Below) {
    this.#fileSystem = fileSystem;
    this.#below = below;
  }

  names(): Names {
    return namesOf(this.#fileSystem);
  }

  /** Of every file that has a name. */
  contents(): ReadonlyMap<number, Buffer> {
    const contents = new Map<number, Buffer>();
    for (const { inode, kind } of this.names().values()) {
      if (kind === 'file') contents.set(inode, this.#content(inode as InodeNumber));
    }
    return contents;
  }

  /** An open file, if there is any file. */
  openFile(): { readonly handle?: HandleId; readonly inode?: InodeNumber } {
    const inode = this.#pickFile();
    return inode === undefined ? {} : { handle: this.#open(inode), inode };
  }

  releaseAll(): void {
    for (const handle of this.#handles.values()) this.#fileSystem.release(handle);
    this.#handles.clear();
  }

  /** Makes one change, and answers the contents that it changed; undefined if what was drawn cannot be. */
  make(): ReadonlyMap<number, Buffer> | undefined {
    const kind = this.#below(16);
    if (kind < 10) return this.#changeContent(kind);
    return this.#changeNames(kind - 10);
  }

  #changeContent(kind: number): ReadonlyMap<number, Buffer> | undefined {
    const inode = this.#pickFile();
    if (inode === undefined) return undefined;
    const handle = this.#open(inode);
    const { sizeBytes } = this.#fileSystem.getAttributes(inode);
    const offset = this.#place(fileBytesMax - 1);
    const length = 1 + this.#below(Math.min(fileBytesMax - offset, 2.5 * pageBytes));
    if (kind < 6) {
      this.#writes += 1;
      atOnce(this.#fileSystem.write(handle, offset, Buffer.alloc(length, (this.#writes % 200) + 1)));
    } else if (kind < 7) {
      atOnce(this.#fileSystem.allocate(handle, 'punchHole', offset, length));
    } else if (kind < 8) {
      atOnce(this.#fileSystem.allocate(handle, 'zeroRange', offset, length));
    } else {
      const wanted = this.#below(2) === 0 ? this.#place(fileBytesMax) : this.#place(sizeBytes);
      atOnce(this.#fileSystem.setAttributes(inode, { sizeBytes: wanted }));
    }
    return new Map([[inode, this.#content(inode)]]);
  }

  #changeNames(kind: number): ReadonlyMap<number, Buffer> | undefined {
    const fileSystem = this.#fileSystem;
    const names = this.names();
    const [from, to] = [this.#drawName(), this.#drawName()];
    const existing = names.get(from.path);
    const target = names.get(to.path);
    switch (kind) {
      case 0:
      case 1: {
        if (existing !== undefined) return undefined;
        const created = fileSystem.create(from.directory, from.name, 0o644, readWrite, caller);
        assert.ok(!(created instanceof Promise));
        this.#handles.set(created.attributes.inode, created.handle);
        return new Map([[created.attributes.inode, Buffer.alloc(0)]]);
      }
      case 2:
        if (existing?.kind !== 'file') return undefined;
        atOnce(fileSystem.unlink(from.directory, from.name));
        this.#releaseSome();
        return new Map();
      case 3:
        if (existing === undefined || from.path === to.path || existing.inode === target?.inode)
          return undefined;
        atOnce(
          fileSystem.rename(
            from.directory,
            from.name,
            to.directory,
            to.name,
            target !== undefined && this.#below(3) === 0 ? 'exchange' : 'replace',
          ),
        );
        this.#releaseSome();
        return new Map();
      case 4:
        if (existing?.kind !== 'file' || target !== undefined) return undefined;
        atOnce(fileSystem.link(existing.inode as InodeNumber, to.directory, to.name));
        return new Map();
      default:
        if (existing === undefined) return undefined;
        atOnce(
          fileSystem.setAttributes(existing.inode as InodeNumber, {
            permissions: 0o600 + this.#below(0o100),
          }),
        );
        return new Map();
    }
  }

  /** In the root, or in its one directory. */
  #drawName(): { readonly directory: InodeNumber; readonly name: string; readonly path: string } {
    const name = fileNames[this.#below(fileNames.length)] ?? 'one';
    const directory = this.names().get('sub');
    return directory === undefined || this.#below(2) === 0
      ? { directory: rootInode, name, path: name }
      : { directory: directory.inode as InodeNumber, name, path: `sub/${name}` };
  }

  #pickFile(): InodeNumber | undefined {
    const files = [...this.names().values()].filter(({ kind }) => kind === 'file');
    return files[this.#below(files.length)]?.inode as InodeNumber | undefined;
  }

  /** Often at the border of a page, or near it. */
  #place(max: number): number {
    const near = this.#below(3) === 0 ? this.#below(200) - 100 : 0;
    const border = this.#below(Math.floor(max / pageBytes) + 1) * pageBytes;
    const place = this.#below(3) === 0 ? this.#below(max + 1) : border + near;
    return Math.min(Math.max(place, 0), max);
  }

  #open(inode: InodeNumber): HandleId {
    const known = this.#handles.get(inode);
    if (known !== undefined) return known;
    const handle = this.#fileSystem.open(inode, readWrite);
    assert.ok(!(handle instanceof Promise));
    this.#handles.set(inode, handle);
    return handle;
  }

  /** Files without a name live while they are open, and are gone afterwards. */
  #releaseSome(): void {
    for (const [inode, handle] of this.#handles) {
      if (this.#below(3) > 0) continue;
      this.#fileSystem.release(handle);
      this.#handles.delete(inode);
    }
  }

  #content(inode: InodeNumber): Buffer {
    const bytes = Buffer.alloc(this.#fileSystem.getAttributes(inode).sizeBytes);
    assert.equal(this.#fileSystem.read(this.#open(inode), 0, bytes, 'demand'), bytes.length);
    return bytes;
  }
}

function atOnce(done: unknown): void {
  assert.ok(!(done instanceof Promise), 'everything is in memory');
}
