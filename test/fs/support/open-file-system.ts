import { cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import {
  FileSystemError,
  openOverlay,
  rootInode,
  type ErrnoName,
  type HandleId,
  type OpenOverlayOptions,
  type VmFileSystem,
} from '../../../src/fs/index.js';
import { FakeVersion, manifestOf, type TreeNode } from './fake-version.js';

export const caller = { uid: 1000, gid: 1000 };
export const readWrite = 2;

export interface Opened {
  readonly fileSystem: VmFileSystem;
  readonly version: FakeVersion;
  readonly options: OpenOverlayOptions;
  readonly errors: unknown[];
}

/** In memory where there is such a place: thousands of syncs cost nothing there. */
const temporaryRoot = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

/** A directory that goes with the test, and is not part of the source tree. */
export function temporaryDirectory(t: Test): string {
  const directory = mkdtempSync(join(temporaryRoot, 'isr-fs-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A new overlay over a tree; closed after the test. */
export async function openTree(
  t: Test,
  tree: (version: FakeVersion) => Readonly<Record<string, TreeNode>>,
  options: Partial<OpenOverlayOptions> = {},
): Promise<Opened> {
  const version = new FakeVersion();
  const errors: unknown[] = [];
  const full: OpenOverlayOptions = {
    directory: join(temporaryDirectory(t), 'overlay'),
    base: { manifest: manifestOf(tree(version)), identity: '1' },
    openFile: version.openFile,
    bootId: 'boot 1',
    onError: (error) => errors.push(error),
    ...options,
  };
  const fileSystem = await openOverlay(full);
  t.teardown(() => fileSystem.close());
  return { fileSystem, version, options: full, errors };
}

/** What a crash of the process leaves on the disk: everything, without any closing work. */
export function copyAtCrash(t: Test, directory: string): string {
  const copy = join(temporaryDirectory(t), 'overlay');
  cpSync(directory, copy, { recursive: true });
  return copy;
}

export async function openPath(fileSystem: VmFileSystem, path: string, flags = readWrite): Promise<HandleId> {
  let inode = rootInode;
  for (const name of path.split('/')) inode = fileSystem.lookup(inode, name).inode;
  return fileSystem.open(inode, flags);
}

export async function readAll(fileSystem: VmFileSystem, handle: HandleId): Promise<Buffer> {
  const { sizeBytes } = fileSystem.getAttributes(fileSystem.inodeOf(handle));
  const into = Buffer.alloc(sizeBytes + 100, 0xdd);
  const count = await fileSystem.read(handle, 0, into, 'demand');
  if (typeof count !== 'number') throw new Error('a demand read was refused');
  return into.subarray(0, count);
}

/** The errno of a call that must fail. */
export async function errnoOf(call: () => unknown): Promise<ErrnoName | undefined> {
  try {
    await call();
    return undefined;
  } catch (error) {
    if (error instanceof FileSystemError) return error.errno;
    throw error;
  }
}
