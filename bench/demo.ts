/**
 * `make demo`: the main job on a real guest. Boots a small machine on "host A", suspends it, resumes it on "host B"
 * through a link of 100 Mb/s and 20 ms, and compares that with copying everything in first.
 */
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { buildGuest } from '../fixtures/guest/build.js';
import { readTicks, waitForTick, type Tick } from '../fixtures/guest/console.js';
import type { DaemonStatus } from '../src/daemon/index.js';
import { openHypervisor, parseVmConfig, type SuspendResult } from '../src/vm/index.js';
import { copyIn, stageCopies, type CopyMethod } from './support/copy-in.js';
import { TrialHost } from '../fixtures/trial-host.js';
import { formatTable } from './support/table.js';

const vmName = 'demo';
const link = 'mbps=100&rttMs=20';
const consoleName = 'console.log';

interface ResumeFigures {
  readonly method: string;
  readonly firstTickSeconds: number;
  readonly fetchedBytes: number;
}

interface SuspendFigures {
  readonly where: string;
  readonly dirtyBytes: number;
  readonly storedBytes: number;
  readonly seconds: number;
}

async function main(): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), 'isr-demo-'));
  const demo = new Demo(root);
  try {
    await demo.run();
  } finally {
    await demo.cleanUp();
    await rm(root, { recursive: true, force: true });
  }
}

class Demo {
  readonly #root: string;
  readonly #near: string;
  readonly #far: string;
  readonly #mountPath: string;
  readonly #hostA: TrialHost;
  readonly #hostB: TrialHost;
  #repositoryId: string | undefined;
  #copyGuest: (() => Promise<void>) | undefined;

  constructor(root: string) {
    this.#root = root;
    this.#near = `file://${root}/store`;
    this.#far = `lab+file://${root}/store?${link}`;
    this.#mountPath = join(root, 'vm');
    this.#hostA = new TrialHost(join(root, 'host-a'));
    this.#hostB = new TrialHost(join(root, 'host-b'));
  }

  async run(): Promise<void> {
    await mkdir(this.#mountPath);
    say('Building a small guest: a Debian cloud kernel and busybox, 256 MiB of RAM');
    const guest = await buildGuest({ directory: join(this.#root, 'guest') });

    say('Host A: creating a repository, importing the VM, booting it');
    const { repositoryId } = await this.#hostA.isr<{ repositoryId: string }>(['init'], this.#near);
    this.#repositoryId = repositoryId;
    await this.#hostA.isr(['import', vmName, guest.directory, '--at', this.#mountPath], this.#near);
    const consoleA = join((await this.#hostA.vmPaths(repositoryId, vmName)).run, consoleName);
    await this.#hostA.isr(['start', vmName], this.#near);
    const booted = await waitForTick(consoleA);
    say(`The guest ticks; the nonce it drew and holds in its RAM is ${booted.nonce}`);
    await waitForTick(consoleA, 10);

    say('Host A: suspending, publishing what changed');
    const suspendA = await this.#suspend(this.#hostA, 'host A, after the boot');
    const last = lastOf(await readTicks(consoleA));

    say('Host B has nothing of it: it gets the key, and resumes over 100 Mb/s and 20 ms, on demand');
    const keyFile = join(this.#root, 'key');
    await this.#hostA.isr(['key', 'export', keyFile], this.#near);
    await this.#hostB.isr(['key', 'import', keyFile], this.#near);
    const consoleB = join((await this.#hostB.vmPaths(repositoryId, vmName)).run, consoleName);
    const onDemand = await this.#resumeOnDemand(consoleB, last);
    say(`The same nonce goes on ticking, ${onDemand.firstTickSeconds.toFixed(1)} s after the command`);
    await sleep(3000);

    say('Host B: suspending, publishing what changed');
    const suspendB = await this.#suspend(this.#hostB, 'host B, after a few seconds');

    say('For comparison: the same state copied in over the same link before it can run');
    const exported = join(this.#root, 'exported');
    await this.#hostA.isr(['export', vmName, exported, '--version', '2'], this.#near);
    const raw = await this.#resumeCopied(exported, 'raw', last);
    const gzip = await this.#resumeCopied(exported, 'gzip', last);
    report([raw, gzip, onDemand], [suspendA, suspendB]);
  }

  async #suspend(host: TrialHost, where: string): Promise<SuspendFigures> {
    const { publish, seconds } = await host.isr<SuspendResult>(['suspend', vmName], this.#near);
    return { where, dirtyBytes: publish.dirtyBytes, storedBytes: publish.storedBytes, seconds };
  }

  async #resumeOnDemand(consolePath: string, last: Tick): Promise<ResumeFigures> {
    const startedMs = performance.now();
    const resumed = this.#hostB.isr(['resume', vmName], this.#far);
    const tick = await Promise.race([waitForTick(consolePath), resumed.then(() => waitForTick(consolePath))]);
    const firstTickSeconds = (performance.now() - startedMs) / 1000;
    requireSameGuest(tick, last);
    await resumed;
    const status = await this.#hostB.isr<DaemonStatus>(['status', vmName], this.#far);
    const fetchedBytes = Object.values(status.fetch.fetches).reduce((sum, { bytes }) => sum + bytes, 0);
    return { method: 'on demand (isr resume)', firstTickSeconds, fetchedBytes };
  }

  async #resumeCopied(from: string, method: CopyMethod, last: Tick): Promise<ResumeFigures> {
    await stageCopies(from, `file://${this.#root}/copies`, method);
    const directory = join(this.#root, `copied-${method}`);
    const runDirectory = join(this.#root, `run-${method}`);
    await mkdir(runDirectory);
    const startedMs = performance.now();
    const fetchedBytes = await copyIn(`lab+file://${this.#root}/copies?${link}`, method, directory);
    const configPath = join(directory, 'isr.toml');
    const hypervisor = openHypervisor(parseVmConfig(await readFile(configPath, 'utf8'), configPath));
    const context = { vmName: `${vmName}-${method}`, directory, runDirectory };
    this.#copyGuest = () => hypervisor.kill(context);
    await hypervisor.resume(context);
    const tick = await waitForTick(join(runDirectory, consoleName));
    const firstTickSeconds = (performance.now() - startedMs) / 1000;
    requireSameGuest(tick, last);
    await hypervisor.kill(context);
    this.#copyGuest = undefined;
    return { method: `${method} copy-in`, firstTickSeconds, fetchedBytes };
  }

  /** Nothing of the demo stays behind, wherever it stopped. */
  async cleanUp(): Promise<void> {
    await this.#copyGuest?.().catch(() => undefined);
    if (this.#repositoryId === undefined) return;
    for (const host of [this.#hostA, this.#hostB]) await host.killGuestAndUnmount(this.#repositoryId, vmName);
  }
}

function requireSameGuest(tick: Tick, last: Tick): void {
  if (tick.nonce !== last.nonce) throw new Error(`a different guest: nonce ${tick.nonce}, not ${last.nonce}`);
  if (tick.tick <= last.tick)
    throw new Error(`the guest went back in time: tick ${tick.tick} after ${last.tick}`);
}

function lastOf(ticks: readonly Tick[]): Tick {
  const last = ticks.at(-1);
  if (last === undefined) throw new Error('the guest never ticked');
  return last;
}

function report(resumes: readonly ResumeFigures[], suspends: readonly SuspendFigures[]): void {
  const [raw, gzip, onDemand] = resumes;
  console.log(
    `\nResume on a host that has none of the VM's state, over 100 Mb/s and 20 ms\n\n${formatTable(
      ['', 'first tick', 'fetched'],
      resumes.map((row) => [row.method, `${row.firstTickSeconds.toFixed(1)} s`, megabytes(row.fetchedBytes)]),
    )}\n\nSuspend: only what changed is published\n\n${formatTable(
      ['', 'dirty', 'stored', 'time'],
      suspends.map((row) => [
        row.where,
        megabytes(row.dirtyBytes),
        megabytes(row.storedBytes),
        `${row.seconds.toFixed(1)} s`,
      ]),
    )}\n`,
  );
  if (raw === undefined || gzip === undefined || onDemand === undefined) return;
  const faster = raw.firstTickSeconds / onDemand.firstTickSeconds;
  const share = onDemand.fetchedBytes / gzip.fetchedBytes;
  console.log(
    `On demand the guest ran ${faster.toFixed(1)} times sooner than after a raw copy, ` +
      `having fetched ${(100 * share).toFixed(0)} % of the gzip copy's bytes. It was the same guest each time (same nonce).`,
  );
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

function say(text: string): void {
  console.log(`* ${text}`);
}

await main();
