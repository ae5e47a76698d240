/** A host that has all of a VM goes on with it while the store is away. */
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { buildGuest } from '../fixtures/guest/build.js';
import { readTicks, waitForTick } from '../fixtures/guest/console.js';
import type { TrialHost } from '../fixtures/trial-host.js';
import { Trial } from '../fixtures/trial.js';
import type { DaemonStatus, PublishResult } from '../src/daemon/index.js';
import type { SuspendResult } from '../src/vm/index.js';
import { eventually } from './support/supervised-mount.js';

const vmName = 'files';
const content = randomBytes(1_000_000);

interface Hosts {
  readonly trial: Trial;
  /** Made version 1. */
  readonly publisher: TrialHost;
  /** Has all of version 1, and gave the lease back. */
  readonly traveller: TrialHost;
}

async function makeHosts(t: Test): Promise<Hosts> {
  const { trial, host: publisher } = await Trial.create(vmName);
  t.teardown(() => trial[Symbol.asyncDispose]());
  const source = join(trial.root, 'source');
  await mkdir(source);
  await writeFile(join(source, 'disk'), content);
  await publisher.isr(['import', vmName, source, '--at', trial.mountPath], trial.url);
  const traveller = await trial.addHost();
  await traveller.isr(['mount', vmName], trial.url);
  await traveller.isr(['umount', vmName], trial.url);
  await traveller.isr(['warm', vmName, '--all'], trial.url);
  return { trial, publisher, traveller };
}

const away = (trial: Trial): Promise<void> => rename(trial.storePath, `${trial.storePath}.away`);
const back = (trial: Trial): Promise<void> => rename(`${trial.storePath}.away`, trial.storePath);

function statusOf(host: TrialHost, trial: Trial): Promise<DaemonStatus> {
  return host.isr<DaemonStatus>(['status', vmName], trial.url);
}

t.test('it mounts, reads and changes, mounts again, and publishes when the store is back', async (t) => {
  const { trial, publisher, traveller } = await makeHosts(t);
  await away(trial);
  await traveller.isr(['mount', vmName], trial.url);
  t.ok((await readFile(join(trial.mountPath, 'disk'))).equals(content));
  t.match(await statusOf(traveller, trial), {
    version: 1,
    withoutStore: { lease: 'waiting', reason: /away|not there|reached/ },
  });
  await writeFile(join(trial.mountPath, 'new'), 'written on the way');
  await traveller.isr(['umount', vmName], trial.url);
  t.match(await traveller.isrError(['publish', vmName], trial.url), { code: 'STORE_UNREACHABLE' });
  await traveller.isr(['mount', vmName], trial.url);
  t.equal(await readFile(join(trial.mountPath, 'new'), 'utf8'), 'written on the way');

  await back(trial);
  await eventually('the lease is taken', async () => {
    return (await statusOf(traveller, trial)).withoutStore?.lease === 'held';
  });
  t.match(await publisher.isrError(['mount', vmName], trial.url), { code: 'LEASE_HELD' });
  t.match(await traveller.isr<PublishResult>(['publish', vmName], trial.url), {
    outcome: 'published',
    version: 2,
  });
  await traveller.isr(['umount', vmName], trial.url);
  await publisher.isr(['mount', vmName], trial.url);
  t.equal(await readFile(join(trial.mountPath, 'new'), 'utf8'), 'written on the way');
});

t.test('if another host was faster, what it changed becomes a branch', async (t) => {
  const { trial, publisher, traveller } = await makeHosts(t);
  await away(trial);
  await traveller.isr(['mount', vmName], trial.url);
  await writeFile(join(trial.mountPath, 'new'), 'on the way');
  await traveller.isr(['umount', vmName], trial.url);
  await back(trial);
  await publisher.isr(['mount', vmName], trial.url);
  await writeFile(join(trial.mountPath, 'new'), 'at home');
  await publisher.isr(['publish', vmName], trial.url);
  await publisher.isr(['umount', vmName], trial.url);
  const { exitCode, stdout } = await traveller.run(['publish', vmName], trial.url);
  const { outcome, branch } = JSON.parse(stdout) as PublishResult;
  t.match({ exitCode, outcome }, { exitCode: 4, outcome: 'branched' });
  const exported = join(trial.root, 'exported');
  await traveller.isr(['export', vmName, exported, '--version', branch ?? ''], trial.url);
  t.equal(await readFile(join(exported, 'new'), 'utf8'), 'on the way');
});

t.test('it is refused where this host does not know enough, or another one holds the lease', async (t) => {
  const { trial, publisher, traveller } = await makeHosts(t);
  const stranger = await trial.addHost();
  await publisher.isr(['mount', vmName], trial.url);
  t.match(await traveller.isrError(['mount', vmName], trial.url), { code: 'LEASE_HELD' });
  await away(trial);
  t.match(await stranger.isrError(['mount', vmName], trial.url), { code: 'STORE_UNREACHABLE' });
  t.match(await traveller.isrError(['mount', vmName], trial.url), { code: 'LEASE_HELD' });
  await back(trial);
  await publisher.isr(['umount', vmName], trial.url);
  await stranger.isr(['versions', vmName], trial.url);
  await away(trial);
  const noManifest = await stranger.isrError(['mount', vmName], trial.url);
  t.match(noManifest, { code: 'STORE_UNREACHABLE' }, 'it knows the version, and has nothing of it');
  await back(trial);
});

t.test('a link that fails now and then does not keep a VM from being mounted', async (t) => {
  const { trial, publisher } = await makeHosts(t);
  await publisher.isr(['mount', vmName], trial.farUrl('errorRate=0.3&seed=7'));
  t.ok((await readFile(join(trial.mountPath, 'disk'))).equals(content));
  await publisher.isr(['umount', vmName], trial.url);
});

t.test('a guest is resumed, suspended and resumed again without the store', async (t) => {
  const { trial, host } = await Trial.create('guest');
  t.teardown(() => trial[Symbol.asyncDispose]());
  const guest = await buildGuest({ directory: join(trial.root, 'guest'), memoryMiB: 96, fillMiB: 4 });
  await host.isr(['import', 'guest', guest.directory, '--at', trial.mountPath], trial.url);
  await host.isr(['start', 'guest'], trial.url);
  const consolePath = join((await host.vmPaths(trial.repositoryId, 'guest')).run, 'console.log');
  const { nonce } = await waitForTick(consolePath, 3);
  await host.isr<SuspendResult>(['suspend', 'guest'], trial.url);
  await host.isr(['warm', 'guest', '--all'], trial.url);

  await away(trial);
  for (const round of ['first', 'second']) {
    const earlier = (await readTicks(consolePath)).length;
    await host.isr(['resume', 'guest'], trial.url);
    t.equal((await waitForTick(consolePath, earlier)).nonce, nonce, `the ${round} resume`);
    t.match(await host.isrError(['suspend', 'guest'], trial.url), { code: 'SUSPEND_NOT_PUBLISHED' });
  }
  await back(trial);
  const { publish } = await host.isr<SuspendResult>(['suspend', 'guest'], trial.url);
  t.match(publish, { outcome: 'published', version: 3 });
  await host.isr(['resume', 'guest'], trial.url);
  await host.isr(['suspend', 'guest'], trial.url);
  t.match(await host.isr(['verify', 'guest'], trial.url), { intact: true });
});
