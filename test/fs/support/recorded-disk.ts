/**
 * Records what reaches the files of one directory: writes, changes of size, holes, names, and syncs with their beginnings and
 * ends. To be imported before whatever writes there, since it puts itself before the functions of `node:fs`.
 */
import fs, { type PathLike } from 'node:fs';
import { createRequire, syncBuiltinESMExports } from 'node:module';
import { basename, dirname, resolve, sep } from 'node:path';
import type koffiModule from 'koffi';

/** A change of a file's bytes. */
export type FileChange =
  | { readonly kind: 'write'; readonly at: number; readonly offsetBytes: number; readonly bytes: Buffer }
  | { readonly kind: 'resize'; readonly at: number; readonly sizeBytes: number }
  | {
      readonly kind: 'punch';
      readonly at: number;
      readonly offsetBytes: number;
      readonly lengthBytes: number;
    };

/** What was done before `began` is durable from `ended` on. Moments are numbers of events. */
export interface Sync {
  readonly began: number;
  readonly ended: number;
}

export interface RecordedFile {
  readonly changes: FileChange[];
  readonly syncs: Sync[];
}

/** Names that come, go and change in one step. */
export interface NamesChanged {
  readonly at: number;
  readonly names: ReadonlyMap<string, RecordedFile | undefined>;
}

export interface RecordedDirectory {
  readonly changes: NamesChanged[];
  readonly syncs: Sync[];
}

const keepSize = 1;
const punchHole = 2;

/** The recording of one directory and those in it. One at a time. */
export class RecordedDisk implements Disposable {
  /** By path below the root, which is the empty one. */
  readonly directories = new Map<string, RecordedDirectory>();
  readonly #root: string;
  readonly #names = new Map<string, RecordedFile>();
  /** By descriptor. */
  readonly #open = new Map<number, { readonly syncs: Sync[]; readonly file?: RecordedFile }>();
  readonly #forgetsOneIn: number;
  #events = 0;
  #syncs = 0;

  private constructor(root: string, forgetsOneIn: number) {
    this.#root = resolve(root);
    this.#forgetsOneIn = forgetsOneIn;
    this.directories.set('', { changes: [], syncs: [] });
  }

  /** Records until it is disposed of. `forgetsOneIn`: of so many syncs, one has no effect. */
  static begin(root: string, forgetsOneIn = Infinity): RecordedDisk {
    if (current !== undefined) throw new Error('something is being recorded already');
    current = new RecordedDisk(root, forgetsOneIn);
    return current;
  }

  /** How many events there were. */
  get now(): number {
    return this.#events;
  }

  [Symbol.dispose](): void {
    current = undefined;
  }

  opened(path: PathLike, fd: number, existed: boolean, truncates: boolean): void {
    const below = this.#below(path);
    if (below === undefined) return;
    const directory = this.directories.get(below);
    if (directory !== undefined) {
      this.#open.set(fd, directory);
      return;
    }
    if (!existed) this.#changeNames(below, { changes: [], syncs: [] });
    const file = this.#names.get(below);
    if (file === undefined) throw new Error(`${below} was made by somebody else`);
    if (existed && truncates) file.changes.push({ kind: 'resize', at: this.#tick(), sizeBytes: 0 });
    this.#open.set(fd, { syncs: file.syncs, file });
  }

  closed(fd: number): void {
    this.#open.delete(fd);
  }

  changed(fd: number, describe: (at: number) => FileChange): void {
    this.#open.get(fd)?.file?.changes.push(describe(this.#tick()));
  }

  /** A sync begins: returns what to call when it has succeeded. */
  syncing(fd: number): () => void {
    const target = this.#open.get(fd);
    if (target === undefined) return () => undefined;
    const began = this.#tick();
    this.#syncs += 1;
    if (this.#syncs % this.#forgetsOneIn === 0) return () => undefined;
    return () => target.syncs.push({ began, ended: this.#tick() });
  }

  madeDirectory(path: PathLike): void {
    const below = this.#below(path);
    if (below === undefined || this.directories.has(below)) return;
    this.directories.set(below, { changes: [], syncs: [] });
  }

  renamed(from: PathLike, to: PathLike): void {
    const [source, target] = [this.#below(from), this.#below(to)];
    if (source === undefined || target === undefined) return;
    const file = this.#names.get(source);
    if (file === undefined) throw new Error(`${source} was made by somebody else`);
    this.#names.delete(source);
    this.#names.set(target, file);
    this.#directoryOf(target).changes.push({
      at: this.#tick(),
      names: new Map([
        [basename(source), undefined],
        [basename(target), file],
      ]),
    });
  }

  removed(path: PathLike): void {
    const below = this.#below(path);
    if (below !== undefined && this.#names.has(below)) this.#changeNames(below, undefined);
  }

  #changeNames(below: string, file: RecordedFile | undefined): void {
    if (file === undefined) this.#names.delete(below);
    else this.#names.set(below, file);
    this.#directoryOf(below).changes.push({ at: this.#tick(), names: new Map([[basename(below), file]]) });
  }

  #directoryOf(below: string): RecordedDirectory {
    const parent = dirname(below);
    const directory = this.directories.get(parent === '.' ? '' : parent);
    if (directory === undefined) throw new Error(`${below} is in no directory that was recorded`);
    return directory;
  }

  #below(path: PathLike): string | undefined {
    const full = resolve(String(path));
    if (full === this.#root) return '';
    return full.startsWith(this.#root + sep) ? full.slice(this.#root.length + 1) : undefined;
  }

  #tick(): number {
    this.#events += 1;
    return this.#events;
  }
}

let current: RecordedDisk | undefined;

const original = { ...fs };

type Callback = (error: NodeJS.ErrnoException | null) => void;

Object.assign(fs, {
  openSync: (path: PathLike, flags: string | number = 'r', mode?: number): number => {
    const existed = current !== undefined && original.existsSync(path);
    const fd = original.openSync(path, flags, mode);
    const truncates =
      typeof flags === 'string' ? flags.startsWith('w') : (flags & fs.constants.O_TRUNC) !== 0;
    current?.opened(path, fd, existed, truncates);
    return fd;
  },
  closeSync: (fd: number): void => {
    current?.closed(fd);
    original.closeSync(fd);
  },
  writeSync: (
    fd: number,
    data: Uint8Array,
    from = 0,
    length = data.length - from,
    position?: number,
  ): number => {
    const count = original.writeSync(fd, data, from, length, position);
    current?.changed(fd, (at) => {
      if (typeof position !== 'number') throw new Error('where it was written is not known');
      return {
        kind: 'write',
        at,
        offsetBytes: position,
        bytes: Buffer.from(data.subarray(from, from + count)),
      };
    });
    return count;
  },
  ftruncateSync: (fd: number, sizeBytes = 0): void => {
    original.ftruncateSync(fd, sizeBytes);
    current?.changed(fd, (at) => ({ kind: 'resize', at, sizeBytes }));
  },
  renameSync: (from: PathLike, to: PathLike): void => {
    original.renameSync(from, to);
    current?.renamed(from, to);
  },
  rmSync: (path: PathLike, options?: fs.RmOptions): void => {
    original.rmSync(path, options);
    current?.removed(path);
  },
  mkdirSync: (path: PathLike, options?: fs.MakeDirectoryOptions): string | undefined => {
    const made = original.mkdirSync(path, options);
    current?.madeDirectory(path);
    return made;
  },
  ...syncing('fsyncSync', 'fsync'),
  ...syncing('fdatasyncSync', 'fdatasync'),
});
syncBuiltinESMExports();
recordFallocate();

function syncing(nameOfSync: 'fsyncSync' | 'fdatasyncSync', name: 'fsync' | 'fdatasync'): object {
  return {
    [nameOfSync]: (fd: number): void => {
      const done = current?.syncing(fd);
      original[nameOfSync](fd);
      done?.();
    },
    [name]: (fd: number, callback: Callback): void => {
      const done = current?.syncing(fd);
      original[name](fd, (error) => {
        if (error === null) done?.();
        callback(error);
      });
    },
  };
}

type Fallocate = (fd: number, mode: number, offsetBytes: number, lengthBytes: number) => number;

/** Holes come from fallocate(2), which is reached through koffi. */
function recordFallocate(): void {
  const koffi = createRequire(import.meta.url)('koffi') as typeof koffiModule;
  const load = koffi.load.bind(koffi);
  koffi.load = (...parameters) => {
    const library = load(...parameters);
    const find = library.func.bind(library) as (declaration: string) => unknown;
    const func = (declaration: string): unknown => {
      const found = find(declaration);
      return declaration.startsWith('int fallocate(') ? recordingFallocate(found as Fallocate) : found;
    };
    return Object.create(library, { func: { value: func } }) as typeof library;
  };
}

function recordingFallocate(fallocate: Fallocate): Fallocate {
  return (fd, mode, offsetBytes, lengthBytes) => {
    const result = fallocate(fd, mode, offsetBytes, lengthBytes);
    if (result !== 0 || mode === keepSize) return result;
    if (mode !== (punchHole | keepSize)) throw new Error(`fallocate mode ${mode} is not recorded`);
    current?.changed(fd, (at) => ({ kind: 'punch', at, offsetBytes, lengthBytes }));
    return result;
  };
}
