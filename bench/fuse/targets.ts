import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { findMount, type EngineName } from '../../src/fuse/index.js';
import { processorSeconds } from '../support/process-time.js';
import { overlayPrefix, servedPaths, type ServeConfig } from './served.js';

const run = promisify(execFile);
const serveProgram = fileURLToPath(new URL('./serve.js', import.meta.url));
const servePackageProgram = fileURLToPath(new URL('./serve-package.js', import.meta.url));

/** Names of the files in the data directory: one to be read, one to be overwritten. */
export const dataFile = 'data';
export const writesFile = 'writes';

/**
 * Where data lies for a target: `plain` is read as fast as the target can, `memory` comes from the version through the
 * memory tier, `sealed` from the local cache, compressed and encrypted.
 */
export type Place = 'plain' | 'memory' | 'sealed' | 'writes';

/** Something that shows the benchmark's data as files. */
export interface Target extends AsyncDisposable {
  readonly name: string;
  /** Processor time of its processes since they started; undefined where the kernel does the work. */
  cpuSeconds(): Promise<number | undefined>;
  /** The file to use for a place, where the target has it. */
  readonly files: Readonly<Partial<Record<Place, string>>>;
  /** What to drop from the page cache so that this place's bytes come from the disk. */
  readonly backing: Readonly<Partial<Record<Place, string>>>;
}

/** A directory of the local file system. Reading it with a cold page cache reads the disk. */
export function plainTarget(name: string, dataDirectory: string): Target {
  return {
    name,
    files: { plain: join(dataDirectory, dataFile), writes: join(dataDirectory, writesFile) },
    backing: {},
    cpuSeconds: () => Promise.resolve(undefined),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** libfuse's example over a copy of the data. */
export async function referenceTarget(
  name: string,
  program: string,
  root: string,
  dataDirectory: string,
): Promise<Target> {
  const source = join(root, 'source');
  const mountPath = join(root, 'mount');
  await copyData(dataDirectory, source);
  await mkdir(mountPath);
  const child = spawn(program, ['-f', '-o', `source=${source},cache=always`, mountPath], {
    // It warns of its own default of threads.
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  const server = new Server(child, [mountPath]);
  try {
    while ((await findMount(mountPath)) === undefined) {
      if (child.exitCode !== null) throw new Error(`${program} ended with ${child.exitCode}`);
      await sleep(10);
    }
  } catch (error) {
    await server.stop('SIGTERM');
    throw error;
  }
  return {
    name,
    files: { plain: join(mountPath, dataFile), writes: join(mountPath, writesFile) },
    backing: { plain: source },
    cpuSeconds: () => server.cpuSeconds(),
    [Symbol.asyncDispose]: () => server.stop('SIGTERM'),
  };
}

/** The package `fuse-native` with its own JavaScript, over a copy of the data. */
export async function packageTarget(name: string, root: string, dataDirectory: string): Promise<Target> {
  const source = join(root, 'source');
  const mountPath = join(root, 'mount');
  await copyData(dataDirectory, source);
  const child = spawn(process.execPath, [servePackageProgram, mountPath, source], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  });
  const server = await startedServer(child, [mountPath]);
  return {
    name,
    files: { plain: join(mountPath, dataFile), writes: join(mountPath, writesFile) },
    backing: { plain: source },
    cpuSeconds: () => server.cpuSeconds(),
    [Symbol.asyncDispose]: () => server.stop(undefined),
  };
}

async function copyData(dataDirectory: string, source: string): Promise<void> {
  await mkdir(source, { recursive: true });
  for (const file of [dataFile, writesFile]) await copyFile(join(dataDirectory, file), join(source, file));
  await run('sync', ['-f', source]);
}

/** One of our engines in a process of its own. */
export async function engineTarget(
  engine: EngineName,
  threads: number | undefined,
  root: string,
  dataDirectory: string,
): Promise<Target> {
  const config: ServeConfig = { engine, threads, root, dataDirectory };
  const paths = servedPaths(root);
  const child = spawn(process.execPath, [serveProgram, JSON.stringify(config)], {
    stdio: ['pipe', 'pipe', 'inherit'],
    // Ctrl-C ends the benchmark, and with it this one's standard input: then it unmounts.
    detached: true,
  });
  const server = await startedServer(child, [paths.decoded, paths.sealed]);
  return {
    name: threads === undefined ? engine : `${engine}, ${threads} thread${threads === 1 ? '' : 's'}`,
    files: {
      plain: join(paths.decoded, `${overlayPrefix}${dataFile}`),
      memory: join(paths.decoded, dataFile),
      sealed: join(paths.sealed, dataFile),
      writes: join(paths.decoded, `${overlayPrefix}${writesFile}`),
    },
    backing: { plain: paths.overlay, sealed: paths.localCache },
    cpuSeconds: () => server.cpuSeconds(),
    [Symbol.asyncDispose]: () => server.stop(undefined),
  };
}

/** Returns when the server serves. */
async function startedServer(child: ChildProcess, mountPaths: readonly string[]): Promise<Server> {
  const server = new Server(child, mountPaths);
  try {
    await server.said('ready');
    return server;
  } catch (error) {
    await server.stop(undefined);
    throw error;
  }
}

/** How long a server may take to unmount and end. */
const stopTimeoutMs = 10_000;

/** A process that serves mounts, and ends with them. */
class Server {
  readonly #child: ChildProcess;
  readonly #mountPaths: readonly string[];
  readonly #ended: Promise<void>;

  constructor(child: ChildProcess, mountPaths: readonly string[]) {
    this.#child = child;
    this.#mountPaths = mountPaths;
    this.#ended = new Promise((resolve) =>
      child.once('close', () => resolve()).once('error', () => resolve()),
    );
  }

  /** Resolves when the process has said a line; rejects when it ends first. */
  async said(word: string): Promise<void> {
    const heard = new Promise<boolean>((resolve) => {
      this.#child.stdout?.on('data', (data: Buffer) => {
        if (data.toString().includes(`${word}\n`)) resolve(true);
      });
    });
    if (await Promise.race([heard, this.#ended.then(() => false)])) return;
    throw new Error(`a server ended before it said ${word}`);
  }

  cpuSeconds(): Promise<number> {
    return processorSeconds(this.#child.pid ?? 0);
  }

  /** Asks it to end, by a signal or by ending its standard input; where it does not, leaves no process and no mount. */
  async stop(signal: NodeJS.Signals | undefined): Promise<void> {
    if (signal === undefined) this.#child.stdin?.end();
    else this.#child.kill(signal);
    const kill = setTimeout(() => this.#child.kill('SIGKILL'), stopTimeoutMs);
    await this.#ended;
    clearTimeout(kill);
    for (const path of this.#mountPaths) {
      if ((await findMount(path)) !== undefined) await run('fusermount3', ['-u', '-z', path]);
    }
  }
}
