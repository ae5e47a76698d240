import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { findDaemon, findLastingDaemon } from '../../src/daemon/record.js';
import type { VmPaths } from '../../src/host/index.js';

t.test('a worker without its supervisor is waited for, and is no daemon that lasts', async (t) => {
  const supervisor = spawn('true');
  await once(supervisor, 'exit');
  const worker = spawn('sleep', ['60']);
  t.teardown(() => worker.kill('SIGKILL'));
  const daemonRecord = join(t.testdir({}), 'daemon.json');
  const record = { pid: supervisor.pid, mountPath: '/vm', ephemeral: false, worker: { pid: worker.pid } };
  await writeFile(daemonRecord, JSON.stringify(record));
  const paths = { daemonRecord } as VmPaths;

  t.match(await findDaemon(paths), { state: 'alive' });
  const lasting = findLastingDaemon(paths);
  worker.kill('SIGKILL');
  t.match(await lasting, { state: 'dead' });
});
