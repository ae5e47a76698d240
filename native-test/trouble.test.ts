/** What goes wrong around a mount: each gives one clear sentence, and nothing is lost. */
import { spawn } from 'node:child_process';
import { mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { DaemonStatus, PublishResult } from '../src/daemon/index.js';
import { findMount } from '../src/fuse/index.js';
import type { TrialHost } from '../fixtures/trial-host.js';
import { Trial } from '../fixtures/trial.js';
import { runProgram, runPython } from './support/mount-contract.js';
import { eventually, killProcesses } from './support/supervised-mount.js';

const content = 'what the VM holds\n'.repeat(50_000);

/** A published VM, and a host that has none of it. */
async function publishedVm(
  t: Test,
): Promise<{ readonly trial: Trial; readonly publisher: TrialHost; readonly host: TrialHost }> {
  const { trial, host: publisher } = await Trial.create('troubled');
  t.teardown(() => trial[Symbol.asyncDispose]());
  const original = join(trial.root, 'original');
  await mkdir(original);
  await writeFile(join(original, 'text'), content);
  await publisher.isr(['import', trial.vmName, original, '--at', trial.mountPath], trial.url);
  return { trial, publisher, host: await trial.addHost() };
}

async function daemonPid(trial: Trial, host: TrialHost): Promise<number> {
  return (await status(trial, host)).daemon.workerPid;
}

function status(trial: Trial, host: TrialHost): Promise<DaemonStatus> {
  return host.isr<DaemonStatus>(['status', trial.vmName], trial.url);
}

t.test('reads wait while the store is gone, and go on when it is back', async (t) => {
  const { trial, host } = await publishedVm(t);
  await host.isr(['mount', trial.vmName], trial.url);
  await rename(trial.storePath, `${trial.storePath}.away`);
  const reading = runProgram('cat', [join(trial.mountPath, 'text')]);
  await eventually('status says that it waits for the store', async () => {
    const { fetch } = await status(trial, host);
    return fetch.waitingForStore !== undefined && fetch.waitingForStore.reason.includes('store');
  });
  await rename(`${trial.storePath}.away`, trial.storePath);
  const { exitCode, stdout } = await reading;
  t.equal(exitCode, 0);
  t.equal(stdout, content);
  t.equal((await status(trial, host)).fetch.waitingForStore, undefined);
  await host.isr(['umount', trial.vmName], trial.url);
});

t.test('a missing pack is an error for the program that reads, never zeros', async (t) => {
  const { trial, host } = await publishedVm(t);
  await host.isr(['mount', trial.vmName], trial.url);
  await rename(join(trial.storePath, 'pack'), join(trial.storePath, 'elsewhere'));
  const { exitCode, stdout, stderr } = await runProgram('cat', [join(trial.mountPath, 'text')]);
  t.not(exitCode, 0);
  t.match(stderr, /Input\/output error/);
  t.equal(stdout, '', 'not a byte');
  t.match((await status(trial, host)).fetch.lastError, /has no object pack/);
  await rename(join(trial.storePath, 'elsewhere'), join(trial.storePath, 'pack'));
  t.equal((await runProgram('cat', [join(trial.mountPath, 'text')])).stdout, content);
  await host.isr(['umount', trial.vmName], trial.url);
});

t.test('two hosts cannot have one VM; a broken lease makes a branch of the work', async (t) => {
  const { trial, publisher, host } = await publishedVm(t);
  const { url, vmName, mountPath } = trial;
  await host.isr(['mount', vmName], url);
  await runPython('import sys; open(sys.argv[1], "a").write("by the first\\n")', join(mountPath, 'text'));
  const elsewhere = join(trial.root, 'elsewhere');
  await mkdir(elsewhere);
  const refused = await publisher.isrError(['mount', vmName, '--at', elsewhere], url);
  t.match(refused, { code: 'LEASE_HELD', exitCode: 4 });

  await publisher.isr(['lease', 'break', vmName], url);
  await publisher.isr(['mount', vmName, '--at', elsewhere], url);
  await runPython('import sys; open(sys.argv[1], "a").write("by the second\\n")', join(elsewhere, 'text'));
  t.match(await publisher.isr(['publish', vmName], url), { outcome: 'published', version: 2 });
  await publisher.isr(['umount', vmName], url);

  const { exitCode, stdout } = await host.run(['publish', vmName], url);
  const { outcome, branch } = JSON.parse(stdout) as PublishResult;
  t.equal(exitCode, 4, 'not what was asked for');
  t.equal(outcome, 'branched');
  const exported = join(trial.root, 'branch');
  await publisher.isr(['export', vmName, exported, '--version', String(branch)], url);
  t.equal(
    await readFile(join(exported, 'text'), 'utf8'),
    `${content}by the first\n`,
    'the work is all there',
  );
  await host.isr(['umount', vmName], url);
  t.match(await host.isrError(['mount', vmName], url), { code: 'OVERLAY_BEHIND', exitCode: 4 });
  await host.isr(['discard', vmName, '--yes'], url);
  await host.isr(['mount', vmName], url);
  t.equal((await runProgram('cat', [join(mountPath, 'text')])).stdout, `${content}by the second\n`);
  await host.isr(['umount', vmName], url);
});

t.test('mount points that cannot be used', async (t) => {
  const { trial, host } = await publishedVm(t);
  const { url, vmName, root } = trial;
  const mount = (path: string) => host.isrError(['mount', vmName, '--at', path], url);
  t.match(await mount('relative/path'), { exitCode: 2 });
  t.match(await mount(join(root, 'missing')), { code: 'INVALID_MOUNT_POINT' });
  await writeFile(join(root, 'file'), '');
  t.match(await mount(join(root, 'file')), { code: 'INVALID_MOUNT_POINT' });
  t.match(await mount(trial.storePath), { code: 'INVALID_MOUNT_POINT' });
  t.match(await mount('/proc'), { code: 'MOUNT_BUSY' });
  const full = join(root, 'full');
  await mkdir(join(full, 'inside'), { recursive: true });
  t.match(await mount(full), { code: 'INVALID_MOUNT_POINT' });
  await symlink(trial.mountPath, join(root, 'link'));
  await host.isr(['mount', vmName], url);
  t.match(await host.isrError(['mount', vmName], url), { code: 'ALREADY_MOUNTED', exitCode: 4 });
  await host.isr(['umount', vmName], url);
});

t.test('a mount in use is not unmounted, and says who uses it', async (t) => {
  const { trial, host } = await publishedVm(t);
  await host.isr(['mount', trial.vmName], trial.url);
  const user = spawn('sleep', ['60'], { cwd: trial.mountPath, stdio: 'ignore' });
  t.teardown(() => user.kill());
  await sleep(200);
  const refused = await host.isrError(['umount', trial.vmName], trial.url);
  t.match(refused, { code: 'MOUNT_BUSY', exitCode: 4, message: /sleep/ });
  user.kill();
  await host.isr(['umount', trial.vmName], trial.url);
});

t.test('what was acknowledged survives SIGKILL of the daemon, and its dead mount is cleared', async (t) => {
  const { trial, host } = await publishedVm(t);
  const { url, vmName, mountPath } = trial;
  await host.isr(['mount', vmName], url);
  await runPython(
    'import sys; open(sys.argv[1] + "/text", "a").write("acknowledged"); open(sys.argv[1] + "/new", "w").write("too")',
    mountPath,
  );
  const { supervisorPid, workerPid } = (await status(trial, host)).daemon;
  await killProcesses(...[supervisorPid, workerPid].filter((pid) => pid !== undefined));
  t.not((await runProgram('ls', [mountPath])).exitCode, 0, 'the mount is dead');
  await host.isr(['mount', vmName], url);
  t.equal((await runProgram('cat', [join(mountPath, 'text')])).stdout, `${content}acknowledged`);
  t.equal((await runProgram('cat', [join(mountPath, 'new')])).stdout, 'too');
  t.match(await host.isr(['publish', vmName], url), { outcome: 'published', version: 2 });
  await host.isr(['umount', vmName], url);
});

t.test('SIGTERM leaves no mount behind, used or not', async (t) => {
  const { trial, host } = await publishedVm(t);
  const { url, vmName, mountPath } = trial;
  for (const used of [false, true]) {
    await host.isr(['mount', vmName], url);
    const user = used ? spawn('sleep', ['60'], { cwd: mountPath, stdio: 'ignore' }) : undefined;
    t.teardown(() => user?.kill());
    const pid = await daemonPid(trial, host);
    process.kill(pid, 'SIGTERM');
    await eventually('the daemon has ended', () =>
      readFile(`/proc/${pid}/stat`).then(
        () => false,
        () => true,
      ),
    );
    t.equal(await findMount(mountPath), undefined, used ? 'in use' : 'not in use');
    user?.kill();
  }
  t.match(await host.isr(['lease', 'show', vmName], url), { lease: { state: 'free' } });
});

t.test('a full local disk: writes say so, reads and publishing go on, space heals it', async (t) => {
  const { trial, publisher } = await publishedVm(t);
  const { url, vmName, mountPath } = trial;
  const disk = join(trial.root, 'small-disk');
  await mkdir(disk);
  const mounted = await runProgram('mount', ['-t', 'tmpfs', '-o', 'size=48m', 'tmpfs', disk]);
  if (mounted.exitCode !== 0) throw new Error(mounted.stderr);
  const host = await trial.addHost(join(disk, 'home'));
  t.teardown(async () => {
    await host.killGuestAndUnmount(trial.repositoryId, vmName);
    await runProgram('umount', ['-l', disk]);
  });
  await host.isr(['mount', vmName], url);
  const filled = await runPython(
    `
import errno, os, sys
written = 0
with open(sys.argv[1], 'wb', buffering=0) as file:
    try:
        while written < 200 << 20:
            written += file.write(os.urandom(1 << 20))
    except OSError as error:
        print(errno.errorcode[error.errno], written)
`,
    join(mountPath, 'filler'),
  );
  t.match(filled.stdout, /^ENOSPC \d+/);
  t.equal((await runProgram('cat', [join(mountPath, 'text')])).stdout, content, 'reads go on');
  await runProgram('rm', [join(mountPath, 'filler')]);
  const again = await runPython(
    'import sys; open(sys.argv[1], "w").write("healed")',
    join(mountPath, 'after'),
  );
  t.equal(again.exitCode, 0, again.stderr);
  t.match(await host.isr(['publish', vmName], url), { outcome: 'published', version: 2 });
  await host.isr(['umount', vmName], url);
  await publisher.isr(['mount', vmName], url);
  t.equal((await runProgram('cat', [join(mountPath, 'after')])).stdout, 'healed');
  await publisher.isr(['umount', vmName], url);
  await rm(join(trial.root, 'original'), { recursive: true });
});
