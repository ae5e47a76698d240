import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { TrialHost } from '../../fixtures/trial-host.js';
import { cacheDirectory, consoleSocket, type BenchGuest } from './guests/bench-guest.js';
import { GuestConsole } from './guests/console.js';

const run = promisify(execFile);

/** Of each guest so many are kept, the newest ones. */
const preparedKept = 2;

/** How long a guest may take to boot and fill its memory: emulated, on a busy machine. */
const bootTimeoutMs = 15 * 60_000;

export const vmName = 'bench';

/** A suspended guest, in each form that a subject resumes it from. Made once, and only read afterwards. */
export interface Prepared {
  readonly guest: BenchGuest;
  /** A web server's root: the parts below are directories of it. */
  readonly root: string;
  readonly repositoryId: string;
  readonly nonce: string;
  /** Of what the work reads: the same after every resume, or it is not the same guest. */
  readonly digest: string;
  /** What `isr suspend` published the two times: after the boot; and after a resume whose touches it had recorded. */
  readonly suspends: readonly unknown[];
}

/**
 * Parts: `first` is a repository with the version that was published after the boot, and no trace; `learned` the
 * repository after it was resumed elsewhere, worked, and was suspended again; `state` the newest version as plain files;
 * `gzip` and `zstd` the same compressed; `key` opens the repositories. Made when they are first wanted: `s3backer` its
 * blocks; `qcow2` compressed images; `wrong` is `learned` with a trace of everything but what is touched;
 * `unpacked` and `offset-order` are `first` with the trace of `learned`, in its order and in that of the files.
 */
export type PreparedPart =
  | 'first'
  | 'learned'
  | 'wrong'
  | 'unpacked'
  | 'offset-order'
  | 'state'
  | 'gzip'
  | 'zstd'
  | 's3backer'
  | 'qcow2'
  | 'key';

/**
 * From the cache, or made: minutes for the large guest. Made anew for each build of isr, unless `reuse` says that one by an
 * earlier build of it will do.
 */
export async function prepare(
  guest: BenchGuest,
  options: {
    readonly reuse: boolean;
    /** As `isr init` takes it. Undefined: its default. */
    readonly chunkSize: string | undefined;
    readonly say: (text: string) => void;
  },
): Promise<Prepared> {
  const { chunkSize, say } = options;
  const directory = join(cacheDirectory(), 'prepared');
  await mkdir(directory, { recursive: true });
  const image = await bootableImage(guest, say);
  const kind = chunkSize === undefined ? guest.name : `${guest.name}-${chunkSize}`;
  const prefix = `${kind}-${image.key}-`;
  const newest = options.reuse ? (await newestFirst(directory, prefix))[0] : undefined;
  const root = join(directory, newest ?? `${prefix}${await programHash()}`);
  if (!(await exists(root))) {
    const work = await mkdtemp(join(directory, `making-${guest.name}-`));
    try {
      const about = await make(guest, image.directory, work, options);
      await writeFile(join(work, 'about.json'), JSON.stringify(about));
      await rename(work, root);
    } finally {
      await rm(work, { recursive: true, force: true });
    }
    await keepNewest(directory, `${kind}-${image.key}-`);
  }
  const about = JSON.parse(await readFile(join(root, 'about.json'), 'utf8')) as Omit<
    Prepared,
    'guest' | 'root'
  >;
  return { guest, root, ...about };
}

/** The directory of a VM that can boot, kept by its recipe. */
async function bootableImage(
  guest: BenchGuest,
  say: (text: string) => void,
): Promise<{ readonly directory: string; readonly key: string }> {
  const key = hashOf(await guest.recipe());
  const images = join(cacheDirectory(), 'images');
  const directory = join(images, `${guest.name}-${key}`);
  if (!(await exists(directory))) {
    say(`building the ${guest.name} guest`);
    await mkdir(images, { recursive: true });
    const work = await mkdtemp(join(images, `making-${guest.name}-`));
    try {
      await guest.build(work);
      await rename(work, directory);
    } finally {
      await rm(work, { recursive: true, force: true });
    }
    await keepNewest(images, `${guest.name}-`);
  }
  return { directory, key };
}

async function make(
  guest: BenchGuest,
  image: string,
  root: string,
  { chunkSize, say }: Pick<Parameters<typeof prepare>[1], 'chunkSize' | 'say'>,
): Promise<Omit<Prepared, 'guest' | 'root'>> {
  const work = await mkdtemp(join(tmpdir(), 'isr-bench-'));
  const url = `file://${join(root, 'learned')}`;
  const mountPath = join(work, 'vm');
  const hosts = [new TrialHost(join(work, 'a')), new TrialHost(join(work, 'b'))] as const;
  const [hostA, hostB] = hosts;
  let repositoryId: string | undefined;
  try {
    await mkdir(mountPath);
    ({ repositoryId } = await hostA.isr<{ repositoryId: string }>(
      ['init', ...(chunkSize === undefined ? [] : ['--chunk-size', chunkSize])],
      url,
    ));
    await hostA.isr(['key', 'export', join(root, 'key')], url);
    await hostB.isr(['key', 'import', join(root, 'key')], url);
    say(`booting the ${guest.name} guest`);
    await hostA.isr(['import', vmName, image, '--at', mountPath], url);
    const first = await runOnce(hostA, ['start', vmName], url, repositoryId);
    await run('cp', ['-a', join(root, 'learned'), join(root, 'first')]);
    say('resuming it elsewhere, so that a trace is recorded');
    const second = await runOnce(hostB, ['resume', vmName], url, repositoryId);
    if (first.nonce !== second.nonce || first.digest !== second.digest)
      throw new Error('the guest that was resumed is not the one that was suspended');
    await rm(join(root, 'first', 'trace'), { recursive: true, force: true });
    say('making the copies that others resume from');
    await hostA.isr(['export', vmName, join(root, 'state')], url);
    await compress(root, 'gzip', 'gzip -1 -c');
    await compress(root, 'zstd', 'zstd -3 -q -c');
    const { nonce, digest } = second;
    return { repositoryId, nonce, digest, suspends: [first.suspend, second.suspend] };
  } finally {
    if (repositoryId !== undefined)
      for (const host of hosts) await host.killGuestAndUnmount(repositoryId, vmName);
    await rm(work, { recursive: true, force: true });
  }
}

/** Starts or resumes the guest, has it work once, and suspends it. */
async function runOnce(
  host: TrialHost,
  command: readonly string[],
  url: string,
  repositoryId: string,
): Promise<{ readonly nonce: string; readonly digest: string; readonly suspend: unknown }> {
  const { run: runDirectory } = await host.vmPaths(repositoryId, vmName);
  await host.isr(command, url);
  const signal = AbortSignal.timeout(bootTimeoutMs);
  using console = await GuestConsole.connect(join(runDirectory, consoleSocket), signal);
  if (command[0] === 'start') await waitUntilReady(join(runDirectory, 'console.log'), signal);
  const { nonce, token } = await console.request('go', signal);
  const { digest } = await console.line('done', token, signal);
  await console.line('idle', token, signal);
  return { nonce, digest, suspend: await host.isr(['suspend', vmName], url) };
}

/** The line may have come before anybody was connected. */
async function waitUntilReady(log: string, signal: AbortSignal): Promise<void> {
  while (!(await readFile(log, 'latin1').catch(() => '')).includes('isr-bench ready')) {
    signal.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function compress(root: string, name: string, command: string): Promise<void> {
  await mkdir(join(root, name));
  for (const file of await readdir(join(root, 'state')))
    await run('sh', [
      '-c',
      `${command} < "$1" > "$2"`,
      'sh',
      join(root, 'state', file),
      join(root, name, file),
    ]);
}

/** Of all that may change what a repository looks like. */
async function programHash(): Promise<string> {
  const source = fileURLToPath(new URL('../../src/', import.meta.url));
  const { stdout: version } = await run('qemu-system-x86_64', ['--version']);
  const files = (await readdir(source, { recursive: true })).filter((name) => name.endsWith('.js')).sort();
  const contents = await Promise.all(files.map((name) => readFile(join(source, name), 'latin1')));
  const own = await readFile(fileURLToPath(import.meta.url), 'latin1');
  return hashOf(version, own, ...contents);
}

function hashOf(...parts: readonly string[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(`${part.length}:`).update(part);
  return hash.digest('hex').slice(0, 16);
}

async function keepNewest(directory: string, prefix: string): Promise<void> {
  for (const name of (await newestFirst(directory, prefix)).slice(preparedKept))
    await rm(join(directory, name), { recursive: true, force: true });
}

async function newestFirst(directory: string, prefix: string): Promise<readonly string[]> {
  const names = (await readdir(directory)).filter((name) => name.startsWith(prefix));
  const dated = await Promise.all(
    names.map(async (name) => ({ name, atMs: (await stat(join(directory, name))).mtimeMs })),
  );
  return dated.sort((a, b) => b.atMs - a.atMs).map(({ name }) => name);
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
