import { createHash } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmdirSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeSync,
  type Stats,
} from 'node:fs';
import { join } from 'node:path';
import { makeFifo, setTimes, SystemCallError } from '../../src/system/index.js';
import type { Draw } from './draw.js';
import {
  attributeFlags,
  getAttribute,
  listAttributes,
  removeAttribute,
  rename,
  renameFlags,
  setAttribute,
} from './path-calls.js';

/** Few names, so that operations meet. One is as long as a name may be, one is not ASCII. */
const names = ['a', 'b', 'c', 'd', 'e', 'straße', 'n'.repeat(255)];
const tooLongName = 'n'.repeat(256);
const depthMax = 3;
const fileBytesMax = 40_000;

/** What is drawn once may be done in any tree: below one directory, and without looking elsewhere. */
export interface TreeOperation {
  readonly name: keyof typeof operations;
  /** With its parameters, for people. */
  readonly description: string;
  /** Does it below a directory, and says what came of it. Throws errors of system calls. */
  readonly apply: (root: string) => string;
}

type Drawn = Omit<TreeOperation, 'name'>;

const done = 'done';

/** Draws one operation. `excluded` are not drawn. */
export function drawTreeOperation(draw: Draw, excluded: ReadonlySet<string>): TreeOperation {
  for (;;) {
    const name = draw.pick(operationNames);
    if (!excluded.has(name)) return { name, ...operations[name](draw) };
  }
}

function drawPath(draw: Draw): string {
  const depth = 1 + draw.below(depthMax);
  const path = Array.from({ length: depth }, () => draw.pick(names));
  return draw.oneIn(200) ? join(...path, tooLongName) : join(...path);
}

function onPath(draw: Draw, what: string, apply: (path: string) => string): Drawn {
  const path = drawPath(draw);
  return { description: `${what} ${path}`, apply: (root) => apply(join(root, path)) };
}

const operations = {
  writeFile: (draw: Draw): Drawn => {
    const flags = draw.pick([
      constants.O_CREAT,
      constants.O_CREAT,
      constants.O_CREAT | constants.O_EXCL,
      constants.O_CREAT | constants.O_TRUNC,
      constants.O_APPEND,
      0,
    ]);
    const permissions = draw.pick([0o644, 0o600, 0o4755, 0o2755, 0o777]);
    const offsetBytes = draw.place(fileBytesMax / 2);
    const data = draw.data(draw.length(fileBytesMax / 2));
    return onPath(draw, `write ${data.length} bytes at ${offsetBytes}, flags ${flags.toString(8)},`, (path) =>
      withFile(path, flags | constants.O_RDWR, permissions, (fd) => {
        const appends = (flags & constants.O_APPEND) !== 0;
        return `${writeSync(fd, data, 0, data.length, appends ? null : offsetBytes)} of ${fstatSync(fd).size}`;
      }),
    );
  },
  readFile: (draw: Draw) =>
    onPath(draw, 'read', (path) => withFile(path, constants.O_RDONLY, 0, (fd) => digest(readFileSync(fd)))),
  truncate: (draw: Draw) => {
    const sizeBytes = draw.place(fileBytesMax);
    return onPath(draw, `truncate to ${sizeBytes}`, (path) => {
      // truncate(2) of `node:fs` would open a fifo, and wait.
      if (statSync(path).isFIFO()) return 'a fifo';
      truncateSync(path, sizeBytes);
      return done;
    });
  },
  makeDirectory: (draw: Draw) => {
    const permissions = draw.pick([0o755, 0o700, 0o2755, 0o1777]);
    return onPath(draw, `mkdir ${permissions.toString(8)}`, (path) => {
      mkdirSync(path, permissions);
      return done;
    });
  },
  removeDirectory: (draw: Draw) =>
    onPath(draw, 'rmdir', (path) => {
      rmdirSync(path);
      return done;
    }),
  unlink: (draw: Draw) =>
    onPath(draw, 'unlink', (path) => {
      unlinkSync(path);
      return done;
    }),
  makeSymlink: (draw: Draw) => {
    const target = join(...Array.from({ length: 1 + draw.below(2) }, () => draw.pick(names)));
    return onPath(draw, `symlink to ${target}`, (path) => {
      symlinkSync(target, path);
      return done;
    });
  },
  readSymlink: (draw: Draw) => onPath(draw, 'readlink', (path) => readlinkSync(path)),
  makeFifo: (draw: Draw) =>
    onPath(draw, 'mkfifo', (path) => {
      makeFifo(path, 0o640);
      return done;
    }),
  link: (draw: Draw): Drawn => {
    const from = drawPath(draw);
    return onPathOf2(draw, from, 'link', (path, root) => {
      linkSync(join(root, from), path);
      return done;
    });
  },
  rename: (draw: Draw): Drawn => renaming(draw, 'replace'),
  renameWithoutReplacing: (draw: Draw): Drawn => renaming(draw, 'noReplace'),
  renameExchanging: (draw: Draw): Drawn => renaming(draw, 'exchange'),
  renameOverOpen: (draw: Draw): Drawn => renamingOverOpen(draw, true),
  renameOverOpenOther: (draw: Draw): Drawn => renamingOverOpen(draw, false),
  unlinkOpen: (draw: Draw) => {
    const data = draw.data(draw.length(8192));
    return onPath(draw, 'unlink open', (path) =>
      withFile(path, constants.O_RDWR, 0, (fd) => {
        if (!fstatSync(fd).isFile()) return 'no file';
        unlinkSync(path);
        writeSync(fd, data, 0, data.length, 100);
        return describeOpen(fd);
      }),
    );
  },
  removeOpenDirectory: (draw: Draw) =>
    onPath(draw, 'rmdir open', (path) =>
      withFile(path, constants.O_RDONLY | constants.O_DIRECTORY, 0, (fd) => {
        rmdirSync(path);
        const { nlink } = fstatSync(fd);
        const inside = `/proc/self/fd/${fd}/inside`;
        return `${nlink} ${outcomeOf(() => mkdirSync(inside))} ${readdirSync(`/proc/self/fd/${fd}`).join()}`;
      }),
    ),
  changeMode: (draw: Draw) => {
    const permissions = draw.pick([0o644, 0o4711, 0o2771, 0o2745, 0o1700, 0o6755, 0]);
    return onPath(draw, `chmod ${permissions.toString(8)}`, (path) => {
      chmodSync(path, permissions);
      return done;
    });
  },
  changeOwner: (draw: Draw) => {
    const [uid, gid] = [draw.below(3), draw.below(3)];
    return onPath(draw, `chown ${uid}:${gid}`, (path) => {
      lchownSync(path, uid, gid);
      return done;
    });
  },
  setTimes: (draw: Draw) => {
    const [accessed, modified] = [draw.below(2 ** 40), draw.below(2 ** 40)];
    return onPath(draw, `utimes ${accessed} ${modified} ms`, (path) => {
      setTimes(path, BigInt(accessed) * 1_000_000n, BigInt(modified) * 1_000_000n);
      return String(lstatSync(path).mtimeMs);
    });
  },
  setAttribute: (draw: Draw) => {
    const name = `user.${draw.pick(names.slice(0, 6))}`;
    const flags = draw.pick(Object.values(attributeFlags));
    const value = draw.data(draw.below(300));
    return onPath(draw, `setxattr ${name} flags ${flags} ${value.length} bytes,`, (path) => {
      setAttribute(path, name, value, flags);
      return done;
    });
  },
  getAttribute: (draw: Draw) => {
    const name = `user.${draw.pick(names.slice(0, 6))}`;
    const bytesMax = draw.pick([10, 1000]);
    return onPath(draw, `getxattr ${name} into ${bytesMax}`, (path) =>
      digest(getAttribute(path, name, bytesMax)),
    );
  },
  listAttributes: (draw: Draw) => onPath(draw, 'listxattr', (path) => listAttributes(path).join()),
  removeAttribute: (draw: Draw) => {
    const name = `user.${draw.pick(names.slice(0, 6))}`;
    return onPath(draw, `removexattr ${name}`, (path) => {
      removeAttribute(path, name);
      return done;
    });
  },
  list: (draw: Draw) =>
    onPath(draw, 'readdir', (path) =>
      readdirSync(path, { withFileTypes: true })
        .map((entry) => `${entry.name} ${kindOf(entry)}`)
        .sort()
        .join(),
    ),
  stat: (draw: Draw) => onPath(draw, 'stat', (path) => describe(statSync(path))),
  lstat: (draw: Draw) => onPath(draw, 'lstat', (path) => describe(lstatSync(path))),
} satisfies Record<string, (draw: Draw) => Drawn>;

const weights: Partial<Record<keyof typeof operations, number>> = {
  writeFile: 8,
  readFile: 3,
  makeDirectory: 6,
  unlink: 3,
  link: 4,
  rename: 5,
  list: 2,
};

const operationNames = (Object.keys(operations) as (keyof typeof operations)[]).flatMap((name) =>
  Array<keyof typeof operations>(weights[name] ?? 1).fill(name),
);

function onPathOf2(
  draw: Draw,
  from: string,
  what: string,
  apply: (path: string, root: string) => string,
): Drawn {
  const to = drawPath(draw);
  return { description: `${what} ${from} to ${to}`, apply: (root) => apply(join(root, to), root) };
}

function renaming(draw: Draw, mode: keyof typeof renameFlags): Drawn {
  const from = drawPath(draw);
  return onPathOf2(draw, from, `rename ${mode}`, (path, root) => {
    rename(join(root, from), path, renameFlags[mode]);
    return done;
  });
}

/** What loses its name is a regular file, or anything else. */
function renamingOverOpen(draw: Draw, file: boolean): Drawn {
  const from = drawPath(draw);
  return onPathOf2(draw, from, `rename over open ${file ? 'file' : 'other'}`, (path, root) =>
    withFile(path, constants.O_RDONLY, 0, (fd) => {
      if (fstatSync(fd).isFile() !== file) return 'the other kind';
      rename(join(root, from), path, renameFlags.replace);
      return describeOpen(fd);
    }),
  );
}

/** The name of the error that a call ended with, or what it returned. Other errors are bugs of the test. */
export function outcomeOf(call: () => unknown): string {
  try {
    return String(call());
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException;
    if (errno === undefined) throw error;
    return new SystemCallError('', -errno).code;
  }
}

/** Fifos are opened without waiting for their other end. */
function withFile(path: string, flags: number, permissions: number, use: (fd: number) => string): string {
  const fd = openSync(path, flags | constants.O_NONBLOCK, permissions);
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

function describeOpen(fd: number): string {
  const stats = fstatSync(fd);
  if (!stats.isFile()) return describe(stats);
  const content = Buffer.alloc(stats.size);
  readSync(fd, content, 0, stats.size, 0);
  return `${describe(stats)} ${digest(content)}`;
}

/** What is the same in any two file systems. */
function describe(stats: Stats): string {
  const { mode, uid, gid, nlink, size } = stats;
  const common = `${mode.toString(8)} ${uid}:${gid}`;
  return stats.isDirectory() ? common : `${common} ${nlink} ${size}`;
}

export function kindOf(of: Pick<Stats, 'isFile' | 'isDirectory' | 'isSymbolicLink' | 'isFIFO'>): string {
  if (of.isFile()) return 'file';
  if (of.isDirectory()) return 'directory';
  if (of.isSymbolicLink()) return 'symlink';
  return of.isFIFO() ? 'fifo' : 'other';
}

export function digest(bytes: Uint8Array): string {
  return createHash('sha1').update(bytes).digest('base64').slice(0, 12);
}
