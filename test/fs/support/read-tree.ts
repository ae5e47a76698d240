import { rootInode, type InodeNumber, type VmFileSystem } from '../../../src/fs/index.js';
import type { FoundTree, NamedInode } from './version-history.js';

const readOnly = 0;

/** Everything that has a name. */
export async function readTree(fileSystem: VmFileSystem): Promise<FoundTree> {
  const names = namesOf(fileSystem);
  const contents = new Map<number, Buffer>();
  for (const { inode, kind } of names.values()) {
    if (kind === 'file' && !contents.has(inode)) contents.set(inode, await contentOf(fileSystem, inode));
  }
  return { names, contents };
}

export function namesOf(fileSystem: VmFileSystem): ReadonlyMap<string, NamedInode> {
  const names = new Map<string, NamedInode>();
  const visit = (directory: InodeNumber, path: string): void => {
    for (const { name } of fileSystem.readDirectory(directory)) {
      const { inode, mode } = fileSystem.lookup(directory, name);
      const isDirectory = (mode & 0o170000) === 0o040000;
      const full = path === '' ? name : `${path}/${name}`;
      names.set(full, { inode, kind: isDirectory ? 'directory' : 'file', permissions: mode & 0o7777 });
      if (isDirectory) visit(inode, full);
    }
  };
  visit(rootInode, '');
  return names;
}

export async function contentOf(fileSystem: VmFileSystem, inode: number): Promise<Buffer> {
  const handle = await fileSystem.open(inode as InodeNumber, readOnly);
  try {
    const { sizeBytes } = fileSystem.getAttributes(inode as InodeNumber);
    const bytes = Buffer.alloc(sizeBytes);
    const count = await fileSystem.read(handle, 0, bytes, 'demand');
    if (count !== sizeBytes) throw new Error(`${String(count)} bytes of ${sizeBytes}`);
    return bytes;
  } finally {
    fileSystem.release(handle);
  }
}
