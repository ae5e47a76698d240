import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { connectDaemon, mountVm, type DaemonClient, type DaemonStatus } from '../../src/daemon/index.js';
import { findMount } from '../../src/fuse/index.js';
import { openHostHome, type VmPaths } from '../../src/host/index.js';
import type { TrialHost } from '../../fixtures/trial-host.js';
import { Trial } from '../../fixtures/trial.js';
import { runProgram } from './mount-contract.js';

const attempts = 1200;
const pauseMs = 50;

/** Waits for something that is bound to come true, without asserting how soon. */
export async function eventually(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (let attempt = 0; attempt < attempts; attempt += 1) {
    if (await holds()) return;
    await sleep(pauseMs);
  }
  throw new Error(`never came true: ${what}`);
}

export function isRunning(pid: number): Promise<boolean> {
  return readFile(`/proc/${pid}/stat`, 'latin1').then(
    (stat) => !/\) [ZX] /.test(stat),
    () => false,
  );
}

/** Returns when they have ended: a process that SIGKILL was sent to counts as alive until it has. */
export async function killProcesses(...pids: readonly number[]): Promise<void> {
  for (const pid of pids) process.kill(pid, 'SIGKILL');
  for (const pid of pids) await eventually(`${pid} ends`, async () => !(await isRunning(pid)));
}

/** A published VM that another host has mounted with the engine `kernel`; all is gone when the test ends. */
export class SupervisedMount {
  readonly trial: Trial;
  readonly host: TrialHost;
  readonly paths: VmPaths;
  readonly url: string;

  private constructor(trial: Trial, host: TrialHost, paths: VmPaths, url: string) {
    this.trial = trial;
    this.host = host;
    this.paths = paths;
    this.url = url;
  }

  /** `link`: parameters of an imitated link to the store. */
  static async make(
    t: Test,
    files: Readonly<Record<string, Uint8Array | string>>,
    link?: string,
  ): Promise<SupervisedMount> {
    const { trial, host: publisher } = await Trial.create('supervised');
    t.teardown(() => trial[Symbol.asyncDispose]());
    const original = join(trial.root, 'original');
    await mkdir(original);
    for (const [name, content] of Object.entries(files)) {
      await mkdir(dirname(join(original, name)), { recursive: true });
      await writeFile(join(original, name), content);
    }
    await publisher.isr(['import', trial.vmName, original, '--at', trial.mountPath], trial.url);
    const host = await trial.addHost();
    const paths = await host.vmPaths(trial.repositoryId, trial.vmName);
    const mount = new SupervisedMount(
      trial,
      host,
      paths,
      link === undefined ? trial.url : trial.farUrl(link),
    );
    await mount.mount();
    return mount;
  }

  async mount(): Promise<DaemonClient> {
    const { trial, host } = this;
    return mountVm({
      home: await openHostHome(host.home),
      repositoryId: trial.repositoryId,
      repositoryUrl: this.url,
      mount: {
        vmName: trial.vmName,
        mountPath: undefined,
        version: undefined,
        ephemeral: false,
        engine: 'kernel',
        allowOther: false,
      },
    });
  }

  async client(): Promise<DaemonClient> {
    const client = await connectDaemon(this.paths, this.trial.vmName);
    if (client === undefined) throw new Error('not mounted');
    return client;
  }

  async processes(): Promise<DaemonStatus['daemon']> {
    return (await (await this.client()).status()).daemon;
  }

  /** Kills the worker, and returns when another answers. */
  async killWorker(): Promise<void> {
    const { workerPid } = await this.processes();
    process.kill(workerPid, 'SIGKILL');
    await eventually('another worker serves', async () => {
      try {
        return (await this.processes()).workerPid !== workerPid;
      } catch {
        return false;
      }
    });
  }

  /** Returns when a supervisor other than this one is there. */
  async anotherSupervisor(pid: number | undefined): Promise<void> {
    await eventually('there is another supervisor', async () => {
      const { supervisorPid } = await this.processes();
      return supervisorPid !== undefined && supervisorPid !== pid;
    });
  }

  /** Unmounts in order, and sees that every process ends. */
  async endInOrder(t: Test): Promise<void> {
    const { workerPid, supervisorPid = 0 } = await this.processes();
    await (await this.client()).unmount();
    t.equal(await findMount(this.trial.mountPath), undefined);
    for (const pid of [workerPid, supervisorPid])
      await eventually('it ends', async () => !(await isRunning(pid)));
  }

  /** Of a file in the mount, read by another process. */
  async content(name: string): Promise<string> {
    return (await runProgram('cat', [join(this.trial.mountPath, name)])).stdout;
  }

  log(): Promise<string> {
    return readFile(this.paths.daemonLog, 'utf8');
  }
}

/** A Python program that is told what to do next on its standard input, and prints a line when it has done so. */
export class Program {
  readonly child: ChildProcess;
  readonly ended: Promise<{ readonly exitCode: number | null; readonly complaints: string }>;
  #output = '';
  #onOutput: () => void = () => undefined;

  constructor(t: Test, source: string, ...args: readonly string[]) {
    const child = spawn('python3', ['-u', '-c', source, ...args], { stdio: 'pipe' });
    t.teardown(() => child.kill('SIGKILL'));
    this.child = child;
    child.stdout.on('data', (data: Buffer) => {
      this.#output += data.toString();
      this.#onOutput();
    });
    const complaints = text(child.stderr);
    this.ended = once(child, 'close').then(async ([exitCode]) => {
      this.#onOutput();
      return { exitCode: exitCode as number | null, complaints: await complaints };
    });
  }

  /** Lets the program pass its next `input()`. */
  next(): void {
    this.child.stdin?.write('\n');
  }

  get output(): string {
    return this.#output;
  }

  /** Returns when the program has printed the text, or has ended. */
  async says(words: string): Promise<void> {
    while (!this.#output.includes(words) && this.child.exitCode === null) {
      await new Promise<void>((resolve) => (this.#onOutput = resolve));
    }
  }
}
