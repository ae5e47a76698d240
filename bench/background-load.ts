import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openRepository } from '../src/daemon/index.js';
import { createFetcher, type Fetcher } from '../src/fetch/index.js';
import { openHostHome } from '../src/host/index.js';
import { loadManifest, type BlobReference, type FileMap, type VersionNumber } from '../src/repo/index.js';
import { TrialHost } from '../fixtures/trial-host.js';
import { writeGuestMemory } from './guest-memory.js';
import { median } from './support/statistics.js';
import { formatTable } from './support/table.js';

const memoryBytes = 512 * 1024 * 1024;
const link = { mbps: 100, rttMs: 20 };
const demands = 60;
const localReads = 600;
/** A guest computes between two touches. */
const thinkMs = 5;

interface Latencies {
  readonly medianMs: number;
  readonly percentile99Ms: number;
}

export interface BackgroundLoadResult {
  readonly link: typeof link;
  /** What one demanded chunk takes on the wire. */
  readonly transferMs: number;
  readonly idle: { readonly demand: Latencies; readonly local: Latencies };
  readonly loaded: { readonly demand: Latencies; readonly local: Latencies };
  /** Of the link, while nobody demands and while somebody does. */
  readonly backgroundShare: { readonly alone: number; readonly besideDemand: number };
  readonly demandMedianMsMax: number;
}

/** The part of `make bench`: what a background fetch that saturates the link does to demand, and to reads of local data. */
export async function benchBackgroundLoad(): Promise<BackgroundLoadResult> {
  const root = await mkdtemp(join(tmpdir(), 'isr-bench-load-'));
  try {
    const version = await publish(root);
    const idle = await withFetcher(root, version, async (fetcher, chunks) => ({
      demand: await demand(fetcher, chunks),
      local: await readLocal(fetcher, chunks),
    }));
    const loaded = await withFetcher(root, version, underLoad);
    const transferMs = (idle.meanSealedBytes * 8) / (link.mbps * 1e3);
    const result: BackgroundLoadResult = {
      ...{ link, transferMs, idle: idle.of, loaded: loaded.of },
      backgroundShare: loaded.of.backgroundShare,
      demandMedianMsMax: 1.5 * idle.of.demand.medianMs + transferMs,
    };
    print(result);
    return result;
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

async function underLoad(fetcher: Fetcher, chunks: Chunks) {
  const stop = new AbortController();
  const load = fetcher
    .warmChunks(chunks.bulk, { fetchClass: 'background', signal: stop.signal })
    .catch(() => undefined);
  const share = async (during: () => Promise<void>): Promise<number> => {
    const before = fetcher.status().fetches.background.bytes;
    const startedMs = performance.now();
    await during();
    const bytes = fetcher.status().fetches.background.bytes - before;
    return (bytes * 8) / (performance.now() - startedMs) / (link.mbps * 1e3);
  };
  await sleep(1000);
  const alone = await share(() => sleep(3000));
  const demanded: Latencies[] = [];
  const besideDemand = await share(async () => {
    demanded.push(await demand(fetcher, chunks));
  });
  const local = await readLocal(fetcher, chunks);
  const isSaturated = fetcher.status().requestsInFlight > 0;
  stop.abort();
  await load;
  if (!isSaturated) throw new Error('the background fetch ended before the reads did');
  const [first] = demanded;
  if (first === undefined) throw new Error('nothing was demanded');
  return { demand: first, local, backgroundShare: { alone, besideDemand } };
}

/** Far apart, so that no request brings two of them. */
interface Chunks {
  readonly demanded: readonly BlobReference[];
  readonly local: readonly BlobReference[];
  readonly bulk: readonly BlobReference[];
}

async function demand(fetcher: Fetcher, { demanded }: Chunks): Promise<Latencies> {
  const times: number[] = [];
  for (const reference of demanded) {
    const startedMs = performance.now();
    await fetcher.readChunk(reference, { fetchClass: 'demand' });
    times.push(performance.now() - startedMs);
    await sleep(thinkMs);
  }
  return latenciesOf(times);
}

/** From the local cache: nothing is kept in memory. */
async function readLocal(fetcher: Fetcher, { local }: Chunks): Promise<Latencies> {
  const times: number[] = [];
  for (let read = 0; read < localReads; read += 1) {
    const reference = local[read % local.length];
    if (reference === undefined) throw new Error('nothing is local');
    const startedMs = performance.now();
    await fetcher.readChunk(reference, { fetchClass: 'demand' });
    times.push(performance.now() - startedMs);
    await sleep(1);
  }
  return latenciesOf(times);
}

function latenciesOf(times: readonly number[]): Latencies {
  const sorted = [...times].sort((a, b) => a - b);
  return { medianMs: median(sorted), percentile99Ms: sorted[Math.floor(sorted.length * 0.99)] ?? Number.NaN };
}

async function publish(root: string): Promise<VersionNumber> {
  const host = new TrialHost(join(root, 'home'));
  const url = `file://${join(root, 'store')}`;
  await host.isr(['init'], url);
  await mkdir(join(root, 'vm'));
  await writeGuestMemory(join(root, 'vm', 'mem'), memoryBytes);
  await host.isr(['import', 'bench', join(root, 'vm'), '--at', '/vms/bench'], url);
  return 1 as VersionNumber;
}

async function withFetcher<T>(
  root: string,
  version: VersionNumber,
  work: (fetcher: Fetcher, chunks: Chunks) => Promise<T>,
): Promise<{ readonly of: T; readonly meanSealedBytes: number }> {
  const home = await openHostHome(join(root, 'home'));
  const cachePath = await mkdtemp(join(root, 'cache-'));
  const url = `file://${join(root, 'store')}`;
  const near = await openRepository(home, url);
  const far = await openRepository(home, `lab+${url}?mbps=${link.mbps}&rttMs=${link.rttMs}`);
  const options = {
    ...{ cachePath, localCacheBytes: 2 ** 40, memoryCacheBytes: 0 },
    ...{ chunkBytes: near.header.chunkBytes, repositoryId: near.header.repositoryId },
  };
  try {
    const { references, local } = await prepare();
    const fetcher = await createFetcher({ ...options, repository: far });
    try {
      const rest = references.slice(local.length);
      const step = Math.floor(rest.length / demands);
      const demanded = rest.filter((_, index) => index % step === step - 1).slice(0, demands);
      const bulk = rest.filter((reference) => !demanded.includes(reference));
      for (const reference of bulk.slice(0, 1)) await fetcher.readChunk(reference, { fetchClass: 'demand' });
      const of = await work(fetcher, { demanded, local, bulk });
      const bytes = demanded.reduce((sum, { sealedBytes }) => sum + sealedBytes, 0);
      return { of, meanSealedBytes: bytes / demanded.length };
    } finally {
      await fetcher[Symbol.asyncDispose]();
    }
  } finally {
    for (const repository of [near, far]) {
      await repository[Symbol.asyncDispose]();
      await repository.store[Symbol.asyncDispose]();
    }
    await rm(cachePath, { recursive: true, force: true });
  }

  /** All chunks of the memory, and the first of them made local. */
  async function prepare() {
    const fetcher = await createFetcher({ ...options, repository: near });
    try {
      const commit = await near.history('bench').commit(version);
      const manifest = await loadManifest(commit.manifest, fetcher);
      const references: BlobReference[] = [];
      for (const inode of manifest.inodes.values())
        if (inode.kind === 'file') references.push(...(await chunksOf(fetcher, inode.content)));
      const local = references.slice(0, 64);
      await fetcher.warmChunks(local, { fetchClass: 'background' });
      return { references, local };
    } finally {
      await fetcher[Symbol.asyncDispose]();
    }
  }
}

async function chunksOf(fetcher: Fetcher, map: FileMap): Promise<BlobReference[]> {
  const file = fetcher.openFile(map);
  const found: BlobReference[] = [];
  for (let index = 0; ; index += 1) {
    const entry = await file.chunk(index, { fetchClass: 'background' });
    if (entry === undefined) return found;
    if (entry !== 'zero') found.push(entry);
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function print(result: BackgroundLoadResult): void {
  const { idle, loaded, transferMs, demandMedianMsMax, backgroundShare } = result;
  const row = (what: string, { medianMs, percentile99Ms }: Latencies): string[] => [
    what,
    medianMs.toFixed(2),
    percentile99Ms.toFixed(2),
  ];
  const rows = [
    row('demand, idle link', idle.demand),
    row('demand beside a background fetch', loaded.demand),
    row('local chunk, idle link', idle.local),
    row('local chunk beside a background fetch', loaded.local),
  ];
  console.log(`\n${formatTable(['100 Mb/s, 20 ms', 'median ms', '99 % ms'], rows)}`);
  console.log(
    `demand may take ${demandMedianMsMax.toFixed(1)} ms: 1.5 times idle and ${transferMs.toFixed(1)} ms for its transfer. ` +
      `The background fetch had ${(100 * backgroundShare.alone).toFixed(0)} % of the link alone and ` +
      `${(100 * backgroundShare.besideDemand).toFixed(0)} % beside demand.`,
  );
}
