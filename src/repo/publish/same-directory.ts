import { sameFileMap } from '../chunk-map/shape.js';
import type { InodeMetadata, Manifest, ManifestInode } from '../types.js';

/** Whether two versions have the same content. Access and change times do not count: reading and copying move them. */
export function sameDirectory(left: Manifest, right: Manifest): boolean {
  if (left.inodes.size !== right.inodes.size) return false;
  for (const inode of left.inodes.values()) {
    const other = right.inodes.get(inode.number);
    if (other === undefined || !sameMetadata(inode, other) || !sameContent(inode, other)) return false;
  }
  return true;
}

function sameMetadata(left: InodeMetadata, right: InodeMetadata): boolean {
  return (
    left.permissions === right.permissions &&
    left.uid === right.uid &&
    left.gid === right.gid &&
    left.modifyTimeNs === right.modifyTimeNs &&
    sameMap(
      left.extendedAttributes,
      right.extendedAttributes,
      (one, other) => Buffer.compare(one, other) === 0,
    )
  );
}

function sameContent(left: ManifestInode, right: ManifestInode): boolean {
  switch (left.kind) {
    case 'file':
      return right.kind === 'file' && sameFileMap(left.content, right.content);
    case 'directory':
      return (
        right.kind === 'directory' && sameMap(left.entries, right.entries, (one, other) => one === other)
      );
    case 'symlink':
      return right.kind === 'symlink' && left.target === right.target;
    case 'fifo':
      return right.kind === 'fifo';
  }
}

function sameMap<K, V>(
  left: ReadonlyMap<K, V>,
  right: ReadonlyMap<K, V>,
  sameValue: (one: V, other: V) => boolean,
): boolean {
  if (left.size !== right.size) return false;
  for (const [key, value] of left) {
    const other = right.get(key);
    if (other === undefined || !sameValue(value, other)) return false;
  }
  return true;
}
