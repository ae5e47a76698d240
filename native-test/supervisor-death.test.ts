/** Supervisors die, alone and with their workers; and workers die before anybody was told of their mount. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { AlreadyMounted, findDaemon, lockVm } from '../src/daemon/index.js';
import { findMount } from '../src/fuse/index.js';
import { runProgram } from './support/mount-contract.js';
import {
  eventually,
  isRunning,
  killProcesses,
  Program,
  SupervisedMount,
} from './support/supervised-mount.js';

const holdsFile = `import os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.write(file, b"acknowledged")
print("ready")
sys.stdin.readline()
assert os.pread(file, 100, 0) == b"acknowledged"
os.write(file, b", and more")
sys.stdin.readline()
assert os.pread(file, 100, 0) == b"acknowledged, and more"`;

t.test('SIGKILL of both: all that was acknowledged is there', async (t) => {
  const mount = await SupervisedMount.make(t, { file: 'content' });
  const program = new Program(t, holdsFile, join(mount.trial.mountPath, 'new'));
  await program.says('ready');
  const { workerPid, supervisorPid = 0 } = await mount.processes();
  await killProcesses(supervisorPid, workerPid);
  await mount.mount();
  t.equal(await mount.content('new'), 'acknowledged');
  t.not((await mount.processes()).workerPid, workerPid);
  t.notOk(await isRunning(workerPid));
  program.child.kill('SIGKILL');
  await program.ended;
  await mount.endInOrder(t);
});

t.test('SIGKILL of the supervisor: another one takes its place, and nobody notices', async (t) => {
  const mount = await SupervisedMount.make(t, { file: 'content' });
  const program = new Program(t, holdsFile, join(mount.trial.mountPath, 'new'));
  await program.says('ready');
  const before = await mount.processes();
  process.kill(before.supervisorPid ?? 0, 'SIGKILL');
  await mount.anotherSupervisor(before.supervisorPid);
  t.match(await mount.processes(), { workerPid: before.workerPid, restarts: 0 });
  program.next();
  await t.rejects(mount.mount(), { code: 'ALREADY_MOUNTED' });

  // That one replaces workers, one of which replaces it.
  await mount.killWorker();
  const between = await mount.processes();
  t.match(between, { restarts: 1 });
  process.kill(between.supervisorPid ?? 0, 'SIGKILL');
  await mount.anotherSupervisor(between.supervisorPid);
  await mount.killWorker();
  t.match(await mount.processes(), { restarts: 2 });
  program.next();
  t.match(await program.ended, { exitCode: 0, complaints: '' });
  await mount.endInOrder(t);
});

for (const moment of ['has just begun', 'has loaded its program', 'serves'] as const) {
  t.test(`SIGKILL of the supervisor when the next worker ${moment}`, async (t) => {
    const mount = await SupervisedMount.make(t, { file: 'content' });
    const { mountPath, vmName } = mount.trial;
    t.equal((await runProgram('touch', [join(mountPath, 'new')])).exitCode, 0);
    const { workerPid, supervisorPid = 0 } = await mount.processes();
    process.kill(workerPid, 'SIGKILL');
    const next = await childOf(supervisorPid);
    if (moment === 'has loaded its program') awaitTitle(next, `isr: ${vmName}`);
    if (moment === 'serves')
      await eventually('it serves', async () => (await mount.processes()).workerPid === next);
    // So that it meets the death wherever it is now.
    process.kill(next, 'SIGSTOP');
    process.kill(supervisorPid, 'SIGKILL');
    await sleep(100);
    process.kill(next, 'SIGCONT');
    // Either the worker goes on, with another supervisor, or the mount is lost; a command always knows which.
    const mounted = await mount.mount().then(
      () => 'again',
      (error: unknown) => (error instanceof AlreadyMounted ? error.code : String(error)),
    );
    t.match(mounted, moment === 'serves' ? 'ALREADY_MOUNTED' : /^(again|ALREADY_MOUNTED)$/);
    t.equal((await runProgram('stat', [join(mountPath, 'new')])).exitCode, 0);
    if (mounted === 'ALREADY_MOUNTED') {
      await mount.anotherSupervisor(supervisorPid);
      t.equal((await mount.processes()).workerPid, next);
      await mount.killWorker();
    } else {
      t.notOk(await isRunning(next));
    }
    t.equal((await runProgram('stat', [join(mountPath, 'new')])).exitCode, 0);
    await mount.endInOrder(t);
  });
}

t.test('a supervisor that cannot start a process waits until it can', async (t) => {
  const mount = await SupervisedMount.make(t, { file: 'content' });
  // It has begun when it has started a worker.
  await mount.killWorker();
  const { workerPid, supervisorPid = 0 } = await mount.processes();
  const limitTo = (limit: string) => runProgram('prlimit', [`--pid=${supervisorPid}`, `--nofile=${limit}:`]);
  t.equal((await limitTo('6')).exitCode, 0);
  process.kill(workerPid, 'SIGKILL');
  const reading = mount.content('file');
  await eventually('it complains', async () => /no worker can be started: .*EMFILE/.test(await mount.log()));
  t.ok(await isRunning(supervisorPid));
  t.equal((await limitTo('1000')).exitCode, 0);
  t.equal(await reading, 'content');
  await mount.endInOrder(t);
});

t.test('a log that cannot be written ends nobody', async (t) => {
  const mount = await SupervisedMount.make(t, { file: 'content' });
  await mount.endInOrder(t);
  await rm(mount.paths.daemonLog);
  await symlink('/dev/full', mount.paths.daemonLog);
  const { DEBUG } = process.env;
  process.env['DEBUG'] = 'isr*';
  t.teardown(() => {
    if (DEBUG === undefined) delete process.env['DEBUG'];
    else process.env['DEBUG'] = DEBUG;
  });
  await mount.mount();
  const { supervisorPid = 0 } = await mount.processes();
  await mount.killWorker();
  process.kill(supervisorPid, 'SIGKILL');
  await mount.anotherSupervisor(supervisorPid);
  await mount.killWorker();
  t.equal(await mount.content('file'), 'content');
  t.match(await mount.processes(), { restarts: 2 });
  await mount.endInOrder(t);
});

t.test(
  'SIGKILL of the first worker while it makes its mount: the command says so, and nothing is left',
  async (t) => {
    const mount = await SupervisedMount.make(t, { file: 'content' });
    const { mountPath, vmName } = mount.trial;
    await mount.endInOrder(t);
    let failures = 0;
    for (const delayMs of [0, 1, 2, 4, 8, 16, 40]) {
      const command = mount.host.spawn(['mount', vmName], mount.url);
      const ended = Promise.all([exitCodeOf(command), text(command.stderr), text(command.stdout)]);
      const worker = await childOf(command.pid ?? 0);
      // Nothing has been answered over the connection, or not much.
      awaitMount(mountPath);
      pause(delayMs);
      process.kill(worker, 'SIGKILL');
      const [exitCode, complaint] = await ended;
      if (exitCode === 0) {
        // It was announced: then another worker goes on.
        t.equal(await mount.content('file'), 'content');
        t.not((await mount.processes()).workerPid, worker);
      } else {
        failures += 1;
        t.match(JSON.parse(complaint), {
          error: { code: 'DAEMON_DIED', message: /ended before the mount was ready/ },
        });
        t.equal(await findMount(mountPath), undefined, `no mount, ${delayMs} ms`);
        t.match(await findDaemon(mount.paths), { state: 'none' });
        // Whoever serves or supervises has it.
        lockVm(mount.paths, vmName)();
        await mount.mount();
        t.equal(await mount.content('file'), 'content');
      }
      await mount.endInOrder(t);
    }
    t.ok(failures > 0);
  },
);

t.test('Ctrl-C while the mount is made leaves nothing behind', async (t) => {
  const mount = await SupervisedMount.make(t, { file: 'content' });
  const { mountPath, vmName } = mount.trial;
  await mount.endInOrder(t);
  const command = mount.host.spawn(['mount', vmName], mount.url);
  const ended = exitCodeOf(command);
  await childOf(command.pid ?? 0);
  awaitMount(mountPath);
  command.kill('SIGINT');
  const exitCode = await ended;
  // It may have been ready just before.
  if (exitCode !== 0) {
    t.equal(exitCode, 130);
    t.equal(await findMount(mountPath), undefined);
    t.match(await findDaemon(mount.paths), { state: 'none' });
    lockVm(mount.paths, vmName)();
    await mount.mount();
  }
  t.equal(await mount.content('file'), 'content');
  await mount.endInOrder(t);
});

t.test("a mount that a killed worker left where its record is gone is in nobody's way", async (t) => {
  const mount = await SupervisedMount.make(t, { file: 'content' });
  const { workerPid, supervisorPid = 0 } = await mount.processes();
  await killProcesses(supervisorPid, workerPid);
  await rm(mount.paths.daemonRecord);
  await mount.mount();
  t.equal(await mount.content('file'), 'content');
  await mount.endInOrder(t);
});

async function exitCodeOf(child: ChildProcess): Promise<number | null> {
  const [exitCode] = (await once(child, 'close')) as [number | null];
  return exitCode;
}

/** Blocks until something is mounted there. */
function awaitMount(path: string): void {
  while (!readFileSync('/proc/self/mountinfo', 'latin1').includes(` ${path} `));
}

/** Blocks for exactly so long. */
function pause(milliseconds: number): void {
  const endMs = performance.now() + milliseconds;
  while (performance.now() < endMs);
}

/** The first child that a process has, as soon as it has one. */
async function childOf(pid: number): Promise<number> {
  for (;;) {
    const [child = ''] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ');
    if (child !== '') return Number(child);
    await sleep(1);
  }
}

/** Blocks, so that no time is lost. */
function awaitTitle(pid: number, title: string): void {
  while (!readFileSync(`/proc/${pid}/cmdline`, 'latin1').startsWith(title));
}
