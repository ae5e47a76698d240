import { layout } from './layout.js';

/*
 * The kernel's side of FUSE as data, from its public header include/uapi/linux/fuse.h, version 7.45: what this engine
 * uses of it. Names of structures and members are those of the header; constants lose the prefix that became the
 * name of their table. Numbers are in the byte order of the host.
 */

export const protocolVersion = { major: 7, minor: 45 } as const;

/** Linux 5.4 (2019). Older ones lack members that the structures below have. */
export const oldestMinor = 31;

/** `FUSE_MIN_READ_BUFFER` */
export const readBufferBytesMin = 8192;

/** `enum fuse_opcode`. An operation that is not here is answered `ENOSYS`, and the kernel does without it. */
export const opcode = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  CREATE: 35,
  INTERRUPT: 36,
  DESTROY: 38,
  IOCTL: 39,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SYNCFS: 50,
  COPY_FILE_RANGE_64: 53,
} as const;

export type OperationName = keyof typeof opcode;

/** Bits of `fuse_init_in.flags` and `fuse_init_out.flags`. */
export const initFlag = {
  ASYNC_READ: 1 << 0,
  ATOMIC_O_TRUNC: 1 << 3,
  BIG_WRITES: 1 << 5,
  DO_READDIRPLUS: 1 << 13,
  READDIRPLUS_AUTO: 1 << 14,
  ASYNC_DIO: 1 << 15,
  PARALLEL_DIROPS: 1 << 18,
  ABORT_ERROR: 1 << 21,
  MAX_PAGES: 1 << 22,
  CACHE_SYMLINKS: 1 << 23,
  EXPLICIT_INVAL_DATA: 1 << 25,
  HANDLE_KILLPRIV_V2: 1 << 28,
  INIT_EXT: 1 << 30,
} as const;

/** Bits of the upper halves, `flags2`. They count only where both sides set `INIT_EXT` in the lower. */
export const initFlag2 = {
  HAS_RESEND: 1 << (39 - 32),
} as const;

/** `enum fuse_notify_code`: what a message without a request says, in the place of an error number. */
export const notifyCode = {
  /** Pages of an inode are to be forgotten. */
  INVAL_INODE: 2,
  /** Linux 6.9: requests that were read and not answered are to be sent again. */
  RESEND: 7,
} as const;

/** Bits of `fuse_setattr_in.valid`. */
export const attributeBit = {
  MODE: 1 << 0,
  UID: 1 << 1,
  GID: 1 << 2,
  SIZE: 1 << 3,
  ATIME: 1 << 4,
  MTIME: 1 << 5,
  ATIME_NOW: 1 << 7,
  MTIME_NOW: 1 << 8,
  KILL_SUIDGID: 1 << 11,
} as const;

/** Bits of `fuse_open_out.open_flags`: the kernel may keep pages of the file from before it was opened. */
export const openKeepCache = 1 << 1;

/** `FUSE_OPEN_KILL_SUIDGID` of `fuse_open_in.open_flags`. */
export const openKillSuidgid = 1 << 0;

/** `FUSE_WRITE_CACHE` of `fuse_write_in.write_flags`: a page that was changed through a mapping. */
export const writeCache = 1 << 0;

/** `FUSE_WRITE_KILL_SUIDGID` of `fuse_write_in.write_flags`. */
export const writeKillSuidgid = 1 << 2;

/** `FUSE_FSYNC_FDATASYNC` of `fuse_fsync_in.fsync_flags`. */
export const syncDataOnly = 1 << 0;

export const fuse_in_header = layout({
  len: 4,
  opcode: 4,
  unique: 8,
  nodeid: 8,
  uid: 4,
  gid: 4,
  pid: 4,
  total_extlen: 2,
  padding: 2,
});

export const fuse_out_header = layout({ len: 4, error: 4, unique: 8 });

export const fuse_attr = layout({
  ino: 8,
  size: 8,
  blocks: 8,
  atime: 8,
  mtime: 8,
  ctime: 8,
  atimensec: 4,
  mtimensec: 4,
  ctimensec: 4,
  mode: 4,
  nlink: 4,
  uid: 4,
  gid: 4,
  rdev: 4,
  blksize: 4,
  flags: 4,
});

export const fuse_entry_out = layout({
  nodeid: 8,
  generation: 8,
  entry_valid: 8,
  attr_valid: 8,
  entry_valid_nsec: 4,
  attr_valid_nsec: 4,
  attr: fuse_attr,
});

export const fuse_attr_out = layout({ attr_valid: 8, attr_valid_nsec: 4, dummy: 4, attr: fuse_attr });

export const fuse_forget_in = layout({ nlookup: 8 });
export const fuse_batch_forget_in = layout({ count: 4, dummy: 4 });
export const fuse_forget_one = layout({ nodeid: 8, nlookup: 8 });

export const fuse_setattr_in = layout({
  valid: 4,
  padding: 4,
  fh: 8,
  size: 8,
  lock_owner: 8,
  atime: 8,
  mtime: 8,
  ctime: 8,
  atimensec: 4,
  mtimensec: 4,
  ctimensec: 4,
  mode: 4,
  unused4: 4,
  uid: 4,
  gid: 4,
  unused5: 4,
});

export const fuse_mknod_in = layout({ mode: 4, rdev: 4, umask: 4, padding: 4 });
export const fuse_mkdir_in = layout({ mode: 4, umask: 4 });
export const fuse_rename_in = layout({ newdir: 8 });
export const fuse_rename2_in = layout({ newdir: 8, flags: 4, padding: 4 });
export const fuse_link_in = layout({ oldnodeid: 8 });

export const fuse_open_in = layout({ flags: 4, open_flags: 4 });
export const fuse_create_in = layout({ flags: 4, mode: 4, umask: 4, open_flags: 4 });
export const fuse_open_out = layout({ fh: 8, open_flags: 4, padding: 4 });
export const fuse_release_in = layout({ fh: 8, flags: 4, release_flags: 4, lock_owner: 8 });

export const fuse_read_in = layout({
  fh: 8,
  offset: 8,
  size: 4,
  read_flags: 4,
  lock_owner: 8,
  flags: 4,
  padding: 4,
});

export const fuse_write_in = layout({
  fh: 8,
  offset: 8,
  size: 4,
  write_flags: 4,
  lock_owner: 8,
  flags: 4,
  padding: 4,
});
export const fuse_write_out = layout({ size: 4, padding: 4 });

export const fuse_fsync_in = layout({ fh: 8, fsync_flags: 4, padding: 4 });
export const fuse_fallocate_in = layout({ fh: 8, offset: 8, length: 8, mode: 4, padding: 4 });
export const fuse_lseek_in = layout({ fh: 8, offset: 8, whence: 4, padding: 4 });
export const fuse_lseek_out = layout({ offset: 8 });

/** `COPY_FILE_RANGE` is answered with `fuse_write_out`, `COPY_FILE_RANGE_64` with `fuse_copy_file_range_out`. */
export const fuse_copy_file_range_in = layout({
  fh_in: 8,
  off_in: 8,
  nodeid_out: 8,
  fh_out: 8,
  off_out: 8,
  len: 8,
  flags: 8,
});
export const fuse_copy_file_range_out = layout({ bytes_copied: 8 });

/** As it is without `FUSE_SETXATTR_EXT` (`FUSE_COMPAT_SETXATTR_IN_SIZE`). */
export const fuse_setxattr_in = layout({ size: 4, flags: 4 });
export const fuse_getxattr_in = layout({ size: 4, padding: 4 });
export const fuse_getxattr_out = layout({ size: 4, padding: 4 });

export const fuse_statfs_out = layout({
  blocks: 8,
  bfree: 8,
  bavail: 8,
  files: 8,
  ffree: 8,
  bsize: 4,
  namelen: 4,
  frsize: 4,
  padding: 4,
  spare: 24,
});

/** Followed by the name, and by zeros up to a multiple of `direntAlignment`. */
export const fuse_dirent = layout({ ino: 8, off: 8, namelen: 4, type: 4 });
export const fuse_direntplus = layout({ entry_out: fuse_entry_out, dirent: fuse_dirent });
export const direntAlignment = 8;

export const fuse_notify_inval_inode_out = layout({ ino: 8, off: 8, len: 8 });

export const fuse_interrupt_in = layout({ unique: 8 });

/** What every kernel since `oldestMinor` sends at least; newer ones send more. */
export const fuse_init_in = layout({ major: 4, minor: 4, max_readahead: 4, flags: 4 });
/** What those send that set `INIT_EXT`. */
export const fuse_init_in_ext = layout({ fuse_init_in, flags2: 4 });
export const fuse_init_out = layout({
  major: 4,
  minor: 4,
  max_readahead: 4,
  flags: 4,
  max_background: 2,
  congestion_threshold: 2,
  max_write: 4,
  time_gran: 4,
  max_pages: 2,
  map_alignment: 2,
  flags2: 4,
  unused: 28,
});
