import { existsSync } from 'node:fs';
import { cp, mkdtemp, readdir, readFile, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { buildGuest } from '../fixtures/guest/build.js';
import { readTicks, waitForTick, type Tick } from '../fixtures/guest/console.js';
import { Cancelled, InvalidInput } from '../src/base/index.js';
import {
  HypervisorMissing,
  openHypervisor,
  ResumeFailed,
  SavedStateMissing,
  SavedStatePresent,
  SaveFailed,
  StartFailed,
  type Hypervisor,
  type HypervisorContext,
} from '../src/vm/hypervisor/index.js';
import { GuestNotRunning, GuestRunning } from '../src/vm/index.js';
import { parseVmConfig } from '../src/vm/vm-config.js';

/** A VM in a plain directory, seen by one "host": each has a run directory of its own. */
class TestVm {
  readonly context: HypervisorContext;
  readonly hypervisor: Hypervisor;

  private constructor(context: HypervisorContext, hypervisor: Hypervisor) {
    this.context = context;
    this.hypervisor = hypervisor;
  }

  /** `edit` changes the text of its isr.toml for this host only. The guest is gone when the test ends. */
  static async open(t: Test, directory: string, edit = (toml: string): string => toml): Promise<TestVm> {
    const runDirectory = await mkdtemp(join(tmpdir(), 'isr-run-'));
    const toml = edit(await readFile(join(directory, 'isr.toml'), 'utf8'));
    const hypervisor = openHypervisor(parseVmConfig(toml, 'isr.toml'));
    const vm = new TestVm({ vmName: 'guest', directory, runDirectory }, hypervisor);
    t.teardown(async () => {
      await vm.hypervisor.kill(vm.context);
      await rm(runDirectory, { recursive: true, force: true });
    });
    return vm;
  }

  get consoleLog(): string {
    return join(this.context.runDirectory, 'console.log');
  }

  async state(): Promise<string> {
    return (await this.hypervisor.inspect(this.context)).state;
  }

  async pid(): Promise<number> {
    return Number(await readFile(join(this.context.runDirectory, 'qemu.pid'), 'utf8'));
  }

  /** A tick that the guest has not printed yet. */
  async nextTick(): Promise<Tick> {
    return waitForTick(this.consoleLog, (await readTicks(this.consoleLog)).length);
  }

  async lastTick(): Promise<Tick | undefined> {
    return (await readTicks(this.consoleLog)).at(-1);
  }

  start(): Promise<void> {
    return this.hypervisor.start(this.context);
  }

  resume(signal?: AbortSignal): Promise<void> {
    return this.hypervisor.resume({ ...this.context, ...(signal === undefined ? {} : { signal }) });
  }

  suspend(): Promise<void> {
    return this.hypervisor.suspend(this.context);
  }
}

const withKey =
  (key: string) =>
  (toml: string): string =>
    toml.replace('kind = "qemu"', `kind = "qemu"\n${key}`);

const privateMemory = (toml: string): string => toml.replace('share = true', 'share = false');

t.test('a guest in a plain directory', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'isr-qemu-'));
  t.teardown(() => rm(root, { recursive: true, force: true }));
  const { directory } = await buildGuest({ directory: join(root, 'vm'), fillMiB: 8 });
  const statePath = join(directory, 'state');
  const hostA = await TestVm.open(t, directory);
  const hostB = await TestVm.open(t, directory);
  let nonce = '';

  await t.test('boots once', async (t) => {
    t.equal(await hostA.state(), 'absent');
    await t.rejects(hostA.resume(), SavedStateMissing);
    await hostA.start();
    t.equal(await hostA.state(), 'running');
    await t.rejects(hostA.start(), GuestRunning);
    await t.rejects(hostA.resume(), GuestRunning);
    ({ nonce } = await hostA.nextTick());
  });

  await t.test('a save that does not fit on the disk leaves it running', async (t) => {
    await symlink('/dev/full', `${statePath}.saving`);
    const error = await hostA.suspend().catch((error: unknown) => error);
    t.ok(error instanceof SaveFailed);
    t.match(error, { guest: 'running', message: /could not be saved and runs on: ENOSPC/ });
    t.equal(await hostA.state(), 'running');
    t.equal((await hostA.nextTick()).nonce, nonce);
    t.strictSame((await readdir(directory)).sort(), ['initrd', 'isr.toml', 'mem', 'vmlinuz']);
  });

  await t.test('suspends into a small state, whatever the size of its memory', async (t) => {
    await hostA.suspend();
    t.equal(await hostA.state(), 'absent');
    t.ok((await stat(statePath)).size < 2 * 2 ** 20);
    t.strictSame((await readdir(directory)).sort(), ['initrd', 'isr.toml', 'mem', 'state', 'vmlinuz']);
    await t.rejects(hostA.suspend(), GuestNotRunning);
    await t.rejects(hostA.start(), SavedStatePresent);
  });

  await t.test('damaged states are refused, and stay as they are', async (t) => {
    const copy = join(root, 'damaged');
    await cp(directory, copy, { recursive: true });
    const damaged = await TestVm.open(t, copy);
    const damagedState = join(copy, 'state');
    const { size } = await stat(damagedState);
    const damages: (() => Promise<void>)[] = [
      () => truncate(damagedState, Math.floor(size / 2)),
      () => writeFile(damagedState, Buffer.alloc(size, 'garbage')),
      () => truncate(damagedState, 0),
    ];
    for (const damage of damages) {
      await damage();
      const before = await readFile(damagedState);
      const error = await damaged.resume().catch((error: unknown) => error);
      t.ok(error instanceof ResumeFailed);
      t.match(error, { message: /^QEMU could not resume "guest": qemu-system-x86_64: / });
      t.equal(await damaged.state(), 'absent');
      t.ok(before.equals(await readFile(damagedState)));
    }
  });

  await t.test('private memory is part of the state', async (t) => {
    const copy = join(root, 'private');
    await cp(directory, copy, { recursive: true });
    const vm = await TestVm.open(t, copy, privateMemory);
    await vm.resume();
    await vm.nextTick();
    await vm.suspend();
    const last = await vm.lastTick();
    t.ok((await stat(join(copy, 'state'))).size > 8 * 2 ** 20);
    const again = await TestVm.open(t, copy, privateMemory);
    await again.resume();
    t.strictSame(await again.nextTick(), { nonce, tick: (last?.tick ?? Number.NaN) + 1 });
  });

  await t.test('another machine than the one that was saved is refused', async (t) => {
    const other = await TestVm.open(t, directory, (toml) =>
      toml.replace('machine = "q35"', 'machine = "pc"'),
    );
    await t.rejects(other.resume(), ResumeFailed);
    t.equal(await other.state(), 'absent');
  });

  await t.test('a cancelled resume leaves the session as it was', async (t) => {
    const vm = await TestVm.open(t, directory);
    const controller = new AbortController();
    const resumed = vm.resume(controller.signal);
    controller.abort();
    await t.rejects(resumed, Cancelled);
    t.equal(await vm.state(), 'absent');
    t.ok(existsSync(statePath));
  });

  await t.test('throw-away clones with private memory leave the session as it was', async (t) => {
    for (let clone = 1; clone <= 2; clone += 1) {
      const vm = await TestVm.open(t, directory, privateMemory);
      await vm.resume();
      t.equal((await vm.nextTick()).nonce, nonce);
      await vm.hypervisor.kill(vm.context);
      t.equal(await vm.state(), 'absent');
    }
    t.ok(existsSync(statePath));
  });

  await t.test('goes on elsewhere where it stopped', async (t) => {
    const last = await hostA.lastTick();
    await hostB.resume();
    t.strictSame(await hostB.nextTick(), { nonce, tick: (last?.tick ?? Number.NaN) + 1 });
    t.equal(await hostB.state(), 'running');
    t.notOk(existsSync(statePath), 'the state no longer fits the memory');
  });

  await t.test('suspends and resumes again', async (t) => {
    await hostB.suspend();
    const last = await hostB.lastTick();
    await hostA.resume();
    t.strictSame(await hostA.nextTick(), { nonce, tick: (last?.tick ?? Number.NaN) + 1 });
  });

  await t.test('a hypervisor that was killed is absent, and its old session cannot be resumed', async (t) => {
    process.kill(await hostA.pid(), 'SIGKILL');
    await hostA.hypervisor.kill(hostA.context);
    t.equal(await hostA.state(), 'absent');
    await t.rejects(hostA.suspend(), GuestNotRunning);
    await t.rejects(hostA.resume(), SavedStateMissing);
  });
});

t.test('a QEMU that cannot start', async (t) => {
  const directory = t.testdir({
    'isr.toml': 'format = 1\n[hypervisor]\nkind = "qemu"\naccelerator = "tcg"\n[memory]\nsize = "16M"\n',
  });

  await t.test('because it is not installed', async (t) => {
    const vm = await TestVm.open(t, directory, withKey('binary = "qemu-system-i386-none"'));
    t.match(await vm.start().catch((error: unknown) => error), {
      message: 'The hypervisor "qemu-system-i386-none" is not installed, or cannot be run.',
      constructor: HypervisorMissing,
    });
    const usual = await TestVm.open(t, directory, withKey('binary = "/nonexistent/qemu-system-x86_64"'));
    t.match(await usual.start().catch((error: unknown) => error), {
      remedy: /apt-get install qemu-system-x86\)/,
    });
  });

  await t.test('because of its arguments', async (t) => {
    const vm = await TestVm.open(t, directory, withKey('arguments = ["-device", "flux-capacitor"]'));
    const error = await vm.start().catch((error: unknown) => error);
    t.ok(error instanceof StartFailed);
    t.match(error, {
      message: /^QEMU could not boot "guest": .*'flux-capacitor' is not a valid device model name\.$/,
    });
    t.equal(await vm.state(), 'absent');
  });

  await t.test('because its directory is not there', async (t) => {
    const vm = await TestVm.open(t, directory);
    const context = { ...vm.context, directory: join(directory, 'none') };
    await t.rejects(vm.hypervisor.start(context), { code: 'ENOENT', path: context.directory });
  });

  await t.test('because a path cannot stand in its arguments', async (t) => {
    const vm = await TestVm.open(
      t,
      directory,
      withKey('arguments = ["-chardev", "file,id=c,path={directory}/log"]'),
    );
    await t.rejects(vm.hypervisor.start({ ...vm.context, directory: `${directory}/a,b` }), InvalidInput);
  });
});
