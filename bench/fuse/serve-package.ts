/**
 * Serves the benchmark's data through the package `fuse-native` as it is published: its own JavaScript, and a file system
 * that does nothing but read and write local files. What our adapter of the engine leaves out shows beside it.
 * Usage: serve-package MOUNT SOURCE. Says `ready`, and unmounts when its standard input ends.
 */
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  fdatasyncSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  writeSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

/** What is used of the package, which has no typings. */
interface FusePackage {
  new (
    mountPath: string,
    operations: object,
    options: object,
  ): { mount(then: (error: Error | null | undefined) => void): void };
  readonly ENOENT: number;
}

type Answer = (code: number, value?: unknown) => void;
type Transfer = (
  path: string,
  file: number,
  buffer: Buffer,
  lengthBytes: number,
  offset: number,
  answer: (bytes: number) => void,
) => void;

const Fuse = createRequire(import.meta.url)('fuse-native') as FusePackage;
const [mountPath, source] = process.argv.slice(2);
if (mountPath === undefined || source === undefined) throw new Error('usage: serve-package MOUNT SOURCE');

const files = new Map(readdirSync(source).map((name) => [`/${name}`, openSync(join(source, name), 'r+')]));
const directory = {
  mtime: new Date(),
  atime: new Date(),
  ctime: new Date(),
  nlink: 1,
  size: 4096,
  mode: 0o40755,
};

const transfer =
  (
    move: (fd: number, buffer: Buffer, start: number, lengthBytes: number, offset: number) => number,
  ): Transfer =>
  (_path, file, buffer, lengthBytes, offset, answer) =>
    answer(move(file, buffer, 0, lengthBytes, offset));

const operations = {
  readdir: (_path: string, answer: Answer) =>
    answer(
      0,
      [...files.keys()].map((name) => name.slice(1)),
    ),
  getattr: (path: string, answer: Answer) => {
    const fd = files.get(path);
    if (path === '/') answer(0, { ...directory, uid: process.getuid?.(), gid: process.getgid?.() });
    else if (fd === undefined) answer(Fuse.ENOENT);
    else answer(0, fstatSync(fd));
  },
  open: (path: string, _flags: number, answer: Answer) => answer(0, files.get(path)),
  read: transfer(readSync),
  write: transfer(writeSync),
  // It hands over what follows the path in another order than it documents.
  fsync: (path: string, _dataOnly: number, _file: number, answer: Answer) => {
    const fd = files.get(path);
    if (fd !== undefined) fdatasyncSync(fd);
    answer(fd === undefined ? Fuse.ENOENT : 0);
  },
};

mkdirSync(mountPath, { recursive: true });
// The options of our adapter that it has a way to say; the others are appended to the name, which it does not check.
const fuse = new Fuse(mountPath, operations, {
  fsname: 'isr:bench,subtype=isr,big_writes',
  timeout: false,
  force: true,
  autoCache: true,
  maxRead: 131072,
  entryTimeout: 60,
});
fuse.mount((error) => {
  if (error instanceof Error) throw error;
  process.stdout.write('ready\n');
});
process.stdin
  .once('end', () => {
    execFileSync('fusermount3', ['-u', mountPath]);
    for (const fd of files.values()) closeSync(fd);
    process.exit(0);
  })
  .resume();
