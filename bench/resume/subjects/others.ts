import { execFile } from 'node:child_process';
import { mkdir, open, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { deflate, type ZlibOptions } from 'node:zlib';
import { ServerProcess } from '../../../fixtures/server-process.js';
import { findMount } from '../../../src/fuse/index.js';
import type { Prepared, PreparedPart } from '../prepared.js';
import { OwnHypervisor } from './own-hypervisor.js';
import type { Place, Resuming, Subject } from './subject.js';

const run = promisify(execFile);

const deflateAsync = promisify<Buffer, ZlibOptions, Buffer>(deflate);

const mountPollMs = 5;

const s3backerBlockBytes = 2 ** 20;

/** A program that shows one file of the guest, of which it fetches what is read. */
interface Mounting {
  /** Runs until it is killed. */
  readonly program: string;
  readonly parameters: readonly string[];
  /** The name of the file below the mount point. */
  readonly file: string;
}

interface LazyOptions {
  readonly name: string;
  readonly title: string;
  readonly part: PreparedPart;
  /** Puts the guest's files on the server in the form that the program wants. */
  readonly stage: (prepared: Prepared, file: string, directory: string) => Promise<void>;
  readonly mount: (file: string, mountPath: string, lengthBytes: number, place: Place) => Mounting;
}

function lazy(options: LazyOptions): Subject {
  const { name, title, part } = options;
  return { name, title, serves: part, begin: (place) => beginLazy(place, options) };
}

/**
 * s3backer as its manual advises for slow links: large blocks, compressed; blocks are cached in memory and read ahead by
 * several threads. Blocks lie as plain objects on the web server, which is as good to it as S3.
 */
export const others: readonly Subject[] = [
  lazy({
    name: 's3backer',
    title: 's3backer, 1 MiB blocks, deflate',
    part: 's3backer',
    stage: stageBlocks,
    mount: (file, mountPath, lengthBytes, { link }) => ({
      program: 's3backer',
      parameters: [
        ...['-f', '--force', '--quiet', '--accessType=public-read', `--baseURL=${link.url}/`],
        ...[`--prefix=${file}/`, `--size=${lengthBytes}`, `--blockSize=${s3backerBlockBytes}`],
        ...[
          '--md5CacheSize=0',
          '--md5CacheTime=0',
          '--minWriteDelay=0',
          '--blockCacheSize=4096',
          '--blockCacheThreads=20',
          '--compress=1',
        ],
        ...['s3backer', mountPath],
      ],
      file: 'file',
    }),
  }),
];

/**
 * A directory whose large files are links to what the mounts show. What the guest writes stays in QEMU's memory, and in a
 * temporary file of its own for the disk: none of these programs has an overlay.
 */
async function beginLazy(place: Place, options: LazyOptions): Promise<Resuming> {
  const { prepared, link, directory, signal } = place;
  const vm = join(directory, 'vm');
  await mkdir(vm);
  await writeThrowAwayConfig(prepared, vm);
  const own = await OwnHypervisor.prepare(vm, join(directory, 'run'));
  const files = ['mem', ...(prepared.guest.disk === undefined ? [] : [prepared.guest.disk])];
  await stage(prepared, options, files);
  const servers: ServerProcess[] = [];
  const mounts: string[] = [];
  for (const file of files) await mkdir(join(directory, `mount-${file}`));

  const mountFile = async (file: string): Promise<void> => {
    const mountPath = join(directory, `mount-${file}`);
    const { size } = await stat(join(prepared.root, 'state', file));
    const mounting = options.mount(file, mountPath, size, place);
    mounts.push(mountPath);
    servers.push(await ServerProcess.start(mounting.program, mounting.parameters, join(directory, 'log')));
    while ((await findMount(mountPath)) === undefined) {
      signal.throwIfAborted();
      if (servers.some((server) => !server.isRunning))
        throw new Error(
          `${mounting.program} ended: ${await readFile(join(directory, 'log'), 'utf8').catch(() => '')}`,
        );
      await sleep(mountPollMs);
    }
    await symlink(join(mountPath, mounting.file), join(vm, file));
  };

  return {
    consolePath: own.consolePath,
    async resume() {
      const state = run('sh', [
        '-c',
        'curl -sSf "$1" | gzip -dc > "$2"',
        'sh',
        `${link.url}/gzip/state`,
        join(vm, 'state'),
      ]);
      await Promise.all([state, ...files.map(mountFile)]);
      await own.resume();
    },
    async [Symbol.asyncDispose]() {
      await own[Symbol.asyncDispose]();
      for (const mountPath of mounts)
        await run('umount', [mountPath]).catch(() => run('umount', ['-l', mountPath]).catch(() => undefined));
      for (const server of servers) await server[Symbol.asyncDispose]();
    },
  };
}

/** Once for all runs. */
async function stage(prepared: Prepared, options: LazyOptions, files: readonly string[]): Promise<void> {
  const target = join(prepared.root, options.part);
  const isThere = await stat(target).then(
    () => true,
    () => false,
  );
  if (isThere) return;
  const making = `${target}.new`;
  await rm(making, { recursive: true, force: true });
  for (const file of files) {
    await mkdir(join(making, file), { recursive: true });
    await options.stage(prepared, file, join(making, file));
  }
  await rename(making, target);
}

/** What `s3backer --compress=1` would have stored: an object a block, none for one that is all zero. */
async function stageBlocks(prepared: Prepared, file: string, directory: string): Promise<void> {
  const source = await open(join(prepared.root, 'state', file));
  try {
    const { size } = await source.stat();
    const zeros = Buffer.alloc(s3backerBlockBytes);
    for (let block = 0; block * s3backerBlockBytes < size; block += 1) {
      const content = Buffer.alloc(s3backerBlockBytes);
      await source.read(content, 0, s3backerBlockBytes, block * s3backerBlockBytes);
      if (content.equals(zeros)) continue;
      const name = block.toString(16).padStart(8, '0');
      await writeFile(join(directory, name), await deflateAsync(content, { level: 1 }));
    }
  } finally {
    await source.close();
  }
}

async function writeThrowAwayConfig(prepared: Prepared, vm: string): Promise<void> {
  const config = await readFile(join(prepared.root, 'state', 'isr.toml'), 'utf8');
  const changed = config
    .replace('share = true', 'share = false')
    .replace('if=virtio,cache=writeback', 'if=virtio,cache=writeback,snapshot=on');
  await writeFile(join(vm, 'isr.toml'), changed);
}
