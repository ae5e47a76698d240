import assert from 'node:assert/strict';
import {
  FileSystemError,
  rootInode,
  type AllocateMode,
  type FileSystem,
  type HandleId,
  type InodeNumber,
  type RenameMode,
  type VmFileSystem,
} from '../../../src/fs/index.js';
import { ModelFileSystem } from '../../support/model-file-system.js';
import { caller, readWrite } from './open-file-system.js';

/** A step of a random test. Numbers pick from what there is when the step is made. */
export type Step =
  | { readonly kind: 'makeFile' | 'makeDirectory'; readonly at: number; readonly name: string }
  | { readonly kind: 'makeSymlink' | 'makeFifo'; readonly at: number; readonly name: string }
  | { readonly kind: 'unlink' | 'removeDirectory'; readonly at: number; readonly name: string }
  | { readonly kind: 'link'; readonly which: number; readonly at: number; readonly name: string }
  | {
      readonly kind: 'rename';
      readonly at: number;
      readonly name: string;
      readonly to: number;
      readonly newName: string;
      readonly mode: RenameMode;
    }
  | { readonly kind: 'open' | 'release' | 'fsync'; readonly which: number }
  | { readonly kind: 'write'; readonly which: number; readonly offset: number; readonly length: number }
  | { readonly kind: 'resize'; readonly which: number; readonly size: number }
  | {
      readonly kind: 'allocate';
      readonly which: number;
      readonly mode: AllocateMode;
      readonly offset: number;
      readonly length: number;
    }
  | {
      readonly kind: 'copy';
      readonly which: number;
      readonly to: number;
      readonly offset: number;
      readonly toOffset: number;
      readonly length: number;
    }
  | { readonly kind: 'attributes'; readonly which: number; readonly permissions: number }
  | { readonly kind: 'setAttribute' | 'removeAttribute'; readonly which: number; readonly name: string };

interface Pair<T> {
  readonly model: T;
  readonly real: T;
}

/** The reference and the real file system, given the same steps. Inodes pair by path, handles by when they were opened. */
export class Twins {
  readonly model: ModelFileSystem;
  real: VmFileSystem;
  /** Times of files that were written to are not compared after a crash: they come from the disk's clock then. */
  comparesTimes = true;
  #handles: Pair<HandleId>[] = [];
  #written = 0;

  constructor(real: VmFileSystem, now: () => bigint) {
    this.model = new ModelFileSystem(now);
    this.real = real;
  }

  /** Both give the same answer, or the same error. */
  async apply(step: Step): Promise<void> {
    switch (step.kind) {
      case 'makeFile':
      case 'makeFifo': {
        const parent = this.#directory(step.at);
        const mode = step.kind === 'makeFifo' ? 0o010600 : 0o100644;
        return this.#both((fs, side) => fs.makeNode(parent[side], step.name, mode, caller));
      }
      case 'makeDirectory': {
        const parent = this.#directory(step.at);
        return this.#both((fs, side) => fs.makeDirectory(parent[side], step.name, 0o755, caller));
      }
      case 'makeSymlink': {
        const parent = this.#directory(step.at);
        return this.#both((fs, side) => fs.makeSymlink(parent[side], step.name, 'a/b', caller));
      }
      case 'unlink': {
        const parent = this.#directory(step.at);
        return this.#both((fs, side) => fs.unlink(parent[side], step.name));
      }
      case 'removeDirectory': {
        const parent = this.#directory(step.at);
        return this.#both((fs, side) => fs.removeDirectory(parent[side], step.name));
      }
      case 'link': {
        const inode = this.#pick(this.#inodes(), step.which);
        const parent = this.#directory(step.at);
        return this.#both((fs, side) => fs.link(inode[side], parent[side], step.name));
      }
      case 'rename': {
        const from = this.#directory(step.at);
        const to = this.#directory(step.to);
        return this.#both(
          (fs, side) => fs.rename(from[side], step.name, to[side], step.newName, step.mode),
          // Linux looks first whether the new name may be there, the model whether a directory would hold itself.
          (real, model) => model === 'EINVAL' && (real === 'EEXIST' || real === 'ENOENT'),
        );
      }
      case 'attributes': {
        const inode = this.#pick(this.#inodes(), step.which);
        const changes = { permissions: step.permissions, uid: step.which };
        return this.#both((fs, side) => fs.setAttributes(inode[side], changes));
      }
      case 'setAttribute': {
        const inode = this.#pick(this.#inodes(), step.which);
        const value = Buffer.from(`value ${step.which}`);
        return this.#both((fs, side) => fs.setExtendedAttribute(inode[side], step.name, value, 'either'));
      }
      case 'removeAttribute': {
        const inode = this.#pick(this.#inodes(), step.which);
        return this.#both((fs, side) => fs.removeExtendedAttribute(inode[side], step.name));
      }
      case 'open':
        return this.#open(step.which);
      default:
        if (this.#handles.length > 0) await this.#applyToHandle(step);
    }
  }

  /** Everything that can be seen is the same: names, attributes, content. */
  async compare(): Promise<void> {
    await this.#compareDirectory({ model: rootInode, real: rootInode }, '');
    for (const { model, real } of this.#handles) {
      await this.#compareContent(model, real, 'an open file');
    }
    assert.equal(this.real.usage().inodes, this.model.inodeCount);
  }

  /** As when the process dies: all handles are gone. */
  async reopened(real: VmFileSystem): Promise<void> {
    for (const { model } of this.#handles) this.model.release(model);
    this.#handles = [];
    this.real = real;
    await this.compare();
  }

  /** Files that are named, for `open` and the like. */
  #inodes(): Pair<InodeNumber>[] {
    return this.#everything().map(({ model, real }) => ({ model, real }));
  }

  #directory(which: number): Pair<InodeNumber> {
    const directories = this.#everything().filter(({ isDirectory }) => isDirectory);
    return this.#pick([{ model: rootInode, real: rootInode }, ...directories], which);
  }

  #everything(): (Pair<InodeNumber> & { readonly isDirectory: boolean })[] {
    const found: (Pair<InodeNumber> & { readonly isDirectory: boolean })[] = [];
    const walk = (directory: Pair<InodeNumber>): void => {
      const entries = [...this.model.readDirectory(directory.model)].sort((a, b) =>
        a.name < b.name ? -1 : 1,
      );
      for (const { name, attributes } of entries) {
        const isDirectory = (attributes.mode & 0o170000) === 0o040000;
        const real = this.real.lookup(directory.real, name).inode;
        const pair = { model: attributes.inode, real, isDirectory };
        found.push(pair);
        if (isDirectory) walk(pair);
      }
    };
    walk({ model: rootInode, real: rootInode });
    return found.length === 0 ? [{ model: rootInode, real: rootInode, isDirectory: true }] : found;
  }

  #pick<T>(choices: readonly T[], which: number): T {
    return choices[which % choices.length] as T;
  }

  async #open(which: number): Promise<void> {
    const inode = this.#pick(this.#inodes(), which);
    const model = await outcome(() => this.model.open(inode.model, readWrite));
    const real = await outcome(() => this.real.open(inode.real, readWrite));
    assert.equal(real.errno, model.errno);
    if (model.errno === undefined) {
      this.#handles.push({ model: model.value as HandleId, real: real.value as HandleId });
    }
  }

  async #applyToHandle(step: Extract<Step, { which: number }>): Promise<void> {
    const index = step.which % this.#handles.length;
    const handle = this.#handles[index] as Pair<HandleId>;
    switch (step.kind) {
      case 'release':
        this.#handles.splice(index, 1);
        return this.#both((fs, side) => fs.release(handle[side]));
      case 'fsync':
        return this.#both((fs, side) => fs.fsync(handle[side], false));
      case 'write': {
        const data = Buffer.alloc(step.length, (this.#written++ % 250) + 1);
        return this.#both((fs, side) => fs.write(handle[side], step.offset, data));
      }
      case 'resize':
        return this.#both((fs, side) => fs.setAttributes(fs.inodeOf(handle[side]), { sizeBytes: step.size }));
      case 'allocate':
        return this.#both((fs, side) => fs.allocate(handle[side], step.mode, step.offset, step.length));
      case 'copy': {
        const target = this.#pick(this.#handles, step.to);
        return this.#both((fs, side) =>
          fs.copyRange(
            { handle: handle[side], offsetBytes: step.offset },
            { handle: target[side], offsetBytes: step.toOffset },
            step.length,
          ),
        );
      }
      default:
        throw new Error(`no handle is needed for ${step.kind}`);
    }
  }

  async #both(
    call: (fs: FileSystem, side: 'model' | 'real') => unknown,
    mayDiffer: (real: string | undefined, model: string | undefined) => boolean = () => false,
  ): Promise<void> {
    const model = await outcome(() => call(this.model, 'model'));
    const real = await outcome(() => call(this.real, 'real'));
    if (!mayDiffer(real.errno, model.errno)) assert.equal(real.errno, model.errno);
  }

  async #compareDirectory(directory: Pair<InodeNumber>, path: string): Promise<void> {
    const byName = (fs: FileSystem, inode: InodeNumber) =>
      [...fs.readDirectory(inode)].sort((a, b) => (a.name < b.name ? -1 : 1));
    const model = byName(this.model, directory.model);
    const real = byName(this.real, directory.real);
    assert.deepEqual(
      real.map(({ name }) => name),
      model.map(({ name }) => name),
    );
    for (const [index, entry] of model.entries()) {
      const twin = { model: entry.attributes.inode, real: (real[index] as typeof entry).attributes.inode };
      const childPath = `${path}/${entry.name}`;
      this.#compareInode(twin, childPath);
      if ((entry.attributes.mode & 0o170000) === 0o040000) {
        assert.equal(this.real.parentOf(twin.real), directory.real);
        await this.#compareDirectory(twin, childPath);
      }
      if ((entry.attributes.mode & 0o170000) === 0o100000) {
        const open = { model: this.model.open(twin.model, 0), real: await this.real.open(twin.real, 0) };
        await this.#compareContent(open.model, open.real, childPath);
        this.model.release(open.model);
        this.real.release(open.real);
      }
    }
  }

  #compareInode({ model, real }: Pair<InodeNumber>, path: string): void {
    const seen = (fs: FileSystem, inode: InodeNumber) => {
      const { inode: _inode, blocks: _blocks, ...attributes } = fs.getAttributes(inode);
      const names = [...fs.listExtendedAttributes(inode)].sort();
      return {
        path,
        ...attributes,
        ...(this.comparesTimes ? {} : { modifyTimeNs: 0n, changeTimeNs: 0n }),
        extendedAttributes: names.map((name) => [
          name,
          Buffer.from(fs.getExtendedAttribute(inode, name)).toString(),
        ]),
      };
    };
    assert.deepEqual(seen(this.real, real), seen(this.model, model));
  }

  async #compareContent(model: HandleId, real: HandleId, path: string): Promise<void> {
    const read = async (fs: FileSystem, handle: HandleId): Promise<Buffer> => {
      const { sizeBytes } = fs.getAttributes(fs.inodeOf(handle));
      const into = Buffer.alloc(sizeBytes + 10, 0xdd);
      const count = await fs.read(handle, 0, into, 'demand');
      assert.equal(count, sizeBytes, path);
      return into;
    };
    const expected = await read(this.model, model);
    const found = await read(this.real, real);
    if (found.equals(expected)) return;
    const at = found.findIndex((byte, index) => byte !== expected[index]);
    assert.fail(`${path} differs at byte ${at}: ${found[at]}, not ${expected[at]}`);
  }
}

interface Outcome {
  readonly value: unknown;
  readonly errno: string | undefined;
}

async function outcome(call: () => unknown): Promise<Outcome> {
  try {
    return { value: await call(), errno: undefined };
  } catch (error) {
    if (error instanceof FileSystemError) return { value: undefined, errno: error.errno };
    throw error;
  }
}
