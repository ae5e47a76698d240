import { limits } from '../../../base/index.js';
import { FileSystemError, type ExtendedAttributeMode, type FileSystem } from '../../../fs/index.js';
import type { Exchange, Handlers } from '../exchange.js';
import { fuse_getxattr_in, fuse_getxattr_out, fuse_setxattr_in } from '../protocol.js';
import { whenDone } from './when-done.js';

/** `flags` of setxattr(2). */
const modes: Readonly<Record<number, ExtendedAttributeMode>> = { 0: 'either', 1: 'create', 2: 'replace' };

/** A program's rights. `FUSE_HANDLE_KILLPRIV_V2` would have every write look for it, to take it away. */
const fileCapabilities = 'security.capability';

/** Requests about extended attributes. */
export function extendedAttributeHandlers(fileSystem: FileSystem): Handlers {
  return {
    GETXATTR: (exchange) => {
      exchange.require(fuse_getxattr_in);
      const name = exchange.text(fuse_getxattr_in.bytes);
      checkName(name);
      return putValue(exchange, fileSystem.getExtendedAttribute(exchange.nodeid, name));
    },
    LISTXATTR: (exchange) => {
      exchange.require(fuse_getxattr_in);
      const names = fileSystem.listExtendedAttributes(exchange.nodeid).filter(visibleTo(exchange));
      return putValue(exchange, Buffer.from(names.map((name) => `${name}\0`).join('')));
    },
    SETXATTR: (exchange) => {
      exchange.require(fuse_setxattr_in);
      const flags = exchange.uint32(fuse_setxattr_in.at.flags);
      const name = exchange.text(fuse_setxattr_in.bytes);
      const value = exchange.data(exchange.textEnd, exchange.uint32(fuse_setxattr_in.at.size));
      const mode = modes[flags];
      if (mode === undefined) throw new FileSystemError('EINVAL', `setxattr does not know flags ${flags}.`);
      checkName(name);
      if (name === fileCapabilities) throw new FileSystemError('EOPNOTSUPP', `${name} is not supported.`);
      // The file system may keep the value until later, the request's memory is for the next one.
      const kept = Buffer.from(value);
      const set = fileSystem.setExtendedAttribute(exchange.nodeid, name, kept, mode, exchange.unique);
      return whenDone(set, () => 0);
    },
    REMOVEXATTR: (exchange) => {
      const name = exchange.text(0);
      checkName(name);
      const { nodeid, unique } = exchange;
      return whenDone(fileSystem.removeExtendedAttribute(nodeid, name, unique), () => 0);
    },
  };
}

/** Access control lists mean something only where the kernel is told to heed them. */
function checkName(name: string): void {
  if (name.startsWith('system.')) throw new FileSystemError('EOPNOTSUPP', `${name} is not supported.`);
}

/** Attributes of the trusted are there for them alone; the kernel checks all but lists. */
function visibleTo({ uid }: Exchange): (name: string) => boolean {
  return uid === 0 ? () => true : (name) => !name.startsWith('trusted.');
}

/** A buffer of no length only asks for the length. */
function putValue(exchange: Exchange, value: Uint8Array): number {
  const sizeBytes = exchange.uint32(fuse_getxattr_in.at.size);
  if (sizeBytes === 0) {
    exchange.putUint32(fuse_getxattr_out.at.size, value.length);
    exchange.putUint32(fuse_getxattr_out.at.padding, 0);
    return fuse_getxattr_out.bytes;
  }
  if (value.length > sizeBytes) throw new FileSystemError('ERANGE', 'The buffer is too small.');
  // Linux itself has no room for more.
  if (value.length > limits.extendedAttributesBytesMax)
    throw new FileSystemError('E2BIG', 'Too many attributes.');
  exchange.reserve(value.length);
  exchange.putBytes(0, value);
  return value.length;
}
