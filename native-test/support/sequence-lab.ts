import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { buildGuest } from '../../fixtures/guest/build.js';
import { readTicks, waitForTick, type Tick } from '../../fixtures/guest/console.js';
import type { TrialHost } from '../../fixtures/trial-host.js';
import { Trial } from '../../fixtures/trial.js';
import type { VmPaths } from '../../src/host/index.js';
import type { Situation } from '../../src/vm/index.js';

export const vmName = 'guest';

interface StatusResult {
  readonly situation: Omit<Situation, 'next'> & { readonly next: string | null };
}

/** A guest on a host whose commands are killed; what goes on is what `isr status` names. */
export class SequenceLab {
  readonly trial: Trial;
  readonly host: TrialHost;
  readonly paths: VmPaths;
  last: Tick = { nonce: '', tick: 0 };

  private constructor(trial: Trial, host: TrialHost, paths: VmPaths) {
    this.trial = trial;
    this.host = host;
    this.paths = paths;
  }

  /** A host on which a guest runs. */
  static async create(t: Test): Promise<SequenceLab> {
    const { trial, host } = await Trial.create(vmName);
    t.teardown(() => trial[Symbol.asyncDispose]());
    const guest = await buildGuest({ directory: join(trial.root, 'guest'), memoryMiB: 128, fillMiB: 8 });
    await host.isr(['import', vmName, guest.directory, '--at', trial.mountPath], trial.url);
    const lab = new SequenceLab(trial, host, await host.vmPaths(trial.repositoryId, vmName));
    await host.isr(['start', vmName], trial.url);
    lab.last = await waitForTick(lab.console);
    return lab;
  }

  get console(): string {
    return join(this.paths.run, 'console.log');
  }

  get record(): string {
    try {
      return readFileSync(join(this.paths.directory, 'guest.json'), 'utf8');
    } catch {
      return 'fresh';
    }
  }

  async situation(): Promise<StatusResult['situation']> {
    return (await this.host.isr<StatusResult>(['status', vmName], this.trial.url)).situation;
  }

  /** Runs a command and kills it when `when` first holds; answers whether it came to its end before. */
  async kill(command: string, when: () => boolean, signal: NodeJS.Signals = 'SIGKILL'): Promise<boolean> {
    const child = this.host.spawn([command, vmName], this.trial.url);
    child.stdout.resume();
    child.stderr.resume();
    const exited = once(child, 'exit');
    const hasEnded = (): boolean => child.exitCode !== null || child.signalCode !== null;
    while (!hasEnded() && !when()) await sleep(1);
    const finished = hasEnded();
    child.kill(signal);
    await exited;
    return finished;
  }

  /** Runs the command that status names, and nothing else, until the guest runs or is suspended and published. */
  async goOn(t: Test): Promise<string> {
    for (let attempt = 0; attempt < 3; attempt += 1) {
      const { code, happened, next } = await this.situation();
      t.comment(`${code}: ${happened} ${next ?? ''}`);
      if (code === 'running' || code === 'idle' || code === 'mounted') return code;
      const [, command, vm] = next?.split(' ') ?? [];
      if (command === undefined || vm !== vmName) throw new Error(`${code} has no command that goes on`);
      await this.host.isr([command, vm], this.trial.url);
    }
    throw new Error('the commands that status names do not go on');
  }

  /** The guest runs, and it is the one from before. */
  async expectSameGuest(t: Test): Promise<void> {
    const ticks = (await readTicks(this.console)).length;
    const next = await waitForTick(this.console, ticks);
    t.equal(next.nonce, this.last.nonce);
    t.ok(next.tick > this.last.tick, `tick ${next.tick} after ${this.last.tick}`);
    this.last = next;
  }
}
