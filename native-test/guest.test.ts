/** The main job on a real guest: suspended on one host, resumed on another before its state arrives. */
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { buildGuest } from '../fixtures/guest/build.js';
import { readTicks, waitForTick, type Tick } from '../fixtures/guest/console.js';
import type { TrialHost } from '../fixtures/trial-host.js';
import { Trial } from '../fixtures/trial.js';
import type { DaemonStatus } from '../src/daemon/index.js';
import type { RunResult, SuspendResult } from '../src/vm/index.js';
import { runProgram } from './support/mount-contract.js';

const vmName = 'guest';

async function consoleOf(trial: Trial, host: TrialHost): Promise<string> {
  return join((await host.vmPaths(trial.repositoryId, vmName)).run, 'console.log');
}

/** A guest that was booted and suspended on the first host, as version 2. */
async function suspendedGuest(
  t: Test,
): Promise<{ readonly trial: Trial; readonly host: TrialHost; readonly last: Tick }> {
  const { trial, host } = await Trial.create(vmName);
  t.teardown(() => trial[Symbol.asyncDispose]());
  const guest = await buildGuest({ directory: join(trial.root, 'guest'), memoryMiB: 128, fillMiB: 16 });
  await host.isr(['import', vmName, guest.directory, '--at', trial.mountPath], trial.url);
  await host.isr(['start', vmName], trial.url);
  const consolePath = await consoleOf(trial, host);
  await waitForTick(consolePath, 5);
  const { publish } = await host.isr<SuspendResult>(['suspend', vmName], trial.url);
  t.match(publish, { outcome: 'published', version: 2 });
  const last = (await readTicks(consolePath)).at(-1);
  if (last === undefined) throw new Error('the guest never ticked');
  return { trial, host, last };
}

t.test('a guest goes on ticking on a host that has none of it, and comes back', async (t) => {
  const { trial, host, last } = await suspendedGuest(t);
  const other = await trial.addHost();
  const otherConsole = await consoleOf(trial, other);
  const far = trial.farUrl('mbps=100&rttMs=20');

  await other.isr<RunResult>(['resume', vmName], far);
  const first = await waitForTick(otherConsole);
  t.equal(first.nonce, last.nonce, 'the guest that was suspended');
  t.ok(first.tick > last.tick && first.tick <= last.tick + 2, 'it goes on where it was');
  const status = await other.isr<DaemonStatus>(['status', vmName], far);
  t.ok(
    status.chunks !== undefined && status.chunks.local < status.chunks.total,
    'it runs before all of it came',
  );
  t.match(await host.isrError(['resume', vmName], trial.url), { code: 'LEASE_HELD' });

  const { publish } = await other.isr<SuspendResult>(['suspend', vmName], trial.url);
  t.match(publish, { outcome: 'published', version: 3 });
  t.ok(publish.storedBytes < 8e6, 'only what changed is stored');
  const lastThere = (await readTicks(otherConsole)).at(-1);

  const hostConsole = await consoleOf(trial, host);
  const earlierTicks = (await readTicks(hostConsole)).length;
  await host.isr(['resume', vmName], trial.url);
  const back = await waitForTick(hostConsole, earlierTicks);
  t.equal(back.nonce, last.nonce);
  t.ok(back.tick > (lastThere?.tick ?? Infinity));
  await host.isr(['suspend', vmName], trial.url);
  t.match(await host.isr(['verify', vmName], trial.url), { intact: true });
});

t.test(
  'a hypervisor that dies takes its memory with it: no resume, no publish, discard goes back',
  async (t) => {
    const { trial, host, last } = await suspendedGuest(t);
    await host.isr(['resume', vmName], trial.url);
    const consolePath = await consoleOf(trial, host);
    const ticks = (await readTicks(consolePath)).length;
    await waitForTick(consolePath, ticks);
    await runProgram('pkill', ['-KILL', '-f', `qemu-system.*${trial.root}`]);

    const refusals = [
      await host.isrError(['suspend', vmName], trial.url),
      await host.isrError(['resume', vmName], trial.url),
    ];
    for (const refusal of refusals) t.match(refusal, { code: 'GUEST_CRASHED' });
    await host.isr(['umount', vmName], trial.url);
    t.match(await host.isrError(['publish', vmName], trial.url), { code: 'GUEST_CRASHED' });
    t.match(await host.isrError(['resume', vmName], trial.url), { code: 'GUEST_CRASHED' });

    await host.isr(['discard', vmName, '--yes'], trial.url);
    const earlierTicks = (await readTicks(consolePath)).length;
    await host.isr(['resume', vmName], trial.url);
    const again = await waitForTick(consolePath, earlierTicks);
    t.equal(again.nonce, last.nonce);
    t.ok(again.tick <= last.tick + 2, 'back at the published version');
    await host.isr(['suspend', vmName], trial.url);
  },
);

t.test('a throw-away run never touches the VM: not suspended, not on a real mount', async (t) => {
  const { trial, host, last } = await suspendedGuest(t);
  const other = await trial.addHost();
  await other.isr(['mount', vmName], trial.url);
  t.match(await other.isrError(['resume', vmName, '--ephemeral'], trial.url), { code: 'ALREADY_MOUNTED' });
  await other.isr(['umount', vmName], trial.url);

  await other.isr(['resume', vmName, '--ephemeral'], trial.url);
  const consolePath = await consoleOf(trial, other);
  t.equal((await waitForTick(consolePath)).nonce, last.nonce);
  t.match(await other.isrError(['suspend', vmName], trial.url), { code: 'EPHEMERAL_MOUNT' });
  const ticks = (await readTicks(consolePath)).length;
  t.ok((await waitForTick(consolePath, ticks)).tick > last.tick, 'it runs on');
  await runProgram('pkill', ['-KILL', '-f', `qemu-system.*${trial.root}`]);
  await other.isr(['umount', vmName], trial.url);

  t.match(await host.isr(['lease', 'show', vmName], trial.url), { lease: { state: 'free' } });
  t.equal((await host.isr<{ versions: unknown[] }>(['versions', vmName], trial.url)).versions.length, 2);
});

t.test('a suspend whose publish fails goes on where it stopped', async (t) => {
  const { trial, host, last } = await suspendedGuest(t);
  await host.isr(['resume', vmName], trial.url);
  await host.isr(['status', vmName], trial.url);
  // A file where the store keeps its temporaries: it refuses every write, and goes on answering reads.
  const temporaries = join(trial.storePath, 'tmp');
  await rename(temporaries, `${temporaries}.away`);
  await writeFile(temporaries, '');
  const stopped = await host.isrError(['suspend', vmName], trial.url);
  t.match(stopped, { code: 'SUSPEND_NOT_PUBLISHED', message: /safe on this host/ });
  await rm(temporaries);
  await rename(`${temporaries}.away`, temporaries);
  const { publish } = await host.isr<SuspendResult>(['suspend', vmName], trial.url);
  t.match(publish, { outcome: 'published', version: 3 });
  await host.isr(['resume', vmName], trial.url);
  const ticks = await readTicks(await consoleOf(trial, host));
  const next = await waitForTick(await consoleOf(trial, host), ticks.length);
  t.equal(next.nonce, last.nonce);
  await host.isr(['suspend', vmName], trial.url);
});

t.test('a VM without isr.toml says what is missing, and leaves nothing mounted', async (t) => {
  const { trial, host } = await Trial.create(vmName);
  t.teardown(() => trial[Symbol.asyncDispose]());
  const directory = await mkdtemp(join(tmpdir(), 'isr-plain-'));
  t.teardown(() => rm(directory, { recursive: true }));
  await writeFile(join(directory, 'mem'), 'x');
  await host.isr(['import', vmName, directory, '--at', trial.mountPath], trial.url);
  t.match(await host.isrError(['resume', vmName], trial.url), {
    code: 'NO_VM_CONFIG',
    remedy: /hypervisors\.md/,
  });
  t.match(await host.isrError(['umount', vmName], trial.url), { code: 'NOT_MOUNTED' });
});
