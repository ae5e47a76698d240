/**
 * A resume on a host that has everything: what the mount costs a guest. The same saved guest is resumed with the same
 * command line from a copy of its directory on the local disk, and from mounts whose chunks all lie in the local cache;
 * page cache empty before each, in turns. From the launch of QEMU to the guest's first tick. One resume was before, whose
 * trace is replayed; QEMU is launched as soon as the mount is there, as `isr resume` does.
 */
import { execFile } from 'node:child_process';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { buildGuest } from '../fixtures/guest/build.js';
import { readTicks, waitForTick, type Tick } from '../fixtures/guest/console.js';
import type { TrialHost } from '../fixtures/trial-host.js';
import { Trial } from '../fixtures/trial.js';
import { mountVm, type DaemonStatus } from '../src/daemon/index.js';
import { findDaemon } from '../src/daemon/record.js';
import type { EngineName } from '../src/fuse/index.js';
import { openHostHome } from '../src/host/index.js';
import { openHypervisor, parseVmConfig } from '../src/vm/index.js';
import { useBundledPrograms } from './support/bundled-programs.js';
import { dropPageCache } from './support/page-cache.js';
import { processorSeconds } from './support/process-time.js';
import { median } from './support/statistics.js';
import { formatTable } from './support/table.js';

const run = promisify(execFile);

const vmName = 'local';
/** A replay needs the engine `kernel`. */
const mounts: readonly { readonly name: string; readonly engine: EngineName; readonly prefetch: boolean }[] =
  [
    { name: 'fuse-native', engine: 'fuse-native', prefetch: false },
    { name: 'kernel, no replay', engine: 'kernel', prefetch: false },
    { name: 'kernel', engine: 'kernel', prefetch: true },
  ];

/** What a resume from a mount may take, as a multiple of one from the local disk. */
const ratioWanted = 1.1;

/** What a daemon did for one resume. */
interface DaemonFigures {
  readonly processorSeconds: number;
  readonly requests: number;
  readonly refusedAhead: number;
  /** Chunks opened from the local cache, and answers from the memory tier. */
  readonly localHits: number;
  readonly memoryHits: number;
  /** Must be 0: all is local. */
  readonly fetchedBytes: number;
}

interface ResumeSample {
  readonly from: string;
  readonly round: number;
  /** From the launch of QEMU until it runs the guest. */
  readonly runningSeconds: number;
  readonly firstTickSeconds: number;
  readonly daemon: DaemonFigures | undefined;
}

export interface ResumeLocalFigures {
  readonly samples: readonly ResumeSample[];
  /** First ticks, as multiples of the local disk's within each round. */
  readonly ratios: Readonly<Record<string, { readonly median: number; readonly all: readonly number[] }>>;
  /** False where this user may not empty the page cache: everything came from it. */
  readonly pageCacheDropped: boolean;
}

export async function benchResumeLocal(
  options: { readonly rounds: number } = { rounds: 7 },
): Promise<ResumeLocalFigures> {
  useBundledPrograms();
  const { trial, host: publisher } = await Trial.create(vmName);
  try {
    const last = await saveGuest(trial, publisher);
    const exported = join(trial.root, 'exported');
    await publisher.isr(['export', vmName, exported, '--version', '3'], trial.url);
    const host = await trial.addHost();
    await host.isr(['warm', vmName, '--all'], trial.url);

    const { stdout } = await run('findmnt', ['-no', 'FSTYPE', '-T', trial.root]);
    const disk = stdout.trim();
    const sources: readonly (readonly [name: string, resume: () => Promise<Omit<ResumeSample, 'round'>>])[] =
      [
        [disk, () => resumeFromDisk(trial, exported, disk, last)],
        ...mounts.map((mount) => [mount.name, () => resumeFromMount(trial, host, mount, last)] as const),
      ];
    const samples: ResumeSample[] = [];
    for (let round = 0; round < options.rounds; round++) {
      for (let turn = 0; turn < sources.length; turn++) {
        const source = sources[(turn + round) % sources.length];
        if (source !== undefined) samples.push({ ...(await source[1]()), round });
      }
    }
    const ratios = ratiosTo(disk, samples);
    const figures = { samples, ratios, pageCacheDropped: await dropPageCache() };
    print(figures, disk);
    return figures;
  } finally {
    await trial[Symbol.asyncDispose]();
  }
}

/** Version 3 of the VM is a suspended guest that was resumed once before. Returns its last tick. */
async function saveGuest(trial: Trial, host: TrialHost): Promise<Tick> {
  const guest = await buildGuest({ directory: join(trial.root, 'guest') });
  await host.isr(['import', vmName, guest.directory, '--at', trial.mountPath], trial.url);
  const console = join((await host.vmPaths(trial.repositoryId, vmName)).run, 'console.log');
  await host.isr(['start', vmName], trial.url);
  await waitForTick(console, 10);
  await host.isr(['suspend', vmName], trial.url);
  await host.isr(['resume', vmName], trial.url);
  await waitForTick(console, (await readTicks(console)).length + 10);
  await host.isr(['suspend', vmName], trial.url);
  const last = (await readTicks(console)).at(-1);
  if (last === undefined) throw new Error('the guest never ticked');
  return last;
}

async function resumeFromDisk(
  trial: Trial,
  exported: string,
  from: string,
  last: Tick,
): Promise<Omit<ResumeSample, 'round'>> {
  const directory = join(trial.root, 'copied');
  await run('cp', ['-a', '--sparse=always', exported, directory]);
  await dropPageCache();
  try {
    return { from, ...(await resume(trial, directory, last)), daemon: undefined };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function resumeFromMount(
  trial: Trial,
  host: TrialHost,
  { name, engine, prefetch }: (typeof mounts)[number],
  last: Tick,
): Promise<Omit<ResumeSample, 'round'>> {
  await dropPageCache();
  const client = await mountVm({
    home: await openHostHome(host.home),
    repositoryId: trial.repositoryId,
    repositoryUrl: trial.url,
    mount: {
      ...{ vmName, engine, ephemeral: true, allowOther: false, version: undefined, mountPath: undefined },
      resuming: { prefetch },
    },
  });
  try {
    // Its status would cost it more than the resume does.
    const daemon = await findDaemon(await host.vmPaths(trial.repositoryId, vmName));
    if (daemon.state === 'none') throw new Error('there is no daemon');
    const { pid } = daemon.record.worker ?? daemon.record;
    const secondsBefore = await processorSeconds(pid);
    let spentSeconds = 0;
    const figures = await resume(trial, trial.mountPath, last, async () => {
      spentSeconds = (await processorSeconds(pid)) - secondsBefore;
    });
    const status = await host.isr<DaemonStatus>(['status', vmName], trial.url);
    return { from: name, ...figures, daemon: daemonFigures(status, spentSeconds) };
  } finally {
    await client.unmount();
  }
}

/** Resumes the guest in a directory, as `isr resume` does once it is mounted, and ends it after its first tick. */
async function resume(
  trial: Trial,
  directory: string,
  last: Tick,
  onTick: () => Promise<void> = () => Promise.resolve(),
): Promise<Pick<ResumeSample, 'runningSeconds' | 'firstTickSeconds'>> {
  const runDirectory = join(trial.root, 'run');
  await mkdir(runDirectory);
  const configPath = join(directory, 'isr.toml');
  const hypervisor = openHypervisor(parseVmConfig(await readFile(configPath, 'utf8'), configPath));
  const context = { vmName, directory, runDirectory };
  try {
    const startedMs = performance.now();
    const secondsSince = (): number => (performance.now() - startedMs) / 1000;
    const running = hypervisor.resume(context).then(secondsSince);
    const tick = await Promise.race([
      waitForTick(join(runDirectory, 'console.log')),
      running.then(() => waitForTick(join(runDirectory, 'console.log'))),
    ]);
    const firstTickSeconds = secondsSince();
    await onTick();
    if (tick.nonce !== last.nonce || tick.tick <= last.tick) throw new Error('this is another guest');
    return { runningSeconds: await running, firstTickSeconds };
  } finally {
    await hypervisor.kill(context);
    await rm(runDirectory, { recursive: true, force: true });
  }
}

function daemonFigures({ engine, fetch }: DaemonStatus, spentSeconds: number): DaemonFigures {
  return {
    processorSeconds: spentSeconds,
    requests: engine.requests,
    refusedAhead: engine.refusedAhead,
    localHits: fetch.localHits,
    memoryHits: fetch.memoryHits,
    fetchedBytes: Object.values(fetch.fetches).reduce((sum, { bytes }) => sum + bytes, 0),
  };
}

function ratiosTo(disk: string, samples: readonly ResumeSample[]): ResumeLocalFigures['ratios'] {
  const ofDisk = new Map(
    samples
      .filter(({ from }) => from === disk)
      .map(({ round, firstTickSeconds }) => [round, firstTickSeconds]),
  );
  return Object.fromEntries(
    mounts.map(({ name }) => {
      const all = samples
        .filter(({ from }) => from === name)
        .map(({ round, firstTickSeconds }) => firstTickSeconds / (ofDisk.get(round) ?? Number.NaN));
      return [name, { median: median(all), all }];
    }),
  );
}

function print({ samples, ratios, pageCacheDropped }: ResumeLocalFigures, disk: string): void {
  console.log(
    `\nA resume with all chunks local, from the launch of QEMU to the guest's first tick, page cache ${
      pageCacheDropped ? 'empty' : 'WARM (only root may empty it)'
    }\n`,
  );
  const of = (from: string, figure: (sample: ResumeSample) => number | undefined): readonly number[] =>
    samples.filter((sample) => sample.from === from).flatMap((sample) => figure(sample) ?? []);
  const middle = (from: string, figure: (sample: ResumeSample) => number | undefined, digits = 0): string => {
    const values = of(from, figure);
    return values.length === 0 ? '-' : median(values).toFixed(digits);
  };
  const header = [
    ...['from', 'guest runs', 'first tick', 'least', 'most', 'ratio'],
    ...['requests', 'refused ahead', 'chunks opened', 'fetched', 'daemon CPU'],
  ];
  console.log(
    formatTable(
      header,
      [disk, ...mounts.map(({ name }) => name)].map((from) => {
        const ticks = of(from, ({ firstTickSeconds }) => firstTickSeconds);
        const ratio = ratios[from];
        return [
          from,
          `${middle(from, ({ runningSeconds }) => runningSeconds, 2)} s`,
          `${median(ticks).toFixed(2)} s`,
          `${Math.min(...ticks).toFixed(2)} s`,
          `${Math.max(...ticks).toFixed(2)} s`,
          ratio === undefined
            ? ''
            : `${ratio.median.toFixed(2)}${ratio.median <= ratioWanted ? '' : ' NOT MET'}`,
          middle(from, ({ daemon }) => daemon?.requests),
          middle(from, ({ daemon }) => daemon?.refusedAhead),
          middle(from, ({ daemon }) => daemon?.localHits),
          middle(from, ({ daemon }) => daemon?.fetchedBytes),
          `${middle(from, ({ daemon }) => daemon?.processorSeconds, 2)} s`,
        ];
      }),
    ),
  );
}
