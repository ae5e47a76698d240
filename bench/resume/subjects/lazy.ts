import { execFile } from 'node:child_process';
import { mkdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { ServerProcess } from '../../../fixtures/server-process.js';
import { ResourceStack } from '../../../src/base/index.js';
import { findMount } from '../../../src/fuse/index.js';
import type { Prepared, PreparedPart } from '../prepared.js';
import { OwnHypervisor } from './own-hypervisor.js';
import type { Place, Resuming, Subject } from './subject.js';

const run = promisify(execFile);

const mountPollMs = 5;

/** A file of the guest that is fetched while it is used: its memory, its disk. */
export interface LazyFile {
  readonly name: string;
  readonly lengthBytes: number;
}

/** A program that shows files of the guest, of which it fetches what is read. */
export interface Mounting {
  /** Runs in the foreground until its mounts go or it is killed. */
  readonly program: string;
  readonly parameters: readonly string[];
  /** Where mounts of it appear: directories, or files that are mounted over. */
  readonly mountPaths: readonly string[];
  /** Where it shows files of the guest, by their names. */
  readonly shows: Readonly<Record<string, string>>;
}

/** A program that others wrote for showing a distant file as if it were here. */
export interface LazyOptions {
  readonly name: string;
  readonly title: string;
  readonly part: PreparedPart;
  /** Puts a file of the guest into a directory of the server in the form that the program wants; absent where it lies there. */
  readonly stage?: (prepared: Prepared, file: string, directory: string) => Promise<void>;
  /** Starts what the program needs on the server besides the web server. */
  readonly serve?: (files: readonly LazyFile[], place: Place) => Promise<AsyncDisposable>;
  /** What is to be run for these files. `directory` is there, empty, and removed after the run. Not measured. */
  readonly mount: (
    files: readonly LazyFile[],
    directory: string,
    place: Place,
  ) => Promise<readonly Mounting[]>;
}

export function lazy(options: LazyOptions): Subject {
  const { name, title, part } = options;
  return { name, title, serves: part, begin: (place) => beginLazy(place, options) };
}

/**
 * A directory whose large files are links to what the mounts show. What the guest writes stays in QEMU's memory, and in a
 * temporary file of its own for the disk: most of these programs have no overlay.
 */
async function beginLazy(place: Place, options: LazyOptions): Promise<Resuming> {
  const { prepared, link, directory, signal } = place;
  const resources = new ResourceStack();
  try {
    const vm = join(directory, 'vm');
    await mkdir(vm);
    await writeThrowAwayConfig(prepared, vm);
    const files = await lazyFiles(prepared);
    await stage(prepared, options, files);
    if (options.serve !== undefined) resources.use(await options.serve(files, place));
    const mountDirectory = join(directory, 'mount');
    await mkdir(mountDirectory);
    const mountings = await options.mount(files, mountDirectory, place);
    const show = async (mounting: Mounting): Promise<void> => {
      await startMounting(mounting, join(directory, 'log'), resources, signal);
      for (const [name, path] of Object.entries(mounting.shows)) await symlink(path, join(vm, name));
    };
    const own = await OwnHypervisor.prepare(vm, join(directory, 'run'));
    return {
      consolePath: own.consolePath,
      async resume() {
        const command = 'curl -sSf "$1" | gzip -dc > "$2"';
        const state = run('sh', ['-c', command, 'sh', `${link.url}/gzip/state`, join(vm, 'state')]);
        await Promise.all([state, ...mountings.map(show)]);
        resources.use(own);
        await own.resume();
      },
      [Symbol.asyncDispose]: () => resources[Symbol.asyncDispose](),
    };
  } catch (error) {
    await resources[Symbol.asyncDispose]();
    throw error;
  }
}

/** Returns when its mounts are there. */
async function startMounting(
  mounting: Mounting,
  logPath: string,
  resources: ResourceStack,
  signal: AbortSignal,
): Promise<void> {
  const { program, parameters, mountPaths } = mounting;
  const server = resources.use(await ServerProcess.start(program, parameters, logPath));
  for (const mountPath of mountPaths) {
    resources.defer(() => unmount(mountPath));
    while ((await findMount(mountPath)) === undefined) {
      signal.throwIfAborted();
      if (!server.isRunning)
        throw new Error(`${program} ended: ${await readFile(logPath, 'utf8').catch(() => '')}`);
      await sleep(mountPollMs);
    }
  }
}

async function unmount(mountPath: string): Promise<void> {
  await run('umount', [mountPath]).catch(() => run('umount', ['-l', mountPath]).catch(() => undefined));
}

async function lazyFiles(prepared: Prepared): Promise<readonly LazyFile[]> {
  const { disk } = prepared.guest;
  return Promise.all(
    ['mem', ...(disk === undefined ? [] : [disk])].map(async (name) => ({
      name,
      lengthBytes: (await stat(join(prepared.root, 'state', name))).size,
    })),
  );
}

/** Once for all runs. */
async function stage(prepared: Prepared, options: LazyOptions, files: readonly LazyFile[]): Promise<void> {
  if (options.stage === undefined) return;
  const target = join(prepared.root, options.part);
  const isThere = await stat(target).then(
    () => true,
    () => false,
  );
  if (isThere) return;
  const making = `${target}.new`;
  await rm(making, { recursive: true, force: true });
  for (const { name } of files) {
    await mkdir(join(making, name), { recursive: true });
    await options.stage(prepared, name, join(making, name));
  }
  await rename(making, target);
}

async function writeThrowAwayConfig(prepared: Prepared, vm: string): Promise<void> {
  const config = await readFile(join(prepared.root, 'state', 'isr.toml'), 'utf8');
  const changed = config
    .replace('share = true', 'share = false')
    .replace('if=virtio,cache=writeback', 'if=virtio,cache=writeback,snapshot=on');
  await writeFile(join(vm, 'isr.toml'), changed);
}
