import { createHash } from 'node:crypto';
import { lstat, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { systemErrorCode } from '../base/index.js';
import { HomeUnusable } from './errors.js';

/** A Unix socket's path has at most 108 bytes (104 on macOS) with its final zero; this leaves 14 for `/NAME`. */
const runPathBytesMax = 89;

/** Length of the name of a VM's own directory inside the run directory. */
const vmNameLength = 12;

/**
 * Where the sockets of a home go: inside it where its path is short enough, else in `/tmp` under a name that only
 * depends on the user and the home. Never from `XDG_RUNTIME_DIR`: that differs between sessions of one user and
 * vanishes at log-out, while a daemon must be found and live on.
 */
export function runDirectoryOf(homePath: string, userId: number): string {
  const inside = join(homePath, 'run');
  if (Buffer.byteLength(inside) + 1 + vmNameLength <= runPathBytesMax) return inside;
  return join('/tmp', `isr-${userId}-${shortHash(homePath)}`);
}

/** The directory of one VM inside the run directory. */
export function vmRunDirectory(runDirectory: string, repositoryId: string, vmName: string): string {
  return join(runDirectory, shortHash(`${repositoryId}/${vmName}`));
}

/**
 * Makes a directory that only this user can enter, or checks that the one that is there is such a directory:
 * in `/tmp` somebody else may have been faster. `HomeUnusable`.
 */
export async function makePrivateDirectory(path: string, userId: number): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 });
    return;
  } catch (error) {
    if (systemErrorCode(error) !== 'EEXIST') throw error;
  }
  const found = await lstat(path);
  if (!found.isDirectory()) throw new HomeUnusable(path, 'it is not a directory');
  if (found.uid !== userId) throw new HomeUnusable(path, 'it belongs to another user');
  if ((found.mode & 0o077) !== 0) throw new HomeUnusable(path, 'other users can enter it');
}

function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, vmNameLength);
}
