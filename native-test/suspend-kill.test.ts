/** `isr suspend` is killed in the middle: `isr status` says what happened, and the one command it names goes on. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
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
