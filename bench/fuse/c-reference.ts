import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rename, rm, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { unpackDebianPackage, withFreshPackageLists } from '../../fixtures/debian-package.js';

const run = promisify(execFile);

const packageName = 'libfuse3-dev';
const examples = 'usr/share/doc/libfuse3-dev/examples';

export type CReference =
  | { readonly program: string; readonly origin: string }
  | { readonly program: undefined; readonly missing: string };

/**
 * libfuse 3's own example `passthrough_ll`, built in `directory`. Debian's package of it is taken where it is installed;
 * else it is downloaded into the user's cache and unpacked there, without installing it.
 */
export async function buildCReference(directory: string): Promise<CReference> {
  try {
    const { root, origin } = await packageFiles();
    const { stdout: machine } = await run('cc', ['-print-multiarch']);
    const program = join(directory, 'passthrough_ll');
    await run('cc', [
      '-O2',
      `-I${join(root, 'usr/include/fuse3')}`,
      join(root, examples, 'passthrough_ll.c'),
      ...['-o', program],
      // The static library is in the same package, so that both are of one version.
      join(root, 'usr/lib', machine.trim(), 'libfuse3.a'),
      ...['-lpthread', '-ldl'],
    ]);
    return { program, origin };
  } catch (error) {
    const reason = String(error instanceof Error ? error.message : error).split('\n')[0] ?? '';
    return {
      program: undefined,
      missing: `no C reference (${reason}): sudo apt-get install gcc ${packageName}`,
    };
  }
}

async function packageFiles(): Promise<{ readonly root: string; readonly origin: string }> {
  if (await exists(join('/', examples, 'passthrough_ll.c'))) return { root: '/', origin: packageName };
  const cache = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'isr-bench');
  const root = join(cache, packageName);
  const origin = `${packageName}, not installed, unpacked in ${root}`;
  if (await exists(join(root, examples))) return { root, origin };
  await mkdir(cache, { recursive: true });
  const work = await mkdtemp(join(cache, 'download-'));
  try {
    await rename(await withFreshPackageLists(() => unpackDebianPackage(packageName, work)), root);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return { root, origin };
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
