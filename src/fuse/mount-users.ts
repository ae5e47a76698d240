import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';

export interface MountUser {
  readonly pid: number;
  readonly command: string;
}

/** How many users an error message names. */
const namedUsersMax = 5;

/**
 * Processes that have a working directory, a root, an open file or a mapping under `mountPath`, as far as this
 * user may see. Only reads links and text of /proc, so it never sends a request to the mount itself.
 */
export async function findMountUsers(mountPath: string): Promise<readonly MountUser[]> {
  const users: MountUser[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^[0-9]+$/.test(name)) continue;
    if (!(await usesMount(join('/proc', name), mountPath))) continue;
    const command = await readFile(join('/proc', name, 'comm'), 'utf8').catch(() => 'unknown');
    users.push({ pid: Number(name), command: command.trim() });
  }
  return users;
}

/** One phrase for error messages: who uses the mount. */
export async function describeMountUsers(mountPath: string): Promise<string> {
  const users = await findMountUsers(mountPath);
  if (users.length === 0) return 'by a process that this user may not see, or by a mount inside it';
  const named = users.slice(0, namedUsersMax).map(({ pid, command }) => `${command} (process ${pid})`);
  const rest = users.length - named.length;
  return `by ${named.join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}

async function usesMount(processDirectory: string, mountPath: string): Promise<boolean> {
  const isInside = (path: string) =>
    path === mountPath || path.startsWith(`${mountPath}/`) || path === `${mountPath} (deleted)`;
  for (const link of ['cwd', 'root', 'exe']) {
    if (isInside(await readlink(join(processDirectory, link)).catch(() => ''))) return true;
  }
  const descriptors = await readdir(join(processDirectory, 'fd')).catch(() => []);
  for (const descriptor of descriptors) {
    if (isInside(await readlink(join(processDirectory, 'fd', descriptor)).catch(() => ''))) return true;
  }
  const maps = await readFile(join(processDirectory, 'maps'), 'utf8').catch(() => '');
  return maps.split('\n').some((line) => {
    const pathStart = line.indexOf('/');
    return pathStart >= 0 && isInside(line.slice(pathStart));
  });
}
