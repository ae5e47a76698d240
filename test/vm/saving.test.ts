/** Saving a guest, interrupted at every step: the next attempt goes on, or says truly that the guest is lost. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { DaemonClient } from '../../src/daemon/index.js';
import { openHostHome, type VmPaths } from '../../src/host/index.js';
import { processStartTime } from '../../src/system/index.js';
import { GuestCrashed, GuestNotRunning, ResumeUnfinished } from '../../src/vm/errors.js';
import { readGuestEntry, writeGuestRecord, type GuestRecord } from '../../src/vm/guest-record.js';
import type { GuestState, Hypervisor, HypervisorContext } from '../../src/vm/hypervisor/index.js';
import { saveGuest } from '../../src/vm/saving.js';

class Killed extends Error {
  override readonly name = 'Killed';
}

/** A host with a running guest. Where `dieAt` says, the command that saves it dies. */
class Lab {
  readonly steps: string[] = [];
  dieAt: string | undefined;
  state: GuestState['state'] = 'running';
  /** Whether the device state is complete under its name. */
  hasState = false;
  flushed = false;
  readonly paths: VmPaths;
  readonly directory: string;

  private constructor(paths: VmPaths, directory: string) {
    this.paths = paths;
    this.directory = directory;
  }

  static async create(t: Test, guest: GuestRecord = 'ran'): Promise<Lab> {
    const root = mkdtempSync(join(tmpdir(), 'isr-saving-'));
    t.teardown(() => rmSync(root, { recursive: true, force: true }));
    const home = await openHostHome(join(root, 'home'));
    const paths = await home.makeVmPaths('0'.repeat(32), 'vm');
    const directory = join(root, 'vm');
    mkdirSync(directory);
    const lab = new Lab(paths, directory);
    lab.daemon(process.pid);
    await writeGuestRecord(paths, guest);
    return lab;
  }

  /** Who serves the mount. */
  daemon(pid: number): void {
    const record = { pid, startTime: processStartTime(pid), mountPath: this.directory, ephemeral: false };
    writeFileSync(this.paths.daemonRecord, JSON.stringify(record));
  }

  async save(dieAt?: string): Promise<void> {
    this.dieAt = dieAt;
    const context: HypervisorContext = {
      vmName: 'vm',
      directory: this.directory,
      runDirectory: this.paths.run,
    };
    await saveGuest({ paths: this.paths, client: this.#client(), hypervisor: this.#hypervisor(), context });
  }

  async record(): Promise<GuestRecord> {
    return (await readGuestEntry(this.paths)).guest;
  }

  #step(name: string): void {
    this.steps.push(name);
    if (this.dieAt === name) throw new Killed(name);
  }

  #client(): DaemonClient {
    return {
      flush: async () => {
        this.#step('before flush');
        this.flushed = true;
        this.#step('after flush');
      },
    } as unknown as DaemonClient;
  }

  #hypervisor(): Hypervisor {
    const absent = async (): Promise<void> => Promise.reject(new Error('not asked'));
    return {
      kind: 'lab',
      start: absent,
      resume: absent,
      forgetSavedState: absent,
      inspect: async () => (this.state === 'absent' ? { state: 'absent' } : { state: this.state, pid: 1 }),
      kill: async () => {
        this.#step('before kill');
        this.state = 'absent';
        this.#step('after kill');
      },
      suspend: async (context) => {
        this.#step('before pause');
        this.state = 'paused';
        this.#step('before state');
        this.hasState = true;
        this.#step('after state');
        await context.guestIsSaved?.();
        this.#step('before quit');
        this.state = 'absent';
        this.#step('after quit');
      },
    };
  }
}

const steps = [
  'before pause',
  'before state',
  'after state',
  'before flush',
  'after flush',
  'before quit',
  'after quit',
];

for (const step of steps) {
  t.test(`a command that dies ${step} is gone on with`, async (t) => {
    const lab = await Lab.create(t);
    await t.rejects(lab.save(step), Killed);
    await lab.save();
    t.equal(await lab.record(), 'saved');
    t.same([lab.state, lab.hasState, lab.flushed], ['absent', true, true]);
  });

  t.test(`a command and a hypervisor that die ${step}`, async (t) => {
    const lab = await Lab.create(t);
    await t.rejects(lab.save(step), Killed);
    const isStopped = (await lab.record()) !== 'ran';
    lab.state = 'absent';
    if (isStopped) {
      await lab.save();
      t.equal(await lab.record(), 'saved', 'its state was complete, and its daemon lives');
    } else {
      await t.rejects(lab.save(), GuestCrashed);
      t.equal(await lab.record(), 'ran');
    }
    t.equal(isStopped, steps.indexOf(step) >= steps.indexOf('before flush'));
  });

  t.test(`a command, a hypervisor and a daemon that die ${step}`, async (t) => {
    const lab = await Lab.create(t);
    await t.rejects(lab.save(step), Killed);
    lab.state = 'absent';
    lab.daemon(process.ppid);
    if ((await lab.record()) === 'saved') {
      t.ok(lab.flushed, 'nothing can be lost any more');
      await lab.save();
    } else {
      await t.rejects(lab.save(), GuestCrashed);
      t.equal(await lab.record(), 'ran');
      await t.rejects(lab.save(), GuestCrashed, 'and so it stays');
    }
  });
}

t.test('dying again and again gets there all the same', async (t) => {
  const lab = await Lab.create(t);
  for (const step of [...steps, 'before flush', 'after flush', 'before kill', 'after kill']) {
    await lab.save(step).catch((error: unknown) => {
      if (!(error instanceof Killed)) throw error;
    });
  }
  await lab.save();
  t.equal(await lab.record(), 'saved');
  t.same([lab.state, lab.hasState, lab.flushed], ['absent', true, true]);
});

t.test('a guest that somebody let run again is saved anew', async (t) => {
  const lab = await Lab.create(t);
  await t.rejects(lab.save('before quit'), Killed);
  lab.state = 'running';
  lab.steps.length = 0;
  await lab.save();
  t.ok(lab.steps.includes('before state'));
  t.equal(await lab.record(), 'saved');
});

t.test('what could not be written back is never called saved', async (t) => {
  const lab = await Lab.create(t);
  await t.rejects(lab.save('before flush'), Killed);
  lab.state = 'absent';
  rmSync(lab.directory, { recursive: true });
  await t.rejects(lab.save(), { code: 'ENOENT' });
  t.equal(await lab.record(), 'ran');
});

t.test('there must be something to save', async (t) => {
  for (const [guest, error] of [
    ['fresh', GuestNotRunning],
    ['ran', GuestCrashed],
    ['resuming', ResumeUnfinished],
  ] as const) {
    const lab = await Lab.create(t, guest);
    lab.state = 'absent';
    await t.rejects(lab.save(), error);
    t.equal(await lab.record(), guest);
  }
  const lab = await Lab.create(t, 'resuming');
  lab.state = 'paused';
  await t.rejects(lab.save(), ResumeUnfinished);
});
