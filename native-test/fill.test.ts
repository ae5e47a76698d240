/** A mount that is filled needs the store no more; until then demand is answered, and neither a worker's death nor the store's absence ends it. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { TrialHost } from '../fixtures/trial-host.js';
import { readTicks, waitForTick } from '../fixtures/guest/console.js';
import { Trial } from '../fixtures/trial.js';
import { mountVm, type DaemonClient, type DaemonStatus, type MountRequest } from '../src/daemon/index.js';
import { findMount } from '../src/fuse/index.js';
import { openHostHome } from '../src/host/index.js';
import { runPython } from './support/mount-contract.js';
import { SequenceLab, vmName as guestName } from './support/sequence-lab.js';
import { eventually, isRunning } from './support/supervised-mount.js';

const vmName = 'filled';
const chunkBytes = 128 * 1024;
const memChunks = 80;
const stateChunks = 3;
const chunks = memChunks + stateChunks;
/** So slow that a fill is still under way when something happens to it. */
const slowly = { bytesPerSecond: 16 * chunkBytes };

const digest = `
import hashlib, os, sys
for directory, _, names in sorted(os.walk(sys.argv[1])):
    for name in sorted(names):
        with open(os.path.join(directory, name), 'rb') as file: print(name, hashlib.sha256(file.read()).hexdigest())
`;

const readLastPage = `
import hashlib, os, sys
file = os.open(sys.argv[1], os.O_RDONLY)
print(hashlib.sha256(os.pread(file, 4096, os.fstat(file).st_size - 4096)).hexdigest())
`;

async function python(source: string, ...parameters: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runPython(source, ...parameters);
  if (exitCode !== 0) throw new Error(stderr);
  return stdout.trim();
}

function sha256(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}

interface Lab {
  readonly trial: Trial;
  readonly host: TrialHost;
  readonly mem: Buffer;
  /** What `digest` prints of the mount. */
  readonly expected: string;
  readonly mount: (options: Partial<MountRequest>) => Promise<DaemonClient>;
  readonly away: () => Promise<void>;
  readonly back: () => Promise<void>;
}

/** A host that has nothing of a published VM. */
async function openLab(t: Test): Promise<Lab> {
  const { trial, host: publisher } = await Trial.create(vmName);
  t.teardown(() => trial[Symbol.asyncDispose]());
  const directory = join(trial.root, 'source');
  await mkdir(directory);
  const mem = randomBytes(memChunks * chunkBytes);
  const state = randomBytes(stateChunks * chunkBytes - 77);
  await writeFile(join(directory, 'mem'), mem);
  await writeFile(join(directory, 'state'), state);
  await publisher.isr(['import', vmName, directory, '--at', trial.mountPath], trial.url);
  const host = await trial.addHost();
  const home = await openHostHome(host.home);
  return {
    ...{ trial, host, mem },
    expected: `mem ${sha256(mem)}\nstate ${sha256(state)}`,
    mount: (options) =>
      mountVm({
        ...{ home, repositoryId: trial.repositoryId, repositoryUrl: trial.url },
        mount: {
          ...{ vmName, version: undefined, mountPath: undefined, ephemeral: true, allowOther: false },
          ...{ engine: 'kernel', ...options },
        },
      }),
    away: () => rename(trial.storePath, `${trial.storePath}.away`),
    back: () => rename(`${trial.storePath}.away`, trial.storePath),
  };
}

/** Undefined while a worker takes the place of another. */
async function statusOf(client: DaemonClient): Promise<DaemonStatus | undefined> {
  return client.status().catch(() => undefined);
}

async function untilStatus(
  client: DaemonClient,
  what: string,
  holds: (status: DaemonStatus) => boolean,
): Promise<DaemonStatus> {
  let last: DaemonStatus | undefined;
  await eventually(what, async () => {
    last = await statusOf(client);
    return last !== undefined && holds(last);
  });
  if (last === undefined) throw new Error('no status');
  return last;
}

const untilComplete = (client: DaemonClient): Promise<DaemonStatus> =>
  untilStatus(client, 'all of it is here', ({ fill }) => fill?.state === 'complete');

const untilUnderWay = (client: DaemonClient): Promise<DaemonStatus> =>
  untilStatus(client, 'some of it is here', ({ fill }) => (fill?.doneChunks ?? 0) > 0);

t.test('when it is complete, every byte is read without the store', async (t) => {
  const { trial, host, expected, away, back } = await openLab(t);
  await host.isr(['mount', vmName, '--fill'], trial.url);
  await eventually('status says so', async () => {
    const { fill } = await host.isr<DaemonStatus>(['status', vmName], trial.url);
    return fill?.state === 'complete';
  });
  const status = await host.isr<DaemonStatus>(['status', vmName], trial.url);
  t.match(status, { fill: { chunks, doneChunks: chunks }, chunks: { total: chunks, local: chunks } });
  t.equal(status.fill?.doneBytes, status.fill?.bytes);
  const { demand, around } = status.fetch.fetches;
  t.ok(demand.bytes + around.bytes < chunkBytes, 'nobody has read yet');
  await away();
  if (status.daemon.supervisorPid !== undefined) process.kill(status.daemon.workerPid, 'SIGKILL');
  t.equal(await python(digest, trial.mountPath), expected, 'also by a worker that follows');
  t.match(await host.isr(['status', vmName], trial.url), { fetch: { errors: 0 } });
  await back();
  await host.isr(['umount', vmName], trial.url);

  await host.isr(['mount', vmName], trial.url);
  t.notOk('fill' in (await host.isr<object>(['status', vmName], trial.url)), 'only where it is wanted');
  await host.isr(['umount', vmName], trial.url);
  await writeFile(join(host.home, 'config.toml'), 'fill = true\nfill_mbps = 100\n');
  await host.isr(['mount', vmName], trial.url);
  t.match(await host.isr(['status', vmName], trial.url), { fill: {} });
  await host.isr(['umount', vmName], trial.url);
  await host.isr(['mount', vmName, '--no-fill'], trial.url);
  t.notOk('fill' in (await host.isr<object>(['status', vmName], trial.url)));
  await host.isr(['umount', vmName], trial.url);
});

t.test('meanwhile demand is answered, and a worker that follows goes on', async (t) => {
  const { trial, mem, mount, expected } = await openLab(t);
  const client = await mount({ fill: slowly });
  const before = await untilUnderWay(client);
  t.equal(await python(readLastPage, join(trial.mountPath, 'mem')), sha256(mem.subarray(-4096)));
  const after = await client.status();
  t.equal(after.fill?.state, 'filling', 'demand did not wait for it');
  if (before.daemon.supervisorPid !== undefined) {
    process.kill(before.daemon.workerPid, 'SIGKILL');
    const next = await untilStatus(client, 'it goes on', ({ fill, daemon }) => {
      return daemon.workerPid !== before.daemon.workerPid && (fill?.fetchedBytes ?? 0) > 0;
    });
    t.ok((next.fill?.fetchedBytes ?? 0) <= chunks * chunkBytes);
  }
  const status = await untilComplete(client);
  t.match(status, { fill: { doneChunks: chunks }, chunks: { local: chunks } });
  if (before.daemon.supervisorPid !== undefined)
    t.ok((status.fill?.fetchedBytes ?? 0) < chunks * chunkBytes, 'what had come is not fetched again');
  t.equal(await python(digest, trial.mountPath), expected);
  await client.unmount();
});

t.test(
  'asked for later it outlives a worker, too; it waits for the store, and ends with the mount',
  async (t) => {
    const { trial, mount, away, back } = await openLab(t);
    const client = await mount({});
    t.equal((await client.status()).fill, undefined);
    await client.fill(slowly);
    const before = await untilUnderWay(client);
    if (before.daemon.supervisorPid !== undefined) {
      process.kill(before.daemon.workerPid, 'SIGKILL');
      await untilStatus(client, 'it goes on', ({ daemon, fill }) => {
        return daemon.workerPid !== before.daemon.workerPid && fill !== undefined;
      });
      await untilUnderWay(client);
    }
    await away();
    const waiting = await untilStatus(client, 'it waits', ({ fetch }) => fetch.waitingForStore !== undefined);
    t.equal(waiting.fill?.state, 'filling');
    await back();
    await untilStatus(client, 'more comes', ({ fill }) => (fill?.fetchedBytes ?? 0) > (waiting.fill?.fetchedBytes ?? 0)); // prettier-ignore
    const { daemon, fill } = await client.status();
    t.equal(fill?.state, 'filling', 'it is not over yet');
    await client.unmount();
    t.equal(await findMount(trial.mountPath), undefined);
    await eventually('the worker ends', async () => !(await isRunning(daemon.workerPid)));
  },
);

t.test(
  'a guest that is resumed with it runs on without the store, also where a trace is replayed first',
  async (t) => {
    const lab = await SequenceLab.create(t);
    const { trial } = lab;
    await lab.host.isr(['suspend', guestName], trial.url);
    for (const isTraced of [false, true]) {
      const host = await trial.addHost();
      const { run } = await host.vmPaths(trial.repositoryId, guestName);
      const consoleLog = join(run, 'console.log');
      await host.isr(['resume', guestName, '--fill'], trial.url);
      await waitForTick(consoleLog);
      let last: DaemonStatus | undefined;
      await eventually('all of it is here', async () => {
        last = await host.isr<DaemonStatus>(['status', guestName], trial.url);
        return last.fill?.state === 'complete';
      });
      t.equal(last?.chunks?.local, last?.chunks?.total);
      t.equal(last?.replay !== undefined, isTraced);
      await rename(trial.storePath, `${trial.storePath}.away`);
      const ticks = (await readTicks(consoleLog)).length;
      await waitForTick(consoleLog, ticks + 2);
      await rename(`${trial.storePath}.away`, trial.storePath);
      t.match(await host.isr(['suspend', guestName], trial.url), { publish: { outcome: 'published' } });
      t.equal(await findMount(trial.mountPath), undefined);
    }
  },
);
