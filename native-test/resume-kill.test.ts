/** `isr resume` is killed in the middle, and everything of a saved guest: the one command that status names goes on. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { waitForTick } from '../fixtures/guest/console.js';
import { SequenceLab, vmName } from './support/sequence-lab.js';
import { killProcesses } from './support/supervised-mount.js';

t.test('isr resume, killed at each of its steps', async (t) => {
  const lab = await SequenceLab.create(t);
  const { trial, host } = lab;
  const points: readonly (readonly [string, () => boolean])[] = [
    ['it is mounted', () => existsSync(lab.paths.daemonRecord)],
    ['the step is recorded', () => /resuming|ran/.test(lab.record)],
    ['QEMU is there', () => existsSync(join(lab.paths.run, 'qmp.sock'))],
    ['the guest may run', () => lab.record.includes('"ran"')],
  ];
  for (const [what, when] of points) {
    await t.test(`killed when ${what}`, async (t) => {
      await host.isr(['suspend', vmName], trial.url);
      spawnSync('rm', ['-f', join(lab.paths.run, 'qmp.sock')]);
      const finished = await lab.kill('resume', when);
      t.comment(finished ? 'it came to its end' : `killed with the record ${lab.record}`);
      const code = await lab.goOn(t);
      if (code !== 'running') await host.isr(['resume', vmName], trial.url);
      await lab.expectSameGuest(t);
    });
  }
  await host.isr(['suspend', vmName], trial.url);
});

t.test('a guest that is saved survives command, hypervisor and daemon', async (t) => {
  const lab = await SequenceLab.create(t);
  const { trial, host } = lab;
  // Nothing can be stored: the suspend stops when the guest is saved.
  const temporaries = join(trial.storePath, 'tmp');
  spawnSync('mv', [temporaries, `${temporaries}.away`]);
  await writeFile(temporaries, '');
  t.match(await host.isrError(['suspend', vmName], trial.url), { code: 'SUSPEND_NOT_PUBLISHED' });
  const { pid, worker } = JSON.parse(readFileSync(lab.paths.daemonRecord, 'utf8')) as {
    pid: number;
    worker?: { pid: number };
  };
  await killProcesses(...[pid, worker?.pid].filter((one) => one !== undefined));
  spawnSync('rm', [temporaries]);
  spawnSync('mv', [`${temporaries}.away`, temporaries]);
  t.equal((await lab.situation()).code, 'suspend-unfinished');
  t.equal(await lab.goOn(t), 'idle');
  const other = await trial.addHost();
  await other.isr(['resume', vmName], trial.url);
  const otherPaths = await other.vmPaths(trial.repositoryId, vmName);
  const tick = await waitForTick(join(otherPaths.run, 'console.log'));
  t.equal(tick.nonce, lab.last.nonce);
  await other.isr(['suspend', vmName], trial.url);
});
