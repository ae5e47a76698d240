import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { TrialHost } from '../../../fixtures/trial-host.js';
import type { DaemonStatus, Explanation } from '../../../src/daemon/index.js';
import { consoleSocket } from '../guests/bench-guest.js';
import { vmName, type Prepared, type PreparedPart } from '../prepared.js';
import type { Place, Resuming, Subject, SubjectFigures } from './subject.js';
import { stageOffsetOrder, stageUnpacked } from './trace-orders.js';
import { stageWrongTrace } from './wrong-trace.js';

interface IsrOptions {
  readonly name: string;
  readonly title: string;
  /** The repository that it resumes from. */
  readonly part: PreparedPart;
  /** Makes the part where it is not there yet. */
  readonly stage?: (prepared: Prepared) => Promise<void>;
  /** Of `isr resume`. */
  readonly options?: readonly string[];
  /** A part that lies on a disk of the new host, and is a lookaside place. */
  readonly tier?: PreparedPart;
  /** config.toml of the host. */
  readonly configuration?: string;
}

function isr(options: IsrOptions): Subject {
  const { name, title, part } = options;
  return { name, title, serves: part, begin: (place) => beginIsr(place, options) };
}

export const isrSubjects: readonly Subject[] = [
  isr({ name: 'isr-trace', title: 'isr resume, with a trace', part: 'learned' }),
  isr({ name: 'isr-first', title: 'isr resume, first ever', part: 'first' }),
  isr({
    name: 'isr-no-prefetch',
    title: 'isr resume --no-prefetch',
    part: 'learned',
    options: ['--no-prefetch'],
  }),
  isr({
    name: 'isr-exact',
    title: 'one chunk a demand, nothing else',
    part: 'learned',
    options: ['--no-prefetch'],
    configuration: 'between_demands = false\n',
  }),
  isr({
    name: 'isr-older-tier',
    title: 'isr resume, with a trace, older version at hand',
    part: 'learned',
    tier: 'first',
  }),
  isr({
    name: 'isr-wrong-trace',
    title: 'isr resume, trace entirely wrong',
    part: 'wrong',
    stage: stageWrongTrace,
  }),
  isr({
    name: 'isr-unpacked',
    title: 'isr resume, with a trace, not packed by it',
    part: 'unpacked',
    stage: stageUnpacked,
  }),
  isr({
    name: 'isr-offset-order',
    title: 'isr resume, trace in offset order, not packed',
    part: 'offset-order',
    stage: stageOffsetOrder,
  }),
];

/** A host that has the key, and nothing of the VM. */
async function beginIsr(place: Place, options: IsrOptions): Promise<Resuming> {
  const { prepared, link, directory } = place;
  await options.stage?.(prepared);
  const url = `${link.url}/${options.part}`;
  const mountPath = join(directory, 'vm');
  await mkdir(mountPath);
  const host = new TrialHost(join(directory, 'home'));
  await host.isr(['key', 'import', join(prepared.root, 'key')], url);
  if (options.configuration !== undefined)
    await writeFile(join(host.home, 'config.toml'), options.configuration);
  const { run } = await host.vmPaths(prepared.repositoryId, vmName);
  return {
    consolePath: join(run, consoleSocket),
    async resume() {
      const tier = options.tier === undefined ? [] : ['--tier', join(prepared.root, options.tier)];
      await host.isr(['resume', vmName, '--at', mountPath, ...tier, ...(options.options ?? [])], url);
    },
    figures: () => figuresOf(host, url),
    async bringAll() {
      await host.isr(['warm', vmName, '--all'], url);
    },
    [Symbol.asyncDispose]: () => host.killGuestAndUnmount(prepared.repositoryId, vmName),
  };
}

async function figuresOf(host: TrialHost, url: string): Promise<SubjectFigures> {
  const status = await host.isr<DaemonStatus>(['status', vmName], url);
  const { requests, waitMs } = status.fetch.fetches.demand;
  const { fetches, trouble, link, memoryHits, localHits, deltas, tiers } = status.fetch;
  const { stalls, durationMs, wallMs, partsMs, causes } = await host.isr<Explanation>(
    ['explain', vmName],
    url,
  );
  return {
    demandFaults: requests,
    stalledMs: Math.round(waitMs),
    details: {
      ...{
        fetches,
        trouble,
        link,
        memoryHits,
        localHits,
        deltas,
        tiers,
        replay: status.replay,
        engine: status.engine,
      },
      explanation: { stalls, durationMs, wallMs, partsMs, causes },
    },
  };
}
