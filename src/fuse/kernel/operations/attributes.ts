import { limits, type MaybePromise } from '../../../base/index.js';
import type { AttributeChanges, FileSystem, InodeNumber } from '../../../fs/index.js';
import { putAttributes, timeOf, withoutPrivileges } from '../attributes.js';
import type { Exchange, Handlers } from '../exchange.js';
import { attributeBit, fuse_setattr_in, fuse_statfs_out } from '../protocol.js';
import { whenDone } from './when-done.js';

const blockBytes = 4096;
const typeMask = 0o170000;
const directory = 0o040000;

/** Requests about attributes, and about the file system as a whole. */
export function attributeHandlers(fileSystem: FileSystem): Handlers {
  return {
    GETATTR: (exchange) => putAttributes(exchange, fileSystem.getAttributes(exchange.nodeid)),
    SETATTR: (exchange) => {
      exchange.require(fuse_setattr_in);
      const changed = fileSystem.setAttributes(exchange.nodeid, changesOf(exchange, fileSystem));
      return whenDone(changed, (attributes) => putAttributes(exchange, attributes));
    },
    STATFS: (exchange) => {
      const usage = fileSystem.usage();
      const { at, bytes } = fuse_statfs_out;
      exchange.putZeros(0, bytes);
      exchange.putUint64(at.blocks, Math.floor(usage.totalBytes / blockBytes));
      exchange.putUint64(at.bfree, Math.floor(usage.freeBytes / blockBytes));
      exchange.putUint64(at.bavail, Math.floor(usage.availableBytes / blockBytes));
      exchange.putUint64(at.files, usage.inodes + usage.freeInodes);
      exchange.putUint64(at.ffree, usage.freeInodes);
      exchange.putUint32(at.bsize, blockBytes);
      exchange.putUint32(at.namelen, limits.fileNameBytesMax);
      exchange.putUint32(at.frsize, blockBytes);
      return bytes;
    },
    FSYNCDIR: () => fileSystem.syncAll().then(() => 0),
    SYNCFS: () => fileSystem.syncAll().then(() => 0),
  };
}

/** What a file loses to a write of somebody without privileges, see `withoutPrivileges`. */
export function dropPrivileges(fileSystem: FileSystem, inode: InodeNumber): MaybePromise<unknown> {
  const { mode } = fileSystem.getAttributes(inode);
  const permissions = withoutPrivileges(mode);
  if (permissions === mode) return undefined;
  return fileSystem.setAttributes(inode, { permissions: permissions & 0o7777 });
}

function changesOf(exchange: Exchange, fileSystem: FileSystem): AttributeChanges {
  const { at } = fuse_setattr_in;
  const valid = exchange.uint32(at.valid);
  const has = (bit: number): boolean => (valid & bit) !== 0;
  const time = (bit: number, nowBit: number, seconds: number, nanoseconds: number) =>
    has(nowBit) ? 'now' : has(bit) ? timeOf(exchange, seconds, nanoseconds) : undefined;

  const permissions = has(attributeBit.MODE)
    ? exchange.uint32(at.mode) & 0o7777
    : has(attributeBit.UID | attributeBit.GID | attributeBit.KILL_SUIDGID)
      ? permissionsLeft(fileSystem.getAttributes(exchange.nodeid).mode)
      : undefined;
  const accessTimeNs = time(attributeBit.ATIME, attributeBit.ATIME_NOW, at.atime, at.atimensec);
  const modifyTimeNs = time(attributeBit.MTIME, attributeBit.MTIME_NOW, at.mtime, at.mtimensec);
  return {
    ...(permissions === undefined ? {} : { permissions }),
    ...(has(attributeBit.UID) ? { uid: exchange.uint32(at.uid) } : {}),
    ...(has(attributeBit.GID) ? { gid: exchange.uint32(at.gid) } : {}),
    ...(has(attributeBit.SIZE) ? { sizeBytes: exchange.uint64(at.size) } : {}),
    ...(accessTimeNs === undefined ? {} : { accessTimeNs }),
    ...(modifyTimeNs === undefined ? {} : { modifyTimeNs }),
  };
}

/** The new permissions of a file that changes owner or length; undefined where they stay. */
function permissionsLeft(mode: number): number | undefined {
  if ((mode & typeMask) === directory) return undefined;
  const left = withoutPrivileges(mode);
  return left === mode ? undefined : left & 0o7777;
}
