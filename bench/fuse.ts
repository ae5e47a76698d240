/**
 * Engines compared in one run over the same local data, each in a process of its own: the local file system itself, the
 * engine `fuse-native`, the package of that name with its own JavaScript and a trivial file system, the engine `kernel`, and libfuse's C example. Page caches of the targets are cold; what lies behind the
 * mounts is warm unless a measure says otherwise. Targets take turns within each round, and ratios are taken within rounds.
 */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ResourceStack } from '../src/base/index.js';
import { buildCReference, type CReference } from './fuse/c-reference.js';
import { LoadProgram } from './fuse/load.js';
import { measures, take, type Sample } from './fuse/measures.js';
import { judge, printTables, printVerdicts, type Verdict } from './fuse/report.js';
import { Results } from './fuse/results.js';
import {
  dataFile,
  engineTarget,
  packageTarget,
  plainTarget,
  referenceTarget,
  writesFile,
  type Target,
} from './fuse/targets.js';
import { writeGuestMemory } from './guest-memory.js';

const run = promisify(execFile);
const mebibyte = 1024 * 1024;

const dataBytes = 128 * mebibyte;
const writesBytes = 16 * mebibyte;
const kernelThreads = [1, 2] as const;

export interface FuseBenchOptions {
  /** After one that does not count, in which the programs' code is compiled. */
  readonly rounds: number;
  /** The longest that one measure of one target takes. */
  readonly seconds: number;
}

export interface FuseFigures {
  readonly processors: number;
  readonly samples: readonly Sample[];
  readonly verdicts: readonly Verdict[];
  readonly reference: CReference;
}

export async function benchFuse(
  options: FuseBenchOptions = { rounds: 5, seconds: 0.25 },
): Promise<FuseFigures> {
  const root = await mkdtemp(join(tmpdir(), 'isr-bench-fuse-'));
  const resources = new ResourceStack();
  resources.defer(() => rm(root, { recursive: true, force: true }));
  try {
    const load = await LoadProgram.build(root);
    const data = join(root, 'data');
    await writeData(data);
    const reference = await buildCReference(root);
    const targets = await openTargets(root, data, reference, resources);
    // What lies in memory or in the host's page cache is there before anything counts.
    for (const { files } of targets) {
      if (files.memory !== undefined) await load.measure('sequential', files.memory, 2, String(mebibyte));
    }
    const results = new Results(await measureInTurns(load, targets, options));
    const names = targets.map(({ name }) => name);
    printTables(results, names);
    if (reference.program === undefined) console.log(`\n${reference.missing}`);
    const verdicts = judge(results, {
      package: packageName,
      native: 'fuse-native',
      reference: referenceName,
      ours: names.filter((name) => name.startsWith('kernel')),
    });
    printVerdicts(verdicts);
    return { processors: cpus().length, samples: results.samples, verdicts, reference };
  } finally {
    await resources[Symbol.asyncDispose]();
  }
}

/** What RAM of a guest looks like, and pages to be overwritten. */
async function writeData(directory: string): Promise<void> {
  await mkdir(directory);
  await writeGuestMemory(join(directory, dataFile), dataBytes);
  await writeGuestMemory(join(directory, writesFile), writesBytes, 2);
}

const packageName = 'fuse-native, as published';
const referenceName = 'C: passthrough_ll';

async function openTargets(
  root: string,
  data: string,
  reference: CReference,
  resources: ResourceStack,
): Promise<readonly Target[]> {
  const { stdout } = await run('findmnt', ['-no', 'FSTYPE', '-T', root]);
  const targets = [resources.use(plainTarget(`${stdout.trim()} (disk)`, data))];
  targets.push(resources.use(await engineTarget('fuse-native', undefined, join(root, 'fuse-native'), data)));
  targets.push(resources.use(await packageTarget(packageName, join(root, 'package'), data)));
  for (const threads of kernelThreads) {
    targets.push(resources.use(await engineTarget('kernel', threads, join(root, `kernel-${threads}`), data)));
  }
  if (reference.program !== undefined) {
    const at = join(root, 'reference');
    targets.push(resources.use(await referenceTarget(referenceName, reference.program, at, data)));
  }
  return targets;
}

/** Every measure on every target, another target first each round. */
async function measureInTurns(
  load: LoadProgram,
  targets: readonly Target[],
  { rounds, seconds }: FuseBenchOptions,
): Promise<readonly Sample[]> {
  const samples: Sample[] = [];
  for (let round = 0; round <= rounds; round++) {
    for (const measure of measures) {
      if (round === 0 && measure.fromDisk === true) continue;
      for (let turn = 0; turn < targets.length; turn++) {
        const target = targets[(turn + round) % targets.length];
        if (target === undefined) continue;
        const sample = await take(load, target, measure, round, seconds);
        if (sample !== undefined && round > 0) samples.push(sample);
      }
    }
  }
  return samples;
}
