import { readFileSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TrialHost } from '../../fixtures/trial-host.js';
import { Trial } from '../../fixtures/trial.js';
import { IsrError } from '../../src/base/index.js';
import {
  connectDaemon,
  mountVm,
  settleDaemon,
  type DaemonClient,
  type DaemonStatus,
} from '../../src/daemon/index.js';
import type { EngineName } from '../../src/fuse/index.js';
import { openHostHome, type HostHome } from '../../src/host/index.js';
import { publishVm } from '../../src/vm/index.js';

/** Chunks as small as they may be: a file of a few megabytes then has hundreds. */
const chunkSize = '16K';

/** Room for a fraction of the files in memory, and behind a link on disk: chunks are decoded, or fetched, again and again. */
const smallMemory = `memory_cache = "128K"\n`;
const smallDisk = `local_cache = "256K"\n`;

/** Times that something is tried where the store does not answer, or a file that was closed is not yet released. */
const attemptsMax = 100;
const attemptPauseMs = 20;
const repeatedErrors: ReadonlySet<string> = new Set(['STORE_UNREACHABLE', 'FILE_SYSTEM_BUSY']);

export interface ExercisedVmOptions {
  readonly engine: EngineName;
  /** Parameters of a `lab+` store, as `rttMs=1&errorRate=0.01`, with almost no memory and disk for its chunks. */
  readonly link: string | undefined;
  readonly seed: number;
}

/** A VM with a daemon of its own on a real mount, in a repository of its own. */
export class ExercisedVm implements AsyncDisposable {
  readonly trial: Trial;
  readonly #host: TrialHost;
  readonly #home: HostHome;
  readonly #options: ExercisedVmOptions;
  #links = 0;

  private constructor(trial: Trial, host: TrialHost, home: HostHome, options: ExercisedVmOptions) {
    this.trial = trial;
    this.#host = host;
    this.#home = home;
    this.#options = options;
  }

  /** Its first version holds `files`, by name. */
  static async create(
    options: ExercisedVmOptions,
    files: Readonly<Record<string, Uint8Array>>,
  ): Promise<ExercisedVm> {
    const { trial, host } = await Trial.create('exercised', ['--chunk-size', chunkSize]);
    try {
      const directory = originalsOf(trial);
      await mkdir(directory);
      for (const [name, bytes] of Object.entries(files)) await writeFile(join(directory, name), bytes);
      await host.isr(['import', trial.vmName, directory, '--at', trial.mountPath], trial.url);
      const caches = options.link === undefined ? smallMemory : smallMemory + smallDisk;
      await writeFile(join(host.home, 'config.toml'), caches);
      return new ExercisedVm(trial, host, await openHostHome(host.home), options);
    } catch (error) {
      await trial[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** As `mount`, by the command and in a process of its own. */
  async mountByCommand(): Promise<void> {
    const { vmName } = this.trial;
    const options = ['--engine', this.#options.engine, '--allow-other'];
    await this.#host.isr(['mount', vmName, ...options], this.#repositoryUrl());
  }

  /** Where its changes lie on this host. */
  get overlayPath(): string {
    return this.#home.vmPaths(this.trial.repositoryId, this.trial.vmName).overlay;
  }

  /** The last lines of what the daemon and its supervisor had to say. */
  logTail(lines: number): readonly string[] {
    const { repositoryId, vmName } = this.trial;
    const log = readFileSync(this.#home.vmPaths(repositoryId, vmName).daemonLog, 'utf8');
    return log.trimEnd().split('\n').slice(-lines);
  }

  /** Where the files of the first version lie. */
  get originals(): string {
    return originalsOf(this.trial);
  }

  get mountPath(): string {
    return this.trial.mountPath;
  }

  async mount(): Promise<void> {
    const mount = {
      vmName: this.trial.vmName,
      mountPath: undefined,
      version: undefined,
      ephemeral: false,
      engine: this.#options.engine,
      allowOther: true,
    };
    await this.#persist(() => mountVm({ ...this.#target(), mount }));
  }

  async unmount(): Promise<void> {
    const daemon = await this.#daemon();
    await this.#persist(() => daemon.unmount());
    // The daemon answers before it has ended.
    while ((await this.#findDaemon()) !== undefined) await sleep(attemptPauseMs);
  }

  /** Mounted or not. */
  async publish(): Promise<void> {
    const { outcome } = await this.#persist(() => publishVm(this.#target(), {}));
    if (outcome === 'branched') throw new Error('the lease was lost');
  }

  /** Once that is settled: whoever can still go on with a mount after a crash does. */
  async isMounted(): Promise<boolean> {
    const { repositoryId, vmName } = this.trial;
    return (await settleDaemon(this.#home.vmPaths(repositoryId, vmName), vmName)).state === 'alive';
  }

  async status(): Promise<DaemonStatus> {
    return (await this.#daemon()).status();
  }

  /** The newest version's files, in a new directory. */
  async export(): Promise<string> {
    const directory = join(this.trial.root, 'exported');
    await rm(directory, { recursive: true, force: true });
    await this.#host.isr(['export', this.trial.vmName, directory], this.trial.url);
    return directory;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.trial[Symbol.asyncDispose]();
  }

  async #daemon(): Promise<DaemonClient> {
    const daemon = await this.#findDaemon();
    if (daemon === undefined) throw new Error('the VM is not mounted');
    return daemon;
  }

  async #findDaemon(): Promise<DaemonClient | undefined> {
    const { repositoryId, vmName } = this.trial;
    return connectDaemon(this.#home.vmPaths(repositoryId, vmName), vmName);
  }

  #target(): Parameters<typeof publishVm>[0] {
    const { repositoryId, vmName } = this.trial;
    return { home: this.#home, repositoryId, repositoryUrl: this.#repositoryUrl(), vmName };
  }

  /** Each connection has faults of its own. */
  #repositoryUrl(): string {
    const { link, seed } = this.#options;
    if (link === undefined) return this.trial.url;
    this.#links += 1;
    return this.trial.farUrl(`${link}&seed=${seed + this.#links}`);
  }

  async #persist<T>(attempt: () => Promise<T>): Promise<T> {
    for (let attempts = 1; ; attempts++) {
      try {
        return await attempt();
      } catch (error) {
        const isPassing = error instanceof IsrError && repeatedErrors.has(error.code);
        if (!isPassing || attempts === attemptsMax) throw error;
        await sleep(attemptPauseMs);
      }
    }
  }
}

function originalsOf({ root }: Trial): string {
  return join(root, 'originals');
}
