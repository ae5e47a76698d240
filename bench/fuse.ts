/**
 * Engines compared in one run, over the file system that VMs see and data that is all in its overlay: random 4 KiB
 * reads with a cold page cache, by one reader and by four, and reading from start to end.
 */
import { execFile, spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { openOverlay, rootInode, type FileSystem } from '../src/fs/index.js';
import { mountFuseNative, mountKernel, type MountEngine } from '../src/fuse/index.js';
import type { Manifest } from '../src/repo/index.js';
import { formatTable } from './support/table.js';

const run = promisify(execFile);
const readerProgram = fileURLToPath(new URL('./support/random-reader.js', import.meta.url));

const mebibyte = 1024 * 1024;
const pageBytes = 4096;
const fileBytes = 128 * mebibyte;
/** Enough for both programs' code to be compiled for most of it. */
const readsOfAll = 24_000;
const rounds = 3;

const engines: Readonly<Record<string, MountEngine>> = {
  'fuse-native': mountFuseNative,
  kernel: mountKernel,
};

interface Round {
  readonly engine: string;
  readonly oneReaderPerSecond: number;
  readonly oneReaderMedianMicroseconds: number;
  readonly fourReadersPerSecond: number;
  readonly sequentialBytesPerSecond: number;
}

export interface FuseFigures {
  readonly rounds: readonly Round[];
  /** Requests of one random reader, as a multiple of fuse-native's: the median of the rounds. */
  readonly ratio: number;
}

/** Mounts are new for each round, so that the page cache has nothing of them. */
export async function benchFuse(): Promise<FuseFigures> {
  const root = await mkdtemp(join(tmpdir(), 'isr-bench-fuse-'));
  const measured: Round[] = [];
  try {
    await using fileSystem = await openOverlay({
      directory: join(root, 'overlay'),
      base: { manifest: emptyManifest, identity: 'bench' },
      openFile: () => {
        throw new Error('an empty version has no files');
      },
    });
    await fill(fileSystem);
    for (let round = 0; round < rounds; round++) {
      for (const [engine, mountEngine] of Object.entries(engines)) {
        measured.push(await measure(root, fileSystem, engine, mountEngine));
      }
    }
  } finally {
    await rm(root, { recursive: true, force: true });
  }
  const ratio = medianRatio(measured);
  print(measured, ratio);
  return { rounds: measured, ratio };
}

const emptyManifest: Manifest = {
  inodes: new Map([
    [
      1,
      {
        number: 1,
        permissions: 0o755,
        uid: 0,
        gid: 0,
        accessTimeNs: 1n,
        modifyTimeNs: 1n,
        changeTimeNs: 1n,
        extendedAttributes: new Map(),
        kind: 'directory',
        entries: new Map(),
      },
    ],
  ]),
};

async function fill(fileSystem: FileSystem): Promise<void> {
  const { handle } = await fileSystem.create(rootInode, 'file', 0o644, constants.O_RDWR, { uid: 0, gid: 0 });
  const block = Buffer.alloc(mebibyte);
  for (let offset = 0; offset < fileBytes; offset += mebibyte) {
    for (let at = 0; at < mebibyte; at += 8) block.writeDoubleLE(Math.random(), at);
    await fileSystem.write(handle, offset, block);
  }
  await fileSystem.release(handle);
}

async function measure(
  root: string,
  fileSystem: FileSystem,
  engine: string,
  mountEngine: MountEngine,
): Promise<Round> {
  const one = await mounted(root, fileSystem, mountEngine, (path) => readAtRandom(path, 1));
  const four = await mounted(root, fileSystem, mountEngine, (path) => readAtRandom(path, 4));
  const sequentialSeconds = await mounted(root, fileSystem, mountEngine, readFromStartToEnd);
  return {
    engine,
    oneReaderPerSecond: one.perSecond,
    oneReaderMedianMicroseconds: one.medianMicroseconds,
    fourReadersPerSecond: four.perSecond,
    sequentialBytesPerSecond: fileBytes / sequentialSeconds,
  };
}

async function mounted<T>(
  root: string,
  fileSystem: FileSystem,
  mountEngine: MountEngine,
  use: (path: string) => Promise<T>,
): Promise<T> {
  const mountPath = join(root, 'mount');
  await mkdir(mountPath, { recursive: true });
  const engine = await mountEngine(fileSystem, { mountPath, sourceName: 'isr:bench', allowOther: false });
  try {
    return await use(join(mountPath, 'file'));
  } finally {
    await engine[Symbol.asyncDispose]();
  }
}

/** Each reader has a part of the file of its own; they start together. */
async function readAtRandom(
  path: string,
  readers: number,
): Promise<{ readonly perSecond: number; readonly medianMicroseconds: number }> {
  const pages = Math.floor(fileBytes / pageBytes / readers);
  const children = await Promise.all(
    Array.from({ length: readers }, async (_, index) => {
      const args = [readerProgram, path, index * pages, pages, readsOfAll / readers].map(String);
      const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
      const ready = new Promise((resolve) => child.stdout.once('readable', resolve));
      const output = text(child.stdout);
      await ready;
      return { child, output };
    }),
  );
  for (const { child } of children) child.stdin.end();
  const results = await Promise.all(
    children.map(async ({ output }) => {
      const json = (await output).slice('ready\n'.length);
      return JSON.parse(json) as { readonly seconds: number; readonly medianMicroseconds: number };
    }),
  );
  const seconds = Math.max(...results.map((result) => result.seconds));
  return {
    perSecond: readsOfAll / seconds,
    medianMicroseconds: median(results.map((result) => result.medianMicroseconds)),
  };
}

async function readFromStartToEnd(path: string): Promise<number> {
  const startedMs = performance.now();
  await run('dd', [`if=${path}`, 'of=/dev/null', 'bs=1M', 'status=none']);
  return (performance.now() - startedMs) / 1000;
}

function medianRatio(measured: readonly Round[]): number {
  const perSecond = (wanted: string) =>
    measured.filter(({ engine }) => engine === wanted).map((round) => round.oneReaderPerSecond);
  const native = perSecond('fuse-native');
  return median(perSecond('kernel').map((value, round) => value / (native[round] ?? Number.NaN)));
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

function print(measured: readonly Round[], ratio: number): void {
  console.log(
    '\nRandom 4 KiB reads and one sequential read through a mount, all data local, page cache cold\n',
  );
  console.log(
    formatTable(
      ['engine', '1 reader', 'median', '4 readers', 'sequential'],
      measured.map((round) => [
        round.engine,
        `${round.oneReaderPerSecond.toFixed(0)}/s`,
        `${round.oneReaderMedianMicroseconds.toFixed(0)} us`,
        `${round.fourReadersPerSecond.toFixed(0)}/s`,
        `${(round.sequentialBytesPerSecond / 1e6).toFixed(0)} MB/s`,
      ]),
    ),
  );
  console.log(`\nOne reader gets ${ratio.toFixed(2)} times as many answers from kernel as from fuse-native.`);
}
