import { access, constants, lstat, readdir, realpath } from 'node:fs/promises';
import { basename, dirname, join, normalize, sep } from 'node:path';
import { systemErrorCode } from '../base/index.js';
import { InvalidMountPoint, MountBusy } from './errors.js';
import { findMount, mountType, readMountTable } from './mount-table.js';

/** libfuse 2 keeps the path in a buffer of 1,024 bytes. */
const mountPathBytesMax = 1_023;

/**
 * Checks that a directory can be mounted on, before anything is started, and returns its path with symbolic links
 * in its parents resolved: what `EngineOptions.mountPath` wants. Clear stale mounts before. Never touches a mount.
 *
 * @param forbiddenPaths may not lie inside the mount nor around it: the daemon would wait for itself
 * @throws InvalidMountPoint, MountBusy
 */
export async function checkMountPoint(mountPath: string, forbiddenPaths: readonly string[]): Promise<string> {
  checkSpelling(mountPath);
  await checkNotMounted(mountPath);
  const realMountPath = await resolveDirectory(mountPath);
  await checkNotMounted(realMountPath);
  for (const forbidden of forbiddenPaths) {
    const realForbidden = await resolveAsFarAsItExists(forbidden);
    if (isWithin(realForbidden, realMountPath) || isWithin(realMountPath, realForbidden)) {
      throw new InvalidMountPoint(
        mountPath,
        `it overlaps ${forbidden}, which isr itself uses`,
        'Use a directory elsewhere.',
      );
    }
  }
  await checkUsable(realMountPath);
  return realMountPath;
}

function checkSpelling(mountPath: string): void {
  const fail = (problem: string) => {
    throw new InvalidMountPoint(mountPath, problem);
  };
  if (!mountPath.startsWith('/')) fail('the path is not absolute');
  // eslint-disable-next-line no-control-regex -- these are what is looked for
  if (/[\u0000-\u001f\u007f\ufffd]/.test(mountPath)) fail('the path has control or undecodable characters');
  if (Buffer.byteLength(mountPath) > mountPathBytesMax) fail('the path is too long');
  if (mountPath === '/') fail('the root directory is needed for everything else');
  if (normalize(mountPath) !== mountPath || mountPath.endsWith('/')) {
    const plain = normalize(mountPath).replace(/\/+$/, '');
    throw new InvalidMountPoint(mountPath, 'the path is not in its plain form', `Write it as ${plain}`);
  }
}

async function checkNotMounted(mountPath: string): Promise<void> {
  const mount = await findMount(mountPath);
  if (mount !== undefined) {
    const what = mount.type === mountType ? `${mount.source} is mounted there` : `a ${mount.type} mount`;
    throw new MountBusy(mountPath, what, 'Unmount it first, or mount elsewhere.');
  }
  const inside = (await readMountTable()).find((entry) => isWithin(entry.mountPath, mountPath));
  if (inside !== undefined) {
    throw new MountBusy(mountPath, `${inside.mountPath} is mounted inside it`, 'Unmount that first.');
  }
}

async function resolveDirectory(mountPath: string): Promise<string> {
  try {
    const attributes = await lstat(mountPath);
    if (attributes.isSymbolicLink()) {
      throw new InvalidMountPoint(mountPath, 'it is a symbolic link', 'Mount on the directory itself.');
    }
    if (!attributes.isDirectory()) throw new InvalidMountPoint(mountPath, 'it is not a directory');
    return await realpath(mountPath);
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === undefined) throw error;
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      const remedy = `Create it: mkdir -p ${mountPath}`;
      throw new InvalidMountPoint(mountPath, 'the directory does not exist', remedy);
    }
    throw new InvalidMountPoint(mountPath, `it cannot be reached (${code})`);
  }
}

async function checkUsable(mountPath: string): Promise<void> {
  try {
    await access(mountPath, constants.W_OK);
    if ((await readdir(mountPath)).length === 0) return;
  } catch (error) {
    throw new InvalidMountPoint(
      mountPath,
      `this user may not use it (${systemErrorCode(error) ?? 'unknown'})`,
    );
  }
  throw new InvalidMountPoint(
    mountPath,
    'the directory is not empty, and a mount would hide what is in it',
    'Move its files away, or mount elsewhere.',
  );
}

/** `path` is `directory` or lies in it. */
function isWithin(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory === sep ? sep : directory + sep);
}

async function resolveAsFarAsItExists(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    const parent = dirname(path);
    if (systemErrorCode(error) !== 'ENOENT' || parent === path) return path;
    return join(await resolveAsFarAsItExists(parent), basename(path));
  }
}
