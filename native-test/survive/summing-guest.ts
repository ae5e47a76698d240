import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { buildGuest } from '../../fixtures/guest/build.js';
import { Trial } from '../../fixtures/trial.js';
import { connectDaemon, type DaemonStatus } from '../../src/daemon/index.js';
import type { VmPaths } from '../../src/host/index.js';
import { isProcessAlive, processStartTime } from '../../src/system/index.js';
import { Reclaim } from './reclaim.js';

const vmName = 'guest';

/** Little of the guest's memory fits into the caches: what was taken away from it comes over the link again. */
const smallCaches = 'local_cache = "16M"\nmemory_cache = "4M"\n';
const link = 'mbps=200&rttMs=5';

/** Often enough that most of the working set is never there, and seldom enough that the guest gets somewhere. */
const reclaimIntervalMs = 500;

const pauseMs = 10;
const attemptsMax = 30_000;

/** What the guest has said: pieces that it compared with their checksums, and times that it stood still, by its own clock. */
export interface Sums {
  readonly rounds: number;
  readonly right: number;
  readonly wrong: number;
  /** From a tenth of a second on. */
  readonly stallsMs: readonly number[];
}

/**
 * A guest that compares its memory with checksums without end, resumed on a host that had nothing of it, from a store behind
 * a link, and from which its memory is taken away again and again: there are always pages on their way.
 */
export class SummingGuest implements AsyncDisposable {
  readonly mountPath: string;
  readonly #trial: Trial;
  readonly #paths: VmPaths;
  readonly #qemuPid: number;
  readonly #qemuStart: number | undefined;
  readonly #reclaim: Reclaim;

  private constructor(trial: Trial, paths: VmPaths, qemuPid: number, reclaim: Reclaim) {
    this.#trial = trial;
    this.#paths = paths;
    this.#reclaim = reclaim;
    this.#qemuPid = qemuPid;
    this.#qemuStart = processStartTime(qemuPid);
    this.mountPath = trial.mountPath;
  }

  static async resume(sizes: {
    readonly memoryMiB: number;
    readonly fillMiB: number;
  }): Promise<SummingGuest> {
    const { trial, host } = await Trial.create(vmName);
    try {
      const guest = await buildGuest({ directory: join(trial.root, 'guest'), touch: 'sums', ...sizes });
      await host.isr(['import', vmName, guest.directory, '--at', trial.mountPath], trial.url);
      await host.isr(['start', vmName], trial.url);
      const before = await host.vmPaths(trial.repositoryId, vmName);
      await eventually('the guest has filled its memory', async () => {
        return (await readSums(before)).right > 0;
      });
      await host.isr(['suspend', vmName], trial.url);

      const other = await trial.addHost();
      await writeFile(join(other.home, 'config.toml'), smallCaches);
      await other.isr(['resume', vmName], trial.farUrl(link));
      const paths = await other.vmPaths(trial.repositoryId, vmName);
      const qemuPid = Number.parseInt(await readFile(join(paths.run, 'qemu.pid'), 'utf8'), 10);
      const reclaim = Reclaim.begin(qemuPid, join(trial.mountPath, 'mem'), reclaimIntervalMs);
      return new SummingGuest(trial, paths, qemuPid, reclaim);
    } catch (error) {
      await trial[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Whether it is the QEMU that it was. */
  get isRunning(): boolean {
    return isProcessAlive(this.#qemuPid, this.#qemuStart);
  }

  async status(): Promise<DaemonStatus> {
    const daemon = await connectDaemon(this.#paths, vmName);
    if (daemon === undefined) throw new Error('the mount is gone');
    return daemon.status();
  }

  sums(): Promise<Sums> {
    return readSums(this.#paths);
  }

  /** Waits until the guest has compared so many more pieces, which a slow machine may take long for. */
  async progress(pieces: number): Promise<Sums> {
    const { right, wrong } = await this.sums();
    await this.#eventually(`the guest goes on after ${right} pieces`, async () => {
      const now = await this.sums();
      return now.right + now.wrong >= right + wrong + pieces;
    });
    return this.sums();
  }

  /** Waits until the guest has compared every piece again, so many times. */
  async wholeRounds(count: number): Promise<Sums> {
    const { rounds } = await this.sums();
    await this.#eventually(`the guest begins round ${rounds + count + 1}`, async () => {
      return (await this.sums()).rounds > rounds + count;
    });
    return this.sums();
  }

  /** Its memory is left to it from now on. */
  leaveMemory(): Promise<void> {
    return this.#reclaim.end();
  }

  async #eventually(what: string, holds: () => Promise<boolean>): Promise<void> {
    await eventually(what, async () => {
      if (!this.isRunning) throw new Error(`QEMU has ended, before ${what}`);
      return holds();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#reclaim[Symbol.asyncDispose]();
    await this.#trial[Symbol.asyncDispose]();
  }
}

async function readSums({ run }: VmPaths): Promise<Sums> {
  const text = await readFile(join(run, 'console.log'), 'latin1').catch(() => '');
  const lines = [...text.matchAll(/^isr-guest round=(\d+) right=(\d+) wrong=(\d+)\r?$/gm)];
  const [, rounds, right, wrong] = lines.at(-1)?.map(Number) ?? [];
  const stalls = [...text.matchAll(/^isr-guest stall=(\d+)\r?$/gm)];
  return {
    ...{ rounds: rounds ?? 0, right: right ?? 0, wrong: wrong ?? 0 },
    stallsMs: stalls.map(([, hundredths]) => Number(hundredths) * 10),
  };
}

async function eventually(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (let attempt = 0; attempt < attemptsMax; attempt += 1) {
    if (await holds()) return;
    await sleep(pauseMs);
  }
  throw new Error(`never came true: ${what}`);
}
