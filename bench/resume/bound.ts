import { execFile } from 'node:child_process';
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { compress } from 'zstd-napi';
import { dropPageCache } from '../support/page-cache.js';
import { sourcePath } from './guests/bench-guest.js';
import { GuestConsole, type GuestWork } from './guests/console.js';
import type { LinkKind } from './link.js';
import type { Prepared } from './prepared.js';
import { OwnHypervisor } from './subjects/own-hypervisor.js';

const run = promisify(execFile);

const pageBytes = 4096;

/** Pages that are compressed together: as many as a chunk of isr has. */
const groupPages = 32;

const runTimeoutMs = 10 * 60_000;

/** What a resume cannot do without. */
export interface Touched {
  readonly pages: number;
  readonly bytes: number;
  /** With zstd -3. */
  readonly compressedBytes: number;
}

/** Until the guest's first line, and until its work is done. */
export interface TouchedUntil {
  readonly first: Touched;
  readonly work: Touched;
}

/**
 * Exactly what the guest touches after it was resumed, of memory, disk and device state: it is resumed from the local disk
 * with read-ahead turned off (`exact-faults.c`), and the page cache is asked what it holds then. Kept beside what was
 * prepared.
 */
export async function touchedPages(prepared: Prepared, work: GuestWork): Promise<TouchedUntil> {
  const path = join(prepared.root, work === 'go' ? 'touched.json' : `touched-${work}.json`);
  const known = await readFile(path, 'utf8').catch(() => undefined);
  if (known !== undefined) return JSON.parse(known) as TouchedUntil;
  const touched = await measureTouched(prepared, work);
  await writeFile(path, JSON.stringify(touched));
  return touched;
}

/**
 * The least that a resume which fetches first and computes then may take: what it takes locally, three round trips, and the
 * compressed touched pages over the bandwidth.
 */
export function boundSeconds(localSeconds: number, touched: Touched, { mbps, rttMs }: LinkKind): number {
  return localSeconds + (3 * rttMs) / 1000 + (touched.compressedBytes * 8) / (mbps * 1e6);
}

async function measureTouched(prepared: Prepared, work: GuestWork): Promise<TouchedUntil> {
  const directory = await mkdtemp(join(tmpdir(), 'isr-br-'));
  const signal = AbortSignal.timeout(runTimeoutMs);
  let own: OwnHypervisor | undefined;
  try {
    const preload = join(directory, 'exact-faults.so');
    await run('cc', ['-O2', '-shared', '-fPIC', '-o', preload, sourcePath('exact-faults.c')]);
    const lister = join(directory, 'resident-pages');
    await run('cc', ['-O2', '-o', lister, sourcePath('resident-pages.c')]);
    const copy = join(directory, 'vm');
    await run('cp', ['-a', '--sparse=always', join(prepared.root, 'state'), copy]);
    own = await OwnHypervisor.prepare(copy, join(directory, 'run'));
    await dropPageCache();
    await withPreload(preload, own);
    using console = await GuestConsole.connect(own.consolePath, signal);
    await console.request('ping', signal);
    const first = await touchedOf(prepared, copy, lister);
    const { token } = await console.request(work, signal);
    await console.line('done', token, signal);
    return { first, work: await touchedOf(prepared, copy, lister) };
  } finally {
    await own?.[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  }
}

/** QEMU inherits the environment of this process. */
async function withPreload(preload: string, own: OwnHypervisor): Promise<void> {
  process.env['LD_PRELOAD'] = preload;
  try {
    await own.resume();
  } finally {
    delete process.env['LD_PRELOAD'];
  }
}

/** The saved device state is needed in full; it is read and removed before the guest runs. */
async function touchedOf(prepared: Prepared, copy: string, lister: string): Promise<Touched> {
  const state = await readFile(join(prepared.root, 'state', 'state'));
  let pages = Math.ceil(state.length / pageBytes);
  let compressedBytes = compress(state).length;
  for (const name of ['mem', prepared.guest.disk]) {
    if (name === undefined) continue;
    const { stdout } = await run(lister, [join(copy, name)], { maxBuffer: 2 ** 28 });
    for await (const group of groupsOf(join(prepared.root, 'state', name), stdout)) {
      pages += group.length / pageBytes;
      compressedBytes += compress(group).length;
    }
  }
  return { pages, bytes: pages * pageBytes, compressedBytes };
}

/** The pages of a file that lines of `FIRST COUNT` name, so many together. */
async function* groupsOf(path: string, lines: string): AsyncGenerator<Buffer> {
  const file = await open(path);
  try {
    let group: Buffer[] = [];
    for (const line of lines.split('\n').filter((each) => each !== '')) {
      const [first = 0, count = 0] = line.split(' ').map(Number);
      for (let page = first; page < first + count; page += 1) {
        const { buffer } = await file.read(Buffer.alloc(pageBytes), 0, pageBytes, page * pageBytes);
        group.push(buffer);
        if (group.length < groupPages) continue;
        yield Buffer.concat(group);
        group = [];
      }
    }
    yield Buffer.concat(group);
  } finally {
    await file.close();
  }
}
