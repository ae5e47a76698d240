import type { MaybePromise } from '../../../base/index.js';
import {
  FileSystemError,
  type Attributes,
  type Caller,
  type FileSystem,
  type RenameMode,
} from '../../../fs/index.js';
import { putEntry, putNoEntry } from '../attributes.js';
import { noAnswer, type Exchange, type Handlers } from '../exchange.js';
import {
  fuse_batch_forget_in,
  fuse_forget_in,
  fuse_forget_one,
  fuse_link_in,
  fuse_mkdir_in,
  fuse_mknod_in,
  fuse_rename2_in,
  fuse_rename_in,
} from '../protocol.js';
import type { References } from '../references.js';
import { whenDone } from './when-done.js';

/** `flags` of renameat2(2). */
const renameModes: Readonly<Record<number, RenameMode>> = { 0: 'replace', 1: 'noReplace', 2: 'exchange' };

/** Requests about names, and what they name. */
export function nameHandlers(fileSystem: FileSystem, references: References): Handlers {
  const entry = (exchange: Exchange, found: MaybePromise<Attributes>): MaybePromise<number> =>
    whenDone(found, (attributes) => {
      references.add(attributes.inode);
      return putEntry(exchange, 0, attributes);
    });
  const rename = (exchange: Exchange, structureBytes: number, flags: number): MaybePromise<number> => {
    const newParent = exchange.uint64(fuse_rename_in.at.newdir);
    const name = exchange.text(structureBytes);
    const newName = exchange.text(exchange.textEnd);
    const mode = renameModes[flags];
    if (mode === undefined) throw new FileSystemError('EINVAL', `rename does not know flags ${flags}.`);
    const { nodeid, unique } = exchange;
    const renamed = fileSystem.rename(nodeid, name, newParent as never, newName, mode, unique);
    return whenDone(renamed, () => 0);
  };

  return {
    LOOKUP: (exchange) => {
      const name = exchange.text(0);
      try {
        return entry(exchange, fileSystem.lookup(exchange.nodeid, name));
      } catch (error) {
        if (error instanceof FileSystemError && error.errno === 'ENOENT') return putNoEntry(exchange);
        throw error;
      }
    },
    FORGET: (exchange) => {
      exchange.require(fuse_forget_in);
      references.forget(exchange.nodeid, exchange.uint64(fuse_forget_in.at.nlookup));
      return noAnswer;
    },
    BATCH_FORGET: (exchange) => {
      exchange.require(fuse_batch_forget_in);
      const { bytes, at } = fuse_forget_one;
      const count = exchange.uint32(fuse_batch_forget_in.at.count);
      for (let index = 0; index < count; index++) {
        const from = fuse_batch_forget_in.bytes + index * bytes;
        exchange.require(fuse_forget_one, from);
        references.forget(exchange.uint64(from + at.nodeid) as never, exchange.uint64(from + at.nlookup));
      }
      return noAnswer;
    },
    MKDIR: (exchange) => {
      exchange.require(fuse_mkdir_in);
      const permissions = exchange.uint32(fuse_mkdir_in.at.mode) & 0o7777;
      const name = exchange.text(fuse_mkdir_in.bytes);
      return entry(
        exchange,
        fileSystem.makeDirectory(exchange.nodeid, name, permissions, callerOf(exchange)),
      );
    },
    MKNOD: (exchange) => {
      exchange.require(fuse_mknod_in);
      const mode = exchange.uint32(fuse_mknod_in.at.mode);
      const name = exchange.text(fuse_mknod_in.bytes);
      return entry(exchange, fileSystem.makeNode(exchange.nodeid, name, mode, callerOf(exchange)));
    },
    SYMLINK: (exchange) => {
      const name = exchange.text(0);
      const target = exchange.text(exchange.textEnd);
      return entry(exchange, fileSystem.makeSymlink(exchange.nodeid, name, target, callerOf(exchange)));
    },
    LINK: (exchange) => {
      exchange.require(fuse_link_in);
      const inode = exchange.uint64(fuse_link_in.at.oldnodeid);
      const name = exchange.text(fuse_link_in.bytes);
      return entry(exchange, fileSystem.link(inode as never, exchange.nodeid, name, exchange.unique));
    },
    UNLINK: (exchange) => {
      const { nodeid, unique } = exchange;
      return whenDone(fileSystem.unlink(nodeid, exchange.text(0), unique), () => 0);
    },
    RMDIR: (exchange) => {
      const { nodeid, unique } = exchange;
      return whenDone(fileSystem.removeDirectory(nodeid, exchange.text(0), unique), () => 0);
    },
    RENAME: (exchange) => {
      exchange.require(fuse_rename_in);
      return rename(exchange, fuse_rename_in.bytes, 0);
    },
    RENAME2: (exchange) => {
      exchange.require(fuse_rename2_in);
      return rename(exchange, fuse_rename2_in.bytes, exchange.uint32(fuse_rename2_in.at.flags));
    },
    READLINK: (exchange) => {
      const target = Buffer.from(fileSystem.readLink(exchange.nodeid));
      exchange.reserve(target.length);
      exchange.putBytes(0, target);
      return target.length;
    },
  };
}

/** Whom a new file belongs to, and which request makes it. */
export function callerOf({ uid, gid, unique }: Exchange): Caller {
  return { uid, gid, request: unique };
}
