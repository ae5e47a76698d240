/** `isr suspend` is killed in the middle: `isr status` says what happened, and the one command it names goes on. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { waitForTick } from '../fixtures/guest/console.js';
import { SequenceLab, vmName } from './support/sequence-lab.js';

t.test('isr suspend, killed at each of its steps', async (t) => {
  const lab = await SequenceLab.create(t);
  const { trial, host } = lab;
  const saving = join(trial.mountPath, 'state.saving');
  const points: readonly (readonly [string, () => boolean])[] = [
    ['the step is recorded', () => lab.record.includes('"step":"suspend"')],
    ['the state is being written', () => existsSync(saving)],
    ['the guest is stopped', () => /stopped|saved|fresh/.test(lab.record)],
    ['the guest is saved', () => /saved|fresh/.test(lab.record)],
    ['it is published', () => lab.record === 'fresh'],
  ];
  for (const [what, when] of points) {
    await t.test(`killed when ${what}`, async (t) => {
      const finished = await lab.kill('suspend', when);
      t.comment(finished ? 'it came to its end' : `killed with the record ${lab.record}`);
      const code = await lab.goOn(t);
      if (code === 'running') await host.isr(['suspend', vmName], trial.url);
      t.equal((await lab.situation()).code, 'idle');
      await host.isr(['resume', vmName], trial.url);
      t.same(
        readdirSync(trial.mountPath).filter((name) => name.startsWith('state')),
        [],
        'no state that the guest moved on from',
      );
      await lab.expectSameGuest(t);
    });
  }
  await host.isr(['suspend', vmName], trial.url);
  t.match(await host.isr(['verify', vmName], trial.url), { intact: true });
});

t.test('a terminal that goes away cancels a suspend, and the guest runs on', async (t) => {
  const lab = await SequenceLab.create(t);
  const { trial, host } = lab;
  const finished = await lab.kill('suspend', () => lab.record.includes('"step":"suspend"'), 'SIGHUP');
  t.comment(finished ? 'it came to its end' : lab.record);
  const code = await lab.goOn(t);
  if (code !== 'running') await host.isr(['resume', vmName], trial.url);
  await lab.expectSameGuest(t);
  await host.isr(['suspend', vmName], trial.url);
  t.match(await host.isr(['verify', vmName], trial.url), { intact: true });
});

t.test(
  'a guest that crashed boots from its disks, whatever interrupted saves and resumes left',
  async (t) => {
    const lab = await SequenceLab.create(t);
    const { trial, host } = lab;
    for (const name of ['state', 'state.saving', 'state.resumed']) {
      await writeFile(join(trial.mountPath, name), 'of another moment');
    }
    const qemu = Number(readFileSync(join(lab.paths.run, 'qemu.pid'), 'utf8'));
    process.kill(qemu, 'SIGKILL');
    while ((await lab.situation()).code !== 'guest-crashed') await sleep(100);
    for (const command of ['suspend', 'resume', 'publish']) {
      const { code } = await host.isrError([command, vmName], trial.url);
      t.equal(code, 'GUEST_CRASHED', command);
    }
    await rm(lab.console);
    t.equal(await lab.goOn(t), 'running');
    await waitForTick(lab.console);
    t.same(
      readdirSync(trial.mountPath).filter((name) => name.startsWith('state')),
      [],
      'no state of another moment is left',
    );
    await host.isr(['suspend', vmName], trial.url);
  },
);
