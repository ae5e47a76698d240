/**
 * A disk image of 1 TiB that holds 2 GiB: mounting must not depend on its size, and reading all of its data once must
 * not fill the daemon's memory.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdir, mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { DaemonStatus } from '../src/daemon/index.js';
import { writeGuestMemory } from './guest-memory.js';
import { TrialHost } from '../fixtures/trial-host.js';
import { dropPageCache } from './support/page-cache.js';
import { formatTable } from './support/table.js';

const run = promisify(execFile);

const mebibyte = 1024 * 1024;
const extentBytes = 64 * mebibyte;

interface Trial {
  readonly name: string;
  readonly fileBytes: number;
  readonly dataBytes: number;
}

interface Figures extends Trial {
  readonly mountSeconds: number;
  readonly readSeconds: number;
  readonly readAgainSeconds: number;
  readonly residentBytesMax: number;
}

const trials: readonly Trial[] = [
  { name: '1 GiB', fileBytes: 2 ** 30, dataBytes: 256 * mebibyte },
  { name: '1 TiB', fileBytes: 2 ** 40, dataBytes: 2048 * mebibyte },
];

export async function benchMount(): Promise<{ readonly trials: readonly Figures[] }> {
  const figures: Figures[] = [];
  for (const trial of trials) figures.push(await measure(trial));
  console.log('\nMounting a sparse disk image, and reading all of its data through the mount, cache empty\n');
  console.log(
    formatTable(
      ['image', 'data', 'mount', 'read', 'read again', 'daemon resident, at most'],
      figures.map((row) => [
        row.name,
        `${row.dataBytes / mebibyte} MiB`,
        `${row.mountSeconds.toFixed(2)} s`,
        `${(row.dataBytes / 1e6 / row.readSeconds).toFixed(0)} MB/s`,
        `${(row.dataBytes / 1e6 / row.readAgainSeconds).toFixed(0)} MB/s`,
        `${(row.residentBytesMax / 1e6).toFixed(0)} MB`,
      ]),
    ),
  );
  return { trials: figures };
}

async function measure(trial: Trial): Promise<Figures> {
  const root = await mkdtemp(join(tmpdir(), 'isr-bench-mount-'));
  const url = `file://${root}/store`;
  const publisher = new TrialHost(join(root, 'host-a'));
  const reader = new TrialHost(join(root, 'host-b'));
  const mountPath = join(root, 'vm');
  let repositoryId: string | undefined;
  try {
    await mkdir(mountPath);
    const offsets = await writeImage(join(root, 'image'), trial);
    ({ repositoryId } = await publisher.isr<{ repositoryId: string }>(['init'], url));
    await publisher.isr(['import', 'disk', join(root, 'image'), '--at', mountPath], url);
    await publisher.isr(['key', 'export', join(root, 'key')], url);
    await reader.isr(['key', 'import', join(root, 'key')], url);

    const mountSeconds = await seconds(() => reader.isr(['mount', 'disk'], url));
    const watch = watchResidentBytes(await daemonPid(reader, url));
    const readSeconds = await seconds(() => readExtents(join(mountPath, 'disk.img'), offsets));
    await dropPageCache();
    const readAgainSeconds = await seconds(() => readExtents(join(mountPath, 'disk.img'), offsets));
    const residentBytesMax = watch.stop();
    await reader.isr(['umount', 'disk'], url);
    return { ...trial, mountSeconds, readSeconds, readAgainSeconds, residentBytesMax };
  } finally {
    if (repositoryId !== undefined) await reader.killGuestAndUnmount(repositoryId, 'disk');
    await rm(root, { recursive: true, force: true });
  }
}

/** Writes the image's data in extents spread over the file; the rest is a hole. Returns where they are. */
async function writeImage(directory: string, trial: Trial): Promise<readonly number[]> {
  await mkdir(directory);
  const extents = trial.dataBytes / extentBytes;
  const offsets = Array.from(
    { length: extents },
    (_, extent) => Math.floor((((trial.fileBytes - extentBytes) / extents) * extent) / mebibyte) * mebibyte,
  );
  const content = join(directory, '..', 'extent');
  await writeGuestMemory(content, extentBytes);
  const data = await readFile(content);
  const image = await open(join(directory, 'disk.img'), 'wx');
  try {
    await image.truncate(trial.fileBytes);
    for (const [extent, offset] of offsets.entries()) {
      // No two chunks may be equal: they would be stored, and fetched, once.
      for (let at = 0; at < data.length; at += 4096) data.writeUInt32LE(extent, at);
      await image.write(data, 0, data.length, offset);
    }
  } finally {
    await image.close();
  }
  return offsets;
}

/** Reads the extents one after another, in a process of its own, as a program would. */
async function readExtents(path: string, offsets: readonly number[]): Promise<void> {
  for (const offset of offsets) {
    await run('dd', [
      `if=${path}`,
      'of=/dev/null',
      'bs=1M',
      `skip=${offset / mebibyte}`,
      `count=${extentBytes / mebibyte}`,
      'status=none',
    ]);
  }
}

async function daemonPid(host: TrialHost, url: string): Promise<number> {
  return (await host.isr<DaemonStatus>(['status', 'disk'], url)).daemon.workerPid;
}

/** Samples a process's resident set until stopped. */
function watchResidentBytes(pid: number): { readonly stop: () => number } {
  let most = 0;
  const sample = (): void => {
    const pages = Number(readFileSync(`/proc/${pid}/statm`, 'latin1').split(' ')[1]);
    most = Math.max(most, pages * 4096);
  };
  sample();
  const timer = setInterval(sample, 50);
  return {
    stop: () => {
      clearInterval(timer);
      return most;
    },
  };
}

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return (performance.now() - startedMs) / 1000;
}
