import { execFile } from 'node:child_process';
import { EngineUnavailable, MountBusy, UnmountFailed } from './errors.js';
import { describeMountUsers } from './mount-users.js';

/** FUSE 3 installs the first name, FUSE 2 the second. */
const programs = ['fusermount3', 'fusermount'] as const;

/** What it says of a path that is no mount: of one not in the table, and of one that the kernel does not know. */
const notMounted = /not found in|Invalid argument/;

/** Pushing out dirty pages before a lazy unmount may wait for a slow disk, not for ever. */
const syncTimeoutMilliseconds = 60_000;

interface Outcome {
  readonly failure: (Error & { readonly code?: string | number | null }) | undefined;
  readonly stderr: string;
}

/** Runs a program without a shell, in the C locale so that its messages are known. */
function run(program: string, args: readonly string[], timeoutMilliseconds = 0): Promise<Outcome> {
  const env = { PATH: process.env['PATH'], LC_ALL: 'C' };
  const options = { env, timeout: timeoutMilliseconds, killSignal: 'SIGKILL' } as const;
  return new Promise((resolve) => {
    execFile(program, args, options, (error, _stdout, stderr) => {
      resolve({ failure: error ?? undefined, stderr: stderr.trim() });
    });
  });
}

/**
 * Takes a FUSE mount out of the mount table with fusermount(1), which works for root and for its owner.
 * Not being mounted any more counts as success.
 * @param options.lazy detach at once, even while files are open
 * @throws MountBusy naming who uses it, EngineUnavailable, UnmountFailed
 */
export async function detach(mountPath: string, options: { readonly lazy: boolean }): Promise<void> {
  for (const program of programs) {
    const { failure, stderr } = await run(program, [options.lazy ? '-uz' : '-u', mountPath]);
    if (failure === undefined) return;
    if (failure.code === 'ENOENT') continue;
    if (notMounted.test(stderr)) return;
    if (stderr.includes('Device or resource busy')) {
      throw new MountBusy(
        mountPath,
        await describeMountUsers(mountPath),
        'Stop the programs that use it, and try again.',
      );
    }
    throw new UnmountFailed(`Unmounting ${mountPath} failed: ${stderr}`, {
      facts: { mountPath },
      cause: failure,
    });
  }
  throw new EngineUnavailable('Neither fusermount3 nor fusermount is installed.', {
    remedy: 'Install it: apt-get install fuse3',
  });
}

/** Asks the kernel to write the mount's dirty pages to its file system: syncfs(2), from a child. Best effort. */
export async function syncMount(mountPath: string): Promise<void> {
  await run('sync', ['-f', mountPath], syncTimeoutMilliseconds);
}
