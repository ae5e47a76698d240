import type { Exchange } from './exchange.js';
import {
  fuse_init_in,
  fuse_init_in_ext,
  fuse_init_out,
  initFlag,
  initFlag2,
  oldestMinor,
  protocolVersion,
} from './protocol.js';
import { transferBytesMax, transferPagesMax } from './sizes.js';

/**
 * What we ask for, where the kernel offers it. Not asked for, on purpose:
 *
 * - `WRITEBACK_CACHE`: the kernel would acknowledge writes that only it has, and that end with our processes.
 *   docs/fuse-engine.md says what it would gain.
 * - `AUTO_INVAL_DATA`: pages change through this kernel only.
 * - `POSIX_LOCKS`, `FLOCK_LOCKS`: without them the kernel keeps locks itself, which is all that one mount needs.
 * - `POSIX_ACL`, `SECURITY_CTX`: the file system does not keep access control lists and labels.
 * - `EXPORT_SUPPORT`: an NFS server would look for inodes whose names it does not know.
 * - `DONT_MASK`: the umask is the kernel's work.
 * - `NO_OPEN_SUPPORT`, `NO_OPENDIR_SUPPORT`: handles keep unlinked files alive, and positions in a listing.
 * - `SPLICE_*`: data passes through JavaScript anyway.
 * - `SUBMOUNTS`, `MAP_ALIGNMENT`, `HAS_INODE_DAX`: for virtiofs.
 */
const wantedFlags =
  // Several reads of one file at once: one that waits for the store must not hold up the next.
  initFlag.ASYNC_READ |
  // The same for O_DIRECT.
  initFlag.ASYNC_DIO |
  // Opening with O_TRUNC is one request, which the file system acknowledges as one change.
  initFlag.ATOMIC_O_TRUNC |
  // Writes longer than a page.
  initFlag.BIG_WRITES |
  // Requests of up to `transferPagesMax` instead of 32 pages.
  initFlag.MAX_PAGES |
  // `ls -l` is one request for many names; the kernel finds out when that pays.
  initFlag.DO_READDIRPLUS |
  initFlag.READDIRPLUS_AUTO |
  // Look-ups in one directory need not wait for each other; the file system orders them.
  initFlag.PARALLEL_DIROPS |
  // The target of a symbolic link never changes.
  initFlag.CACHE_SYMLINKS |
  // A length that changes is no reason to drop all pages of a file: nobody but this kernel changes them.
  initFlag.EXPLICIT_INVAL_DATA |
  // Writes lose set-user-ID here. Without it the kernel asks for `security.capability` before each write.
  initFlag.HANDLE_KILLPRIV_V2 |
  // Tells a connection that was aborted from a mount that is gone.
  initFlag.ABORT_ERROR |
  // There are more flags.
  initFlag.INIT_EXT;

/** Requests that a process read and died with can be had again. */
const wantedFlags2 = initFlag2.HAS_RESEND;

/** Requests that the kernel sends without a process waiting for each: read-ahead, write-back, asynchronous O_DIRECT. */
const backgroundRequests = 64;

/** As many of them waiting make the kernel hold back read-ahead; three quarters, as is its own custom. */
const congestionThreshold = 48;

/** What the kernel and we agreed on. */
export interface Agreement {
  readonly minor: number;
  readonly flags: number;
  /** Whether what was read and not answered is sent again at our request. */
  readonly canResend: boolean;
}

/** Answers `FUSE_INIT`. Undefined, and nothing put, if the kernel is too old. */
export function agree(exchange: Exchange): Agreement | undefined {
  exchange.require(fuse_init_in);
  const input = fuse_init_in.at;
  const offered = {
    major: exchange.uint32(input.major),
    minor: exchange.uint32(input.minor),
    flags: exchange.uint32(input.flags),
  };
  if (offered.major !== protocolVersion.major || offered.minor < oldestMinor) return undefined;
  const flags = offered.flags & wantedFlags;
  const isExtended = (flags & initFlag.INIT_EXT) !== 0 && exchange.bodyBytes >= fuse_init_in_ext.bytes;
  const flags2 = isExtended ? exchange.uint32(fuse_init_in_ext.at.flags2) & wantedFlags2 : 0;
  const { at, bytes } = fuse_init_out;
  exchange.putZeros(0, bytes);
  exchange.putUint32(at.major, protocolVersion.major);
  exchange.putUint32(at.minor, protocolVersion.minor);
  // The kernel reads ahead by no more than it offers, which is what /sys/class/bdi has for new mounts.
  exchange.putUint32(at.max_readahead, transferBytesMax);
  exchange.putUint32(at.flags, flags);
  exchange.putUint16(at.max_background, backgroundRequests);
  exchange.putUint16(at.congestion_threshold, congestionThreshold);
  exchange.putUint32(at.max_write, transferBytesMax);
  exchange.putUint32(at.time_gran, 1);
  exchange.putUint16(at.max_pages, transferPagesMax);
  exchange.putUint32(at.flags2, flags2);
  return {
    minor: Math.min(offered.minor, protocolVersion.minor),
    flags,
    canResend: (flags2 & initFlag2.HAS_RESEND) !== 0,
  };
}
