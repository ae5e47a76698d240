import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { directorySource, publishVersion, Repository } from '../src/repo/index.js';
import { openStore } from '../src/store/index.js';
import { writeGuestMemory } from './guest-memory.js';

const mebibyte = 1024 * 1024;

export interface ImportResult {
  readonly bytes: number;
  readonly storedBytes: number;
  readonly seconds: number;
  readonly megabytesPerSecond: number;
  /** Of the whole process, with its codec threads, since it started. */
  readonly peakResidentBytes: number;
}

/** Imports a file of synthetic guest RAM into a repository in a directory, both in `directory`, and cleans up. */
export async function measureImport(bytes: number, directory = tmpdir()): Promise<ImportResult> {
  const scratch = await mkdtemp(join(directory, 'isr-import-'));
  try {
    await mkdir(join(scratch, 'vm'));
    await writeGuestMemory(join(scratch, 'vm', 'mem'), bytes);
    return await importInto(join(scratch, 'vm'), join(scratch, 'store'), bytes);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** Imports a directory that holds so many bytes into a new repository at `url`. */
export async function importInto(directory: string, url: string, bytes: number): Promise<ImportResult> {
  const store = await openStore(url, { create: true });
  const { repository } = await Repository.create(store);
  const source = await directorySource(directory, { chunkBytes: repository.header.chunkBytes });
  try {
    const started = performance.now();
    const published = await publishVersion({
      repository,
      vmName: 'bench',
      mountPath: '/bench',
      source,
      parent: undefined,
      lease: undefined,
      host: { hostId: '0'.repeat(32), hostName: 'bench' },
      reader: repository.blobs,
    });
    const seconds = (performance.now() - started) / 1000;
    return {
      bytes,
      storedBytes: published.storedBytes,
      seconds,
      megabytesPerSecond: bytes / 1e6 / seconds,
      peakResidentBytes: process.resourceUsage().maxRSS * 1024,
    };
  } finally {
    await source[Symbol.asyncDispose]();
    await repository[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
  }
}

/** The part of `make bench`: one GiB of guest RAM. */
export async function benchImport(): Promise<ImportResult> {
  const result = await measureImport(2 ** 30);
  console.log(
    `\nImport of ${result.bytes / mebibyte} MiB of guest RAM: ${result.megabytesPerSecond.toFixed(0)} MB/s, ` +
      `stored ${(result.storedBytes / result.bytes).toFixed(2)} of it, ` +
      `resident at most ${(result.peakResidentBytes / mebibyte).toFixed(0)} MiB`,
  );
  return result;
}
