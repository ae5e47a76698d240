import type { Attributes } from '../../fs/index.js';
import type { Exchange } from './exchange.js';
import { fuse_attr, fuse_attr_out, fuse_entry_out } from './protocol.js';

const blockBytes = 4096;
const nanosecondsPerSecond = 1_000_000_000n;

/** Names change through the mount only, where the kernel sees it. */
const nameValidSeconds = 86_400;

/**
 * The kernel also knows every change of attributes but one: how much disk the overlay needs, which publishing lowers.
 */
const attributesValidSeconds = 1;

const setUserId = 0o4000;
const setGroupId = 0o2000;

/**
 * What a write, truncation or change of owner takes from a file, so that nobody gains its owner's rights by changing
 * it: set-user-ID, and set-group-ID where that is no mark for mandatory locking.
 */
export function withoutPrivileges(mode: number): number {
  const groupExecute = 0o010;
  return mode & ~(setUserId | ((mode & groupExecute) !== 0 ? setGroupId : 0));
}

/** `FUSE_HANDLE_KILLPRIV_V2` makes that our work, and the kernel does not see it: it has to ask. */
function validSeconds(mode: number): number {
  return (mode & (setUserId | setGroupId)) === 0 ? attributesValidSeconds : 0;
}

/** Answers with `fuse_attr_out`. */
export function putAttributes(exchange: Exchange, attributes: Attributes): number {
  const { at, bytes } = fuse_attr_out;
  exchange.putUint64(at.attr_valid, validSeconds(attributes.mode));
  exchange.putUint32(at.attr_valid_nsec, 0);
  exchange.putUint32(at.dummy, 0);
  putAttr(exchange, at.attr, attributes);
  return bytes;
}

/** Puts `fuse_entry_out`: a name, and what it names. Inode numbers are never used again, so there are no generations. */
export function putEntry(exchange: Exchange, from: number, attributes: Attributes): number {
  const { at, bytes } = fuse_entry_out;
  exchange.putUint64(from + at.nodeid, attributes.inode);
  exchange.putUint64(from + at.generation, 0);
  exchange.putUint64(from + at.entry_valid, nameValidSeconds);
  exchange.putUint64(from + at.attr_valid, validSeconds(attributes.mode));
  exchange.putUint32(from + at.entry_valid_nsec, 0);
  exchange.putUint32(from + at.attr_valid_nsec, 0);
  putAttr(exchange, from + at.attr, attributes);
  return bytes;
}

/** Answers that there is no such name, which the kernel may remember. */
export function putNoEntry(exchange: Exchange): number {
  const { at, bytes } = fuse_entry_out;
  exchange.putZeros(0, bytes);
  exchange.putUint64(at.entry_valid, nameValidSeconds);
  return bytes;
}

function putAttr(exchange: Exchange, from: number, attributes: Attributes): void {
  const { at } = fuse_attr;
  exchange.putUint64(from + at.ino, attributes.inode);
  exchange.putUint64(from + at.size, attributes.sizeBytes);
  exchange.putUint64(from + at.blocks, attributes.blocks);
  putTime(exchange, from + at.atime, from + at.atimensec, attributes.accessTimeNs);
  putTime(exchange, from + at.mtime, from + at.mtimensec, attributes.modifyTimeNs);
  putTime(exchange, from + at.ctime, from + at.ctimensec, attributes.changeTimeNs);
  exchange.putUint32(from + at.mode, attributes.mode);
  exchange.putUint32(from + at.nlink, attributes.linkCount);
  exchange.putUint32(from + at.uid, attributes.uid);
  exchange.putUint32(from + at.gid, attributes.gid);
  exchange.putUint32(from + at.rdev, 0);
  exchange.putUint32(from + at.blksize, blockBytes);
  exchange.putUint32(from + at.flags, 0);
}

function putTime(exchange: Exchange, secondsAt: number, nanosecondsAt: number, timeNs: bigint): void {
  const remainder = timeNs % nanosecondsPerSecond;
  // Seconds round down, also before 1970.
  const nanoseconds = remainder < 0n ? remainder + nanosecondsPerSecond : remainder;
  exchange.putInt64(secondsAt, (timeNs - nanoseconds) / nanosecondsPerSecond);
  exchange.putUint32(nanosecondsAt, Number(nanoseconds));
}

/** A time of a request in nanoseconds since 1970. */
export function timeOf(exchange: Exchange, secondsAt: number, nanosecondsAt: number): bigint {
  return exchange.int64(secondsAt) * nanosecondsPerSecond + BigInt(exchange.uint32(nanosecondsAt));
}
