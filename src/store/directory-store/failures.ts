import { systemErrorCode } from '../../base/index.js';
import { StoreRefused, StoreUnreachable, type StoreFailure } from '../errors.js';

interface Refusal {
  readonly reason: string;
  readonly remedy: string;
}

const noPermission: Refusal = {
  reason: 'permission denied',
  remedy: 'Give this user permission to read and write there.',
};
const noSpace: Refusal = {
  reason: 'there is no space left',
  remedy: 'Free space there, then try again.',
};
const notOurs: Refusal = {
  reason: 'a file is where a directory should be, or the other way round',
  remedy: 'Remove what does not belong to isr there, or choose another path.',
};
const noLinks: Refusal = {
  reason: 'its file system cannot make hard links, which publishing safely needs',
  remedy: 'Keep the repository on a file system like ext4, XFS, Btrfs, ZFS, APFS or NFS.',
};

/** Error numbers that will stay until somebody acts. */
const refusals: ReadonlyMap<string, Refusal> = new Map([
  ['EACCES', noPermission],
  ['EPERM', noPermission],
  ['ENOSPC', noSpace],
  ['EDQUOT', { ...noSpace, reason: 'the quota of this user is used up' }],
  ['EROFS', { reason: 'it is read-only', remedy: 'Make its file system writable.' }],
  [
    'EFBIG',
    { reason: 'the object is too long for its file system', remedy: 'Raise the limit on file sizes.' },
  ],
  ['EMLINK', noLinks],
  ['ENOTSUP', noLinks],
  ['ENOSYS', noLinks],
  ['EXDEV', { reason: 'parts of it lie on different file systems', remedy: 'Keep the whole store on one.' }],
  ['EISDIR', notOurs],
  ['ENOTDIR', notOurs],
  ['EEXIST', notOurs],
  ['ENAMETOOLONG', { reason: 'its path is too long', remedy: 'Keep the store under a shorter path.' }],
  ['ELOOP', { reason: 'its path has a loop of symbolic links', remedy: 'Correct the symbolic links.' }],
]);

/**
 * What a failed system call means. Numbers that say nothing lasting (EIO, ESTALE, ENOTCONN, EMFILE and unknown ones)
 * are `StoreUnreachable`: waiting is safer than giving up. Anything but a system error comes back as it is.
 */
export function explainSystemError(error: unknown, failure: StoreFailure): unknown {
  const code = systemErrorCode(error);
  if (code === undefined) return error;
  const refusal = refusals.get(code);
  if (refusal !== undefined) return new StoreRefused({ ...failure, ...refusal, cause: error });
  return new StoreUnreachable({ ...failure, reason: (error as Error).message, cause: error });
}

/** Nothing is there under this path. */
export function isAbsent(error: unknown): boolean {
  const code = systemErrorCode(error);
  return code === 'ENOENT' || code === 'ENOTDIR';
}
