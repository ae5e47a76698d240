import { cp, mkdir, mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openRepository } from '../src/daemon/index.js';
import { createFetcher } from '../src/fetch/index.js';
import { openHostHome } from '../src/host/index.js';
import { loadManifest, type BlobReference, type VersionNumber } from '../src/repo/index.js';
import { TrialHost } from '../fixtures/trial-host.js';
import { writeGuestMemory } from './guest-memory.js';
import { formatTable } from './support/table.js';

const memoryBytes = 256 * 1024 * 1024;
const chunkBytes = 128 * 1024;
const pageBytes = 4096;
const workingSetChunks = 256;
const changedPercents = [0, 1, 5];
const linksMbps = [1, 10, 100];
const rttMs = 20;
/** What a USB 2 stick reads, and how long it takes to answer. */
const usb = 'mbps=240&rttMs=1';

interface LookasideRow {
  readonly changedPercent: number;
  readonly linkMbps: number;
  readonly tier: boolean;
  readonly seconds: number;
  /** Sealed bytes that came over the link, and the least time that they take on it. */
  readonly linkBytes: number;
  readonly linkSeconds: number;
}

/**
 * The part of `make bench`: a working set of 32 MiB, one chunk after the other as a guest demands them, with and without an older
 * version on a USB stick, over links of several bandwidths.
 */
export async function benchLookaside(): Promise<{ readonly rows: readonly LookasideRow[] }> {
  const rows: LookasideRow[] = [];
  for (const changedPercent of changedPercents) {
    const root = await mkdtemp(join(tmpdir(), 'isr-bench-lookaside-'));
    try {
      await publishTwice(root, changedPercent);
      for (const linkMbps of linksMbps)
        rows.push(await readWorkingSet(root, { changedPercent, linkMbps, tier: true }));
      if (changedPercent === 0)
        rows.push(await readWorkingSet(root, { changedPercent, linkMbps: 100, tier: false }));
    } finally {
      await rm(root, { recursive: true, force: true });
    }
  }
  print(rows);
  return { rows };
}

/** The repository with both versions, and a copy of it from when it had one. */
async function publishTwice(root: string, changedPercent: number): Promise<void> {
  const host = new TrialHost(join(root, 'home'));
  const url = `file://${join(root, 'store')}`;
  await host.isr(['init'], url);
  const memory = join(root, 'vm', 'mem');
  const mountPath = join(root, 'mount');
  await mkdir(join(root, 'vm'));
  await writeGuestMemory(memory, memoryBytes);
  await host.isr(['import', 'bench', join(root, 'vm'), '--at', mountPath], url);
  await cp(join(root, 'store'), join(root, 'usb'), { recursive: true });
  if (changedPercent === 0) return;
  await mkdir(mountPath);
  await host.isr(['mount', 'bench'], url);
  const chunks = memoryBytes / chunkBytes;
  const others = join(root, 'others');
  await writeGuestMemory(others, chunks * pageBytes, 2);
  const pages = await readFile(others);
  const file = await open(join(mountPath, 'mem'), 'r+');
  try {
    for (let chunk = 0; chunk < chunks; chunk += 1) {
      if ((chunk * 37) % 100 >= changedPercent) continue;
      await file.write(pages, chunk * pageBytes, pageBytes, chunk * chunkBytes);
    }
  } finally {
    await file.close();
  }
  await host.isr(['publish', 'bench'], url);
  await host.isr(['umount', 'bench'], url);
}

async function readWorkingSet(
  root: string,
  { changedPercent, linkMbps, tier }: Pick<LookasideRow, 'changedPercent' | 'linkMbps' | 'tier'>,
): Promise<LookasideRow> {
  const home = await openHostHome(join(root, 'home'));
  const url = `file://${join(root, 'store')}`;
  const repository = await openRepository(home, `lab+${url}?mbps=${linkMbps}&rttMs=${rttMs}`);
  const cachePath = await mkdtemp(join(root, 'cache-'));
  const fetcher = await createFetcher({
    ...{ repository, cachePath, localCacheBytes: 2 ** 40, memoryCacheBytes: 0 },
    ...{ chunkBytes: repository.header.chunkBytes, repositoryId: repository.header.repositoryId },
    tiers: tier ? [`lab+file://${join(root, 'usb')}?${usb}`] : [],
  });
  try {
    const version = (changedPercent === 0 ? 1 : 2) as VersionNumber;
    const commit = await repository.history('bench').commit(version);
    if (commit.deltas !== undefined) fetcher.useDeltas(commit.deltas);
    const manifest = await loadManifest(commit.manifest, fetcher);
    const [map] = [...manifest.inodes.values()].flatMap((inode) =>
      inode.kind === 'file' ? [inode.content] : [],
    );
    if (map === undefined) throw new Error('there is no memory');
    const file = fetcher.openFile(map);
    const wanted: BlobReference[] = [];
    const step = Math.floor(memoryBytes / chunkBytes / workingSetChunks);
    for (let index = 0; index < workingSetChunks; index += 1) {
      const entry = await file.chunk(index * step, { fetchClass: 'demand' });
      if (entry !== undefined && entry !== 'zero') wanted.push(entry);
    }
    const before = fetcher.status().fetches.demand.bytes;
    const startedMs = performance.now();
    for (const reference of wanted) await fetcher.readChunk(reference, { fetchClass: 'demand' });
    const seconds = (performance.now() - startedMs) / 1000;
    const linkBytes = fetcher.status().fetches.demand.bytes - before;
    const linkSeconds = (linkBytes * 8) / (linkMbps * 1e6);
    return { changedPercent, linkMbps, tier, seconds, linkBytes, linkSeconds };
  } finally {
    await fetcher[Symbol.asyncDispose]();
    await repository[Symbol.asyncDispose]();
    await repository.store[Symbol.asyncDispose]();
    await rm(cachePath, { recursive: true, force: true });
  }
}

function print(rows: readonly LookasideRow[]): void {
  const header = ['changed', 'link', 'older version', 'seconds', 'over the link', 'of it at least'];
  console.log(
    `\n${formatTable(
      header,
      rows.map(({ changedPercent, linkMbps, tier, seconds, linkBytes, linkSeconds }) => [
        ...[`${changedPercent} %`, `${linkMbps} Mb/s`, tier ? 'on USB' : 'none', seconds.toFixed(2)],
        ...[`${(linkBytes / 1e6).toFixed(2)} MB`, `${linkSeconds.toFixed(2)} s`],
      ]),
    )}`,
  );
}
