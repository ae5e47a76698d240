import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { findDaemon, settleDaemon } from '../../src/daemon/record.js';
import { lockVm } from '../../src/daemon/vm-lock.js';
import type { VmPaths } from '../../src/host/index.js';

/** The number of a process that has ended. */
async function deadProcess(): Promise<number> {
  const child = spawn('true');
  await once(child, 'exit');
  return child.pid ?? 0;
}

function living(t: Test): ChildProcess {
  const child = spawn('sleep', ['60']);
  t.teardown(() => child.kill('SIGKILL'));
  return child;
}

function pathsIn(t: Test): VmPaths {
  const directory = t.testdir({});
  return { directory, daemonRecord: join(directory, 'daemon.json') } as VmPaths;
}

async function writeRecord(paths: VmPaths, record: object): Promise<void> {
  const temporary = `${paths.daemonRecord}.new`;
  await writeFile(temporary, JSON.stringify({ mountPath: '/vm', ephemeral: false, ...record }));
  await rename(temporary, paths.daemonRecord);
}

t.test('what a dead daemon left is cleared when the last process that holds the VM is gone', async (t) => {
  const paths = pathsIn(t);
  await writeRecord(paths, { pid: await deadProcess(), worker: { pid: await deadProcess() } });
  t.match(await findDaemon(paths), { state: 'dead' });
  // As a worker does that its supervisor started before it died, and that has not said so yet.
  const unlock = lockVm(paths, 'vm');
  const settled = settleDaemon(paths, 'vm');
  await sleep(200);
  t.ok(existsSync(paths.daemonRecord));
  unlock();
  t.match(await settled, { state: 'none' });
  t.notOk(existsSync(paths.daemonRecord));
});

t.test('a worker that goes on meanwhile is the daemon', async (t) => {
  const paths = pathsIn(t);
  await writeRecord(paths, { pid: await deadProcess(), worker: { pid: await deadProcess() } });
  t.teardown(lockVm(paths, 'vm'));
  const settled = settleDaemon(paths, 'vm');
  const worker = { pid: living(t).pid };
  await writeRecord(paths, { pid: await deadProcess(), worker });
  await sleep(200);
  // Now it has a supervisor.
  await writeRecord(paths, { pid: living(t).pid, worker });
  t.match(await settled, { state: 'alive', record: { worker } });
});

t.test('a mount that is being made is none that can be used, and dies with its process', async (t) => {
  const paths = pathsIn(t);
  const worker = living(t);
  await writeRecord(paths, { pid: worker.pid, starting: true });
  t.match(await settleDaemon(paths, 'vm'), { state: 'starting' });
  worker.kill('SIGKILL');
  await once(worker, 'exit');
  t.match(await settleDaemon(paths, 'vm'), { state: 'none' });
});
