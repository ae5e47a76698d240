import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { detach } from './fusermount.js';

/** The file system type of our mounts in the mount table: FUSE with the subtype `isr`. */
export const mountType = 'fuse.isr';

/** How long a mount may take to answer a `stat` before it counts as silent. */
const answerTimeoutMilliseconds = 5_000;

export interface MountEntry {
  readonly mountId: number;
  /** `MAJOR:MINOR`; for FUSE, MINOR is the connection's number in /sys/fs/fuse/connections. */
  readonly device: string;
  readonly mountPath: string;
  readonly type: string;
  readonly source: string;
}

/** Parses /proc/self/mountinfo (proc(5)); lines that do not look like it are skipped. */
export function parseMountTable(text: string): readonly MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split('\n')) {
    const [before, after] = line.split(' - ', 2);
    const [mountId, , device, , mountPath] = before?.split(' ') ?? [];
    const [type, source] = after?.split(' ') ?? [];
    if (mountPath === undefined || device === undefined || type === undefined || source === undefined)
      continue;
    entries.push({
      mountId: Number(mountId),
      device,
      mountPath: unescapeOctal(mountPath),
      type,
      source: unescapeOctal(source),
    });
  }
  return entries;
}

/** The kernel writes space, tab, newline and backslash as `\ooo`. */
function unescapeOctal(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)));
}

/** All mounts that this process sees, in the order in which they were made. */
export async function readMountTable(): Promise<readonly MountEntry[]> {
  return parseMountTable(await readFile('/proc/self/mountinfo', 'utf8'));
}

/** The mount whose root is exactly `path` (the topmost, if several are stacked). Does not touch the mount. */
export async function findMount(path: string): Promise<MountEntry | undefined> {
  return (await readMountTable()).findLast((entry) => entry.mountPath === path);
}

/** Whether `path` is a mount of ours whose daemon is dead. A daemon that is alive but silent is not dead. */
export async function isStaleMount(path: string): Promise<boolean> {
  return (await findMount(path))?.type === mountType && (await probeMount(path)) === 'dead';
}

/**
 * Detaches a stale mount. Returns whether there was one; live mounts and those of others are left alone.
 * @throws UnmountFailed
 */
export async function clearStaleMount(path: string): Promise<boolean> {
  if (!(await isStaleMount(path))) return false;
  await detach(path, { lazy: true });
  return true;
}

/**
 * Ends a mount of ours that does not answer, although somebody holds its connection: of a daemon that is known to be dead, a
 * thread may be left that waits in the kernel for its own answer. A mount that answers is left alone.
 */
export async function endSilentMount(path: string): Promise<void> {
  const mount = await findMount(path);
  if (mount?.type !== mountType || (await probeMount(path)) !== 'silent') return;
  const minor = mount.device.split(':')[1] ?? '';
  // Best effort: the list of connections need not be mounted, and belongs to whoever made the mount.
  await writeFile(`/sys/fs/fuse/connections/${minor}/abort`, '1').catch(() => undefined);
  await detach(path, { lazy: true });
}

/** Asks a mount for its root's attributes. In a child, which can be killed where a thread of ours would hang. */
function probeMount(path: string): Promise<'alive' | 'dead' | 'silent'> {
  const options = {
    timeout: answerTimeoutMilliseconds,
    killSignal: 'SIGKILL',
    env: { PATH: process.env['PATH'], LC_ALL: 'C' },
  } as const;
  return new Promise((resolve) => {
    execFile('stat', ['--', path], options, (error, _stdout, stderr) => {
      if (error === null) resolve('alive');
      else if (error.killed === true) resolve('silent');
      else resolve(stderr.includes('Transport endpoint is not connected') ? 'dead' : 'alive');
    });
  });
}
