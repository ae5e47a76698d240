import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CephCluster } from '../fixtures/ceph.js';
import { Nginx } from '../fixtures/nginx.js';
import { objectKey, openStore, type ObjectStore } from '../src/store/index.js';
import { importInto } from './import.js';
import { writeGuestMemory } from './guest-memory.js';
import { median } from './support/statistics.js';
import { formatTable } from './support/table.js';

const mebibyte = 1024 * 1024;
const chunkBytes = 128 * 1024;
const packBytes = 32 * mebibyte;
const packs = 4;
const bulkRangeBytes = 4 * mebibyte;
const published = 256 * mebibyte;

/** A store to measure, made for it. */
interface Place extends AsyncDisposable {
  readonly name: string;
  /** A new place in it. */
  url(name: string): string;
  /** Where what was written there is read. */
  readUrl(name: string): string;
  readonly canPublish: boolean;
}

interface SmallReads {
  readonly inFlight: number;
  readonly perSecond: number;
  /** Of this process with its threads, each; the server's is not in it. */
  readonly processorMs: number;
  readonly medianMs: number;
  readonly percentile99Ms: number;
}

interface StoreResult {
  readonly store: string;
  readonly small: readonly SmallReads[];
  readonly bulkMegabytesPerSecond: number;
  readonly publishMegabytesPerSecond: number | null;
}

/** The part of `make bench`: what a request costs, and what flows, for each kind of store. */
export async function benchStore(): Promise<{ readonly stores: readonly StoreResult[] }> {
  const stores: StoreResult[] = [];
  for (const make of [directoryPlace, httpPlace, cephPlace]) {
    await using place = await make();
    stores.push(await measure(place));
  }
  printTable(stores);
  return { stores };
}

async function directoryPlace(): Promise<Place> {
  const root = await mkdtemp(join(tmpdir(), 'isr-bench-store-'));
  return {
    name: 'directory',
    url: (name) => join(root, name),
    readUrl: (name) => join(root, name),
    canPublish: true,
    [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }),
  };
}

async function httpPlace(): Promise<Place> {
  const root = await mkdtemp(join(tmpdir(), 'isr-bench-store-'));
  const nginx = await Nginx.start(root);
  return {
    name: 'HTTP, nginx',
    url: (name) => join(root, name),
    readUrl: (name) => `${nginx.url}/${name}`,
    canPublish: false,
    [Symbol.asyncDispose]: async () => {
      await nginx[Symbol.asyncDispose]();
      await rm(root, { recursive: true, force: true });
    },
  };
}

async function cephPlace(): Promise<Place> {
  const ceph = await CephCluster.start();
  Object.assign(process.env, ceph.environment);
  await ceph.makeBucket('bench');
  return {
    name: 'S3 on Ceph',
    url: (name) => `s3://bench/${name}`,
    readUrl: (name) => `s3://bench/${name}`,
    canPublish: true,
    [Symbol.asyncDispose]: () => ceph[Symbol.asyncDispose](),
  };
}

async function measure(place: Place): Promise<StoreResult> {
  await writePacks(place);
  await using store = await openStore(place.readUrl('reads'));
  await smallReads(store, 4, 500);
  const small = [await smallReads(store, 1, 1500), await smallReads(store, 16, 3000)];
  const bulkMegabytesPerSecond = await bulkReads(store);
  const publishMegabytesPerSecond = place.canPublish ? await publishing(place) : null;
  return { store: place.name, small, bulkMegabytesPerSecond, publishMegabytesPerSecond };
}

async function writePacks(place: Place): Promise<void> {
  await using store = await openStore(place.url('reads'), { create: true });
  const content = randomBytes(packBytes);
  for (let pack = 0; pack < packs; pack += 1) await store.put(keyOf(pack), [content]);
}

async function smallReads(store: ObjectStore, inFlight: number, reads: number): Promise<SmallReads> {
  const chunksPerPack = packBytes / chunkBytes;
  const latencies: number[] = [];
  let next = 0;
  const reader = async (): Promise<void> => {
    while (next < reads) {
      const at = (next * 7919) % (packs * chunksPerPack);
      next += 1;
      const startedMs = performance.now();
      const offsetBytes = (at % chunksPerPack) * chunkBytes;
      for await (const _ of store.read(keyOf(Math.floor(at / chunksPerPack)), {
        offsetBytes,
        lengthBytes: chunkBytes,
      }));
      latencies.push(performance.now() - startedMs);
    }
  };
  const processor = process.cpuUsage();
  const startedMs = performance.now();
  await Promise.all(Array.from({ length: inFlight }, reader));
  const seconds = (performance.now() - startedMs) / 1000;
  const { user, system } = process.cpuUsage(processor);
  const sorted = latencies.sort((a, b) => a - b);
  return {
    inFlight,
    perSecond: reads / seconds,
    processorMs: (user + system) / 1000 / reads,
    medianMs: median(sorted),
    percentile99Ms: sorted[Math.floor(sorted.length * 0.99)] ?? Number.NaN,
  };
}

async function bulkReads(store: ObjectStore): Promise<number> {
  const ranges = Array.from({ length: (packs * packBytes) / bulkRangeBytes }, (_, index) => index);
  const totalBytes = ranges.length * bulkRangeBytes;
  const reader = async (): Promise<void> => {
    for (let index = ranges.shift(); index !== undefined; index = ranges.shift()) {
      const offsetBytes = (index * bulkRangeBytes) % packBytes;
      const key = keyOf(Math.floor((index * bulkRangeBytes) / packBytes));
      for await (const _ of store.read(key, { offsetBytes, lengthBytes: bulkRangeBytes }));
    }
  };
  const startedMs = performance.now();
  await Promise.all(Array.from({ length: 4 }, reader));
  return totalBytes / 1000 / (performance.now() - startedMs);
}

async function publishing(place: Place): Promise<number> {
  const scratch = await mkdtemp(join(tmpdir(), 'isr-bench-publish-'));
  try {
    await mkdir(join(scratch, 'vm'));
    await writeGuestMemory(join(scratch, 'vm', 'mem'), published);
    return (await importInto(join(scratch, 'vm'), place.url('publish'), published)).megabytesPerSecond;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

function keyOf(pack: number) {
  return objectKey(`pack/${pack}`);
}

function printTable(stores: readonly StoreResult[]): void {
  const rows = stores.flatMap(({ store, small, bulkMegabytesPerSecond, publishMegabytesPerSecond }) =>
    small.map((each, index) => [
      index === 0 ? store : '',
      ...[each.inFlight, each.perSecond].map((value) => value.toFixed(0)),
      ...[each.processorMs, each.medianMs, each.percentile99Ms].map((value) => value.toFixed(2)),
      ...[bulkMegabytesPerSecond, publishMegabytesPerSecond].map((value) =>
        index === 0 ? (value?.toFixed(0) ?? '–') : '',
      ),
    ]),
  );
  const header = [
    'reads of 128 KiB',
    'at once',
    '/s',
    'CPU ms',
    'median ms',
    '99 % ms',
    'bulk MB/s',
    'publish MB/s',
  ];
  console.log(`\n${formatTable(header, rows)}`);
}
