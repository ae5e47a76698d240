import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { TrialHost } from '../../../fixtures/trial-host.js';
import { openRepository } from '../../../src/daemon/index.js';
import { openHostHome, type HostHome } from '../../../src/host/index.js';
import type { Trace, TraceEntry } from '../../../src/repo/index.js';
import { vmName, type Prepared } from '../prepared.js';

const run = promisify(execFile);

/** Chunks lie in packs as they were published after the boot, and the trace names them in the order of first touch. */
export function stageUnpacked(prepared: Prepared): Promise<void> {
  return stageWithTrace(prepared, 'unpacked', (entries) => entries);
}

/** As `stageUnpacked`, but the trace names chunks by file and offset. */
export function stageOffsetOrder(prepared: Prepared): Promise<void> {
  return stageWithTrace(prepared, 'offset-order', (entries) =>
    [...entries].sort((one, other) => compare(one.path, other.path) || one.chunkIndex - other.chunkIndex),
  );
}

function compare(one: string, other: string): number {
  return one === other ? 0 : one < other ? -1 : 1;
}

/**
 * Makes a part, unless it is there: the repository `first` with the trace of `learned` in another order. A version in which
 * nothing but a small file was added says where the trace is, for readers that cannot list; no chunk is moved for it.
 */
async function stageWithTrace(
  prepared: Prepared,
  part: 'unpacked' | 'offset-order',
  order: (entries: readonly TraceEntry[]) => readonly TraceEntry[],
): Promise<void> {
  const target = join(prepared.root, part);
  const isThere = await stat(target).then(
    () => true,
    () => false,
  );
  if (isThere) return;
  const store = `${target}.new`;
  const work = await mkdtemp(join(tmpdir(), 'isr-br-'));
  const host = new TrialHost(join(work, 'home'));
  const url = `file://${store}`;
  const mountPath = join(work, 'vm');
  try {
    await rm(store, { recursive: true, force: true });
    await run('cp', ['-a', join(prepared.root, 'first'), store]);
    await host.isr(['key', 'import', join(prepared.root, 'key')], url);
    await writeFile(join(host.home, 'config.toml'), 'rewrite_percent = 0\n');
    const home = await openHostHome(host.home);
    const trace = await readTrace(home, `file://${join(prepared.root, 'learned')}`);
    await writeTrace(home, url, { ...trace, entries: order(trace.entries) });
    await mkdir(mountPath);
    await host.isr(['mount', vmName, '--at', mountPath], url);
    await writeFile(join(mountPath, 'trace-order'), `${part}\n`);
    await host.isr(['publish', vmName], url);
    await host.isr(['umount', vmName], url);
  } finally {
    await host.killGuestAndUnmount(prepared.repositoryId, vmName);
    await rm(work, { recursive: true, force: true });
  }
  await rename(store, target);
}

async function readTrace(home: HostHome, url: string): Promise<Trace> {
  const repository = await openRepository(home, url);
  await using _ = repository.store;
  await using _opened = repository;
  const trace = await repository.history(vmName).readTrace();
  if (trace === undefined) throw new Error(`there is no trace in ${url}`);
  return trace;
}

async function writeTrace(home: HostHome, url: string, trace: Trace): Promise<void> {
  const repository = await openRepository(home, url);
  await using _ = repository.store;
  await using _opened = repository;
  if ((await repository.history(vmName).writeTrace(() => trace)) === undefined)
    throw new Error(`the trace was not written to ${url}`);
}
