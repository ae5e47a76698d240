import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { PackRecord } from '../../src/daemon/pack-record.js';
import { openHostHome } from '../../src/host/index.js';
import type { PackId } from '../../src/repo/index.js';
import type { GuestEntry, GuestRecord } from '../../src/vm/guest-record.js';
import { inspectVm, situationOf, type SituationFacts } from '../../src/vm/situation.js';

const idle: SituationFacts = {
  ...{ vmName: 'web', daemon: 'none', ephemeral: false, guest: { guest: 'fresh' } },
  ...{ hypervisor: 'absent', changedFiles: 0, publishUnfinished: false },
};

const entry = (guest: GuestRecord, step?: 'start' | 'resume' | 'suspend'): { guest: GuestEntry } => ({
  guest: { guest, ...(step === undefined ? {} : { step }) },
});

const alive = { daemon: 'alive' } as const;
const dead = { daemon: 'dead' } as const;

const table: readonly (readonly [Partial<SituationFacts>, string, string | undefined])[] = [
  [{}, 'idle', undefined],
  [alive, 'mounted', undefined],
  [dead, 'daemon-died', 'isr mount web'],
  [{ daemon: 'silent' }, 'daemon-silent', 'isr status web'],
  [{ changedFiles: 1 }, 'unpublished', 'isr publish web'],
  [{ ...alive, changedFiles: 1 }, 'unpublished', 'isr publish web'],
  [{ changedFiles: 1, publishUnfinished: true }, 'publish-unfinished', 'isr publish web'],
  [{ ...alive, ephemeral: true, ...entry('ran') }, 'ephemeral', 'isr umount web'],
  [entry('saved'), 'suspend-unfinished', 'isr suspend web'],
  [{ ...alive, ...entry('saved'), hypervisor: 'paused' }, 'suspend-unfinished', 'isr suspend web'],
  [{ ...dead, ...entry('saved') }, 'suspend-unfinished', 'isr suspend web'],
  [{ ...alive, ...entry('stopped') }, 'suspend-unfinished', 'isr suspend web'],
  [{ ...dead, ...entry('stopped') }, 'guest-crashed', 'isr start web'],
  [entry('resuming'), 'resume-unfinished', 'isr resume web'],
  [{ ...alive, ...entry('resuming'), hypervisor: 'paused' }, 'resume-unfinished', 'isr resume web'],
  [{ ...alive, ...entry('ran'), hypervisor: 'running' }, 'running', 'isr suspend web'],
  [{ ...alive, ...entry('ran'), hypervisor: 'unknown' }, 'running', 'isr suspend web'],
  [{ ...alive, ...entry('ran', 'suspend'), hypervisor: 'paused' }, 'paused', 'isr suspend web'],
  [{ ...alive, ...entry('ran', 'resume'), hypervisor: 'paused' }, 'paused', 'isr resume web'],
  [{ ...alive, ...entry('ran'), hypervisor: 'paused' }, 'paused', 'isr resume web'],
  [{ ...alive, ...entry('ran') }, 'guest-crashed', 'isr start web'],
  [entry('ran'), 'guest-crashed', 'isr start web'],
  [{ ...dead, ...entry('ran'), hypervisor: 'paused' }, 'guest-crashed', 'isr start web'],
  [{ daemon: 'silent', ...entry('ran'), hypervisor: 'unknown' }, 'daemon-silent', 'isr status web'],
];

t.test('every situation has a name, a sentence and at most one command that goes on', async (t) => {
  for (const [facts, code, next] of table) {
    const situation = situationOf({ ...idle, ...facts });
    t.match(situation, { code, next, happened: /^[A-Z].*\.$/ }, JSON.stringify(facts));
  }
});

t.test('what was stored ahead of a publish is no publish that was interrupted', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'isr-situation-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  const home = await openHostHome(root);
  const target = {
    home,
    repositoryId: 'ab'.repeat(16),
    repositoryUrl: `file://${root}/store`,
    vmName: 'web',
  };
  const packs = new PackRecord(await home.makeVmPaths(target.repositoryId, target.vmName));
  const packIds = ['0', '1', '2', '3'].map((digit) => digit.repeat(32) as PackId);
  const add = async (position: number, uploader: 'publish' | 'trickle') => {
    t.equal(await packs.add(packIds[position] as PackId, uploader), true);
    return (await inspectVm(target)).situation.code;
  };
  t.equal(await add(0, 'trickle'), 'idle');
  t.equal(await add(1, 'publish'), 'publish-unfinished');
  t.equal(await add(2, 'trickle'), 'publish-unfinished');
  t.equal(await add(3, 'publish'), 'publish-unfinished');
  t.same(await packs.read(), packIds, 'a publish takes them all');
  await packs.remove();
  t.equal((await inspectVm(target)).situation.code, 'idle');
});
