import type { Manifest, ManifestInode } from '../repo/index.js';
import type { Change, StoredInode } from './records.js';
import { rootInode } from './types.js';

/** The changes that make a version's directory in an empty table. Inodes are numbered from `firstInodeNumber` on. */
export function* manifestChanges(manifest: Manifest, firstInodeNumber: number): Generator<Change, void> {
  const numbers = new Map<number, number>([[rootInode, rootInode]]);
  let next = firstInodeNumber;
  for (const number of manifest.inodes.keys()) {
    if (number !== rootInode) numbers.set(number, next++);
  }
  const numberOf = (inManifest: number): number => {
    const number = numbers.get(inManifest);
    if (number === undefined) throw new Error(`the manifest has no inode ${inManifest}`);
    return number;
  };
  for (const inode of manifest.inodes.values()) {
    yield { type: 'change', created: storedInode(inode, numberOf(inode.number)) };
  }
  for (const inode of manifest.inodes.values()) {
    if (inode.kind !== 'directory') continue;
    const directory = numberOf(inode.number);
    for (const [name, number] of inode.entries) {
      yield { type: 'change', entries: [{ directory, name, inode: numberOf(number) }] };
    }
  }
}

function storedInode(inode: ManifestInode, number: number): StoredInode {
  return {
    inode: number,
    permissions: inode.permissions,
    uid: inode.uid,
    gid: inode.gid,
    accessed: String(inode.accessTimeNs),
    modified: String(inode.modifyTimeNs),
    changed: String(inode.changeTimeNs),
    extendedAttributes: Object.fromEntries(
      Array.from(inode.extendedAttributes, ([name, value]) => [name, Buffer.from(value).toString('base64')]),
    ),
    origin: 'base',
    body: storedBody(inode),
  };
}

function storedBody(inode: ManifestInode): StoredInode['body'] {
  switch (inode.kind) {
    case 'file': {
      const { sizeBytes } = inode.content;
      return { kind: 'file', size: sizeBytes, baseLimit: sizeBytes, base: inode.content };
    }
    case 'symlink':
      return { kind: 'symlink', target: inode.target };
    case 'directory':
    case 'fifo':
      return { kind: inode.kind };
  }
}
