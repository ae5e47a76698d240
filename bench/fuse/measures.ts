import type { LoadFigures, LoadProgram } from './load.js';
import type { Place, Target } from './targets.js';

/** One thing that is measured, on every target that has its place. */
export interface Measure {
  readonly name: string;
  readonly place: Place;
  /** For the load program. */
  readonly mode: string;
  readonly parameters: readonly string[];
  /** The bytes come from the disk, not from the host's page cache. */
  readonly fromDisk?: true;
}

const page = '4096';
const chunk = String(128 * 1024);
const mebibyte = String(1024 * 1024);

const random = (place: Place, readers: number, stride = page) => ({
  place,
  mode: 'random',
  parameters: [String(readers), stride],
});
const sequential = (place: Place, ...parameters: readonly string[]) => ({
  place,
  mode: 'sequential',
  parameters,
});

const named = {
  random: random('plain', 1),
  randomMemory: random('memory', 1),
  random4: random('plain', 4),
  random16: random('plain', 16),
  sequential128KiB: sequential('plain', chunk),
  sequential1MiB: sequential('plain', mebibyte),
  direct1MiB: sequential('plain', mebibyte, 'direct'),
  huge: { place: 'plain', mode: 'huge', parameters: [] },
  fault: { place: 'plain', mode: 'fault', parameters: [] },
  write: { place: 'writes', mode: 'write', parameters: [] },
  flush: { place: 'writes', mode: 'write', parameters: ['flush'] },
  // One page of each chunk, so that each read opens one.
  sealedRandom: random('sealed', 1, chunk),
  sealedSequential: sequential('sealed', mebibyte),
  sealedRandomFromDisk: { ...random('sealed', 1, chunk), fromDisk: true },
  sealedSequentialFromDisk: { ...sequential('sealed', mebibyte), fromDisk: true },
  randomFromDisk: { ...random('plain', 1, chunk), fromDisk: true },
  sequentialFromDisk: { ...sequential('plain', mebibyte), fromDisk: true },
} as const;

export type MeasureName = keyof typeof named;

export const measures: readonly (Measure & { readonly name: MeasureName })[] = Object.entries(named).map(
  ([name, measure]) => ({ name: name as MeasureName, ...measure }),
);

export interface Sample extends LoadFigures {
  readonly target: string;
  readonly measure: MeasureName;
  readonly round: number;
  /** Processor time of the target's process for one operation. */
  readonly cpuUsPerOperation: number | undefined;
}

/** Runs one measure on one target; undefined where the target does not have the place. */
export async function take(
  load: LoadProgram,
  target: Target,
  measure: Measure & { readonly name: MeasureName },
  round: number,
  seconds: number,
): Promise<Sample | undefined> {
  const path = target.files[measure.place];
  if (path === undefined) return undefined;
  if (measure.fromDisk === true) {
    const backing = target.backing[measure.place];
    if (backing === undefined) return undefined;
    await load.drop(backing);
  }
  const cpuBefore = await target.cpuSeconds();
  const figures = await load.measure(measure.mode, path, seconds, ...measure.parameters);
  const cpuAfter = await target.cpuSeconds();
  const cpuUsPerOperation =
    cpuBefore === undefined || cpuAfter === undefined
      ? undefined
      : ((cpuAfter - cpuBefore) * 1e6) / figures.operations;
  return { target: target.name, measure: measure.name, round, cpuUsPerOperation, ...figures };
}
