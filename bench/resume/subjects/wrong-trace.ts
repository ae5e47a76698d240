import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, open, rename, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { TrialHost } from '../../../fixtures/trial-host.js';
import { mountVm } from '../../../src/daemon/index.js';
import { defaultEngine } from '../../../src/fuse/index.js';
import { openHostHome } from '../../../src/host/index.js';
import { vmName, type Prepared } from '../prepared.js';

const run = promisify(execFile);

/** Of `isr trace show --json`. */
interface ShownTrace {
  readonly chunkBytes: number;
  readonly touches: readonly { readonly path: string; readonly chunkIndex: number }[];
}

/**
 * Makes the part `wrong`, unless it is there: the repository `learned`, whose trace names as many chunks as the right one,
 * and none of those.
 */
export async function stageWrongTrace(prepared: Prepared): Promise<void> {
  const target = join(prepared.root, 'wrong');
  const isThere = await stat(target).then(
    () => true,
    () => false,
  );
  if (isThere) return;
  const store = `${target}.new`;
  const work = await mkdtemp(join(tmpdir(), 'isr-br-'));
  const host = new TrialHost(join(work, 'home'));
  const url = `file://${store}`;
  try {
    await rm(store, { recursive: true, force: true });
    await run('cp', ['-a', join(prepared.root, 'learned'), store]);
    await host.isr(['key', 'import', join(prepared.root, 'key')], url);
    const right = await host.isr<ShownTrace>(['trace', 'show', vmName], url);
    await host.isr(['trace', 'rm', vmName], url);
    await touchOthers(prepared, host, url, join(work, 'vm'), right);
    const wrong = await host.isr<ShownTrace>(['trace', 'show', vmName], url);
    requireWrong(right, wrong);
  } finally {
    await host.killGuestAndUnmount(prepared.repositoryId, vmName);
    await rm(work, { recursive: true, force: true });
  }
  await rename(store, target);
}

/** Reads of memory what the right trace does not name, as if a guest had been resumed that wanted it. */
async function touchOthers(
  prepared: Prepared,
  host: TrialHost,
  url: string,
  mountPath: string,
  right: ShownTrace,
): Promise<void> {
  await mkdir(mountPath);
  const client = await mountVm({
    home: await openHostHome(host.home),
    repositoryId: prepared.repositoryId,
    repositoryUrl: url,
    mount: {
      ...{ vmName, engine: defaultEngine, ephemeral: true, allowOther: false, version: undefined, mountPath },
      resuming: { prefetch: false },
    },
  });
  const wanted = new Set(right.touches.filter(({ path }) => path === 'mem').map((touch) => touch.chunkIndex));
  const chunks = (prepared.guest.memoryMiB * 2 ** 20) / right.chunkBytes;
  const file = await open(join(mountPath, 'mem'));
  try {
    const page = Buffer.alloc(4096);
    let touched = 0;
    // Not in order, so that the kernel does not read ahead; 7919 is prime.
    for (let step = 0; step < chunks && touched < right.touches.length; step += 1) {
      const chunk = (step * 7919) % chunks;
      if (wanted.has(chunk)) continue;
      const { bytesRead } = await file.read(page, 0, page.length, chunk * right.chunkBytes);
      if (bytesRead > 0) touched += 1;
    }
  } finally {
    await file.close();
    await client.unmount();
  }
}

function requireWrong(right: ShownTrace, wrong: ShownTrace): void {
  const key = (touch: { readonly path: string; readonly chunkIndex: number }): string =>
    `${touch.chunkIndex} ${touch.path}`;
  const wanted = new Set(right.touches.map(key));
  const common = wrong.touches.filter((touch) => touch.path === 'mem' && wanted.has(key(touch))).length;
  if (wrong.touches.length === 0 || common > 0)
    throw new Error(
      `the wrong trace has ${wrong.touches.length} chunks, ${common} of which belong to the right one`,
    );
}
