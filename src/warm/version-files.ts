import { InvalidInput } from '../base/index.js';
import { manifestPaths, type FileMap, type Manifest } from '../repo/index.js';

const rootNumber = 1;

/** A regular file of a version. */
export interface VersionFile {
  /** Within the VM's directory; of several names the first. */
  readonly path: string;
  readonly map: FileMap;
  readonly modifyTimeNs: bigint;
}

/** By path. */
export function filesOf(manifest: Manifest): ReadonlyMap<string, VersionFile> {
  const files = new Map<string, VersionFile>();
  for (const [number, path] of manifestPaths(manifest)) {
    const inode = manifest.inodes.get(number);
    if (inode?.kind !== 'file') continue;
    files.set(path, { path, map: inode.content, modifyTimeNs: inode.modifyTimeNs });
  }
  return files;
}

/** The file of this name, which may be one of several. `InvalidInput` if there is none. */
export function fileAt(manifest: Manifest, path: string): FileMap {
  let inode = manifest.inodes.get(rootNumber);
  for (const name of path.split('/')) {
    const number = inode?.kind === 'directory' ? inode.entries.get(name) : undefined;
    inode = number === undefined ? undefined : manifest.inodes.get(number);
  }
  if (inode?.kind === 'file') return inode.content;
  throw new InvalidInput(`The version has no file ${path}.`, {
    facts: { file: path },
    remedy: 'Name a file by its path within the VM directory.',
  });
}
