import assert from 'node:assert/strict';

/** What a name of the tree is: its inode, with what a change of attributes changes of it. */
export interface NamedInode {
  readonly inode: number;
  readonly kind: 'file' | 'directory';
  readonly permissions: number;
}

/** Everything by its path, as it was at one time. */
export type Names = ReadonlyMap<string, NamedInode>;

interface HistoricContent {
  /** The first state that has it. */
  readonly state: number;
  readonly bytes: Buffer;
}

/** Found after a power loss. */
export interface FoundTree {
  readonly names: Names;
  readonly contents: ReadonlyMap<number, Buffer>;
}

/**
 * All states that a tree was in, one after each change, and which of them were flushed. From these it follows what a power
 * loss may leave: names and attributes of one state, the last flushed one or a later one; of each file a size that it had since it
 * was flushed, and bytes each of which it had since then. A byte beyond a file's end counts as zero.
 */
export class VersionHistory {
  readonly #names: Names[] = [];
  /** The moment at which the change that led to a state began. */
  readonly #began: number[] = [];
  readonly #contents = new Map<number, HistoricContent[]>();
  readonly #flushes: {
    readonly state: number;
    readonly ended: number;
    readonly inode: number | undefined;
  }[] = [];

  /** The state that the tree is in now. */
  get state(): number {
    return this.#names.length - 1;
  }

  /** A change that began at a moment has led to another state; `contents` of the files that it changed. */
  add(began: number, names: Names, contents: ReadonlyMap<number, Buffer>): void {
    this.#names.push(names);
    this.#began.push(began);
    for (const [inode, bytes] of contents) {
      const history = this.#contents.get(inode) ?? [];
      history.push({ state: this.state, bytes });
      this.#contents.set(inode, history);
    }
  }

  /** All names as of a state, and the data of one file or of all, are durable from a moment on. */
  flushed(state: number, ended: number, inode?: number): void {
    this.#flushes.push({ state, ended, inode });
  }

  /** @throws AssertionError if a power loss at a moment cannot have left this */
  check(found: FoundTree, at: number): void {
    const newest = this.#began.findLastIndex((began) => began <= at);
    const done = this.#flushes.filter(({ ended }) => ended <= at);
    const oldest = Math.max(0, ...done.map(({ state }) => state));
    const candidates = range(oldest, newest).filter((state) => isSameNames(this.#names[state], found.names));
    assert.ok(
      candidates.length > 0,
      `the names are of no state from ${oldest} to ${newest}: ${describe(found.names)}; the newest: ${describe(this.#names[newest])}`,
    );
    for (const [inode, bytes] of found.contents) {
      const own = done.filter((flush) => flush.inode === undefined || flush.inode === inode);
      const since = Math.max(0, ...own.map(({ state }) => state));
      this.#checkContent(inode, bytes, since, newest);
    }
  }

  #checkContent(inode: number, found: Buffer, since: number, newest: number): void {
    const history = (this.#contents.get(inode) ?? []).filter(({ state }) => state <= newest);
    const first = Math.max(
      history.findLastIndex(({ state }) => state <= since),
      0,
    );
    const possible = history.slice(first).map(({ bytes }) => bytes);
    const sizes = possible.map(({ length }) => length);
    assert.ok(
      sizes.includes(found.length),
      `inode ${inode} has ${found.length} bytes, not ${sizes.join(' or ')}`,
    );
    for (let at = 0; at < found.length; at += 1) {
      if (possible.some((bytes) => (bytes[at] ?? 0) === found[at])) continue;
      const values = new Set(possible.map((bytes) => bytes[at] ?? 0));
      assert.fail(
        `byte ${at} of inode ${inode} (${found.length} bytes) is ${found[at] ?? '?'}, not ${[...values].join(' or ')}`,
      );
    }
  }
}

function isSameNames(one: Names | undefined, other: Names): boolean {
  if (one?.size !== other.size) return false;
  return [...one].every(([path, named]) => {
    const found = other.get(path);
    return (
      found?.inode === named.inode && found.kind === named.kind && found.permissions === named.permissions
    );
  });
}

function describe(names: Names | undefined): string {
  return [...(names ?? [])]
    .map(([path, { inode, permissions }]) => `${path}=${inode}/${permissions.toString(8)}`)
    .sort()
    .join(' ');
}

function range(first: number, last: number): number[] {
  return Array.from({ length: Math.max(last - first + 1, 0) }, (_, index) => first + index);
}
