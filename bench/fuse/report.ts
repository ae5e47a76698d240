import { formatTable } from '../support/table.js';
import type { MeasureName } from './measures.js';
import { bytesPerSecond, cpuUs, medianUs, p99Us, perSecond, type Ratio, type Results } from './results.js';

type Cell = (results: Results, target: string) => string;

const rate =
  (measure: MeasureName): Cell =>
  (results, target) =>
    number(results.median(target, measure, perSecond), 0, '/s');
const megabytes =
  (measure: MeasureName): Cell =>
  (results, target) =>
    number(results.median(target, measure, bytesPerSecond) / 1e6, 0, ' MB/s');
const middle =
  (measure: MeasureName): Cell =>
  (results, target) =>
    number(results.median(target, measure, medianUs), 0, ' us');
const slowest =
  (measure: MeasureName): Cell =>
  (results, target) =>
    number(results.median(target, measure, p99Us), 0, ' us');
const processor =
  (measure: MeasureName): Cell =>
  (results, target) =>
    number(results.median(target, measure, cpuUs), 0, ' us');

const tables: readonly {
  readonly title: string;
  readonly columns: readonly (readonly [title: string, cell: Cell])[];
}[] = [
  {
    title: 'Random 4 KiB reads of local, decoded data',
    columns: [
      ['1 reader', rate('random')],
      ['median', middle('random')],
      ['p99', slowest('random')],
      ['server CPU', processor('random')],
      ['memory tier', rate('randomMemory')],
      ['median', middle('randomMemory')],
      ['p99', slowest('randomMemory')],
      ['4 readers', rate('random4')],
      ['16 readers', rate('random16')],
      ['p99', slowest('random16')],
    ],
  },
  {
    title:
      'Sequential reads; page faults at random; 4 KiB writes, acknowledged and flushed (pwrite + fdatasync)',
    columns: [
      ['128 KiB', megabytes('sequential128KiB')],
      ['1 MiB', megabytes('sequential1MiB')],
      ['1 MiB O_DIRECT', megabytes('direct1MiB')],
      ['huge pages', megabytes('huge')],
      ['faults', rate('fault')],
      ['median', middle('fault')],
      ['writes', rate('write')],
      ['median', middle('write')],
      ['flushed', rate('flush')],
      ['median', middle('flush')],
    ],
  },
  {
    title:
      'Chunks sealed in the local cache, each read opens one; beside it the same bytes decoded in the overlay, both from disk',
    columns: [
      ['sealed', rate('sealedRandom')],
      ['median', middle('sealedRandom')],
      ['p99', slowest('sealedRandom')],
      ['1 MiB', megabytes('sealedSequential')],
      ['from disk: sealed', middle('sealedRandomFromDisk')],
      ['1 MiB', megabytes('sealedSequentialFromDisk')],
      ['decoded', middle('randomFromDisk')],
      ['1 MiB', megabytes('sequentialFromDisk')],
    ],
  },
];

export function printTables(results: Results, targets: readonly string[]): void {
  for (const { title, columns } of tables) {
    const rows = targets
      .map((target) => [target, ...columns.map(([, cell]) => cell(results, target))])
      .filter((row) => row.slice(1).some((cell) => cell !== '-'));
    console.log(`\n${title}\n\n${formatTable(['', ...columns.map(([name]) => name)], rows)}`);
  }
}

/** A bound that issue and documentation name, and what was measured. */
export interface Verdict {
  readonly what: string;
  readonly ratio: Ratio;
  readonly atLeast?: number;
  readonly atMost?: number;
  /** Undefined where nothing is wanted, and the ratio only told. */
  readonly met: boolean | undefined;
}

/** What the kernel engine is held to, for each of its rows. */
export function judge(
  results: Results,
  names: {
    /** The package fuse-native as it is published, by which the bound was set. */
    readonly package: string;
    readonly native: string;
    readonly reference: string;
    readonly ours: readonly string[];
  },
): readonly Verdict[] {
  const { package: published, native, reference, ours } = names;
  const verdicts: (Verdict | undefined)[] = ours.flatMap((target) => [
    verdict(
      `${target}: 1 reader, overlay, times ${published}`,
      results.ratio(target, published, 'random', perSecond),
      { atLeast: 3.5 },
    ),
    verdict(
      `${target}: 1 reader, overlay, times our adapter of ${native}`,
      results.ratio(target, native, 'random', perSecond),
    ),
    verdict(
      `${target}: 1 reader, memory tier, times our adapter of ${native}`,
      results.ratio(target, native, 'randomMemory', perSecond),
    ),
    verdict(`${target}: median, times ${reference}`, results.ratio(target, reference, 'random', medianUs), {
      atMost: 1.5,
    }),
    verdict(
      `${target}: sequential at 128 KiB, times ${native}`,
      results.ratio(target, native, 'sequential128KiB', bytesPerSecond),
      { atLeast: 1 },
    ),
    verdict(
      `${target}: sequential at 1 MiB, times ${native}`,
      results.ratio(target, native, 'sequential1MiB', bytesPerSecond),
      { atLeast: 1 },
    ),
  ]);
  const [one, ...more] = ours;
  if (one !== undefined) {
    for (const target of more) {
      verdicts.push(
        verdict(`${target}: 16 readers, times ${one}`, results.ratio(target, one, 'random16', perSecond), {
          atLeast: 1,
        }),
      );
    }
  }
  return verdicts.filter((each) => each !== undefined);
}

export function printVerdicts(verdicts: readonly Verdict[]): void {
  console.log(
    `\nRatios within each round\n\n${formatTable(
      ['', 'median', 'least', 'most', 'wanted', ''],
      verdicts.map(({ what, ratio, atLeast, atMost, met }) => [
        what,
        ratio.median.toFixed(2),
        ratio.least.toFixed(2),
        ratio.most.toFixed(2),
        atLeast !== undefined ? `>= ${atLeast}` : atMost !== undefined ? `<= ${atMost}` : '',
        met === undefined ? '' : met ? 'met' : 'NOT MET',
      ]),
    )}`,
  );
}

function verdict(
  what: string,
  ratio: Ratio | undefined,
  wanted: { readonly atLeast?: number; readonly atMost?: number } = {},
): Verdict | undefined {
  if (ratio === undefined) return undefined;
  const { atLeast, atMost } = wanted;
  const isBound = atLeast !== undefined || atMost !== undefined;
  const met = ratio.median >= (atLeast ?? 0) && ratio.median <= (atMost ?? Infinity);
  return { what, ratio, ...wanted, met: isBound ? met : undefined };
}

function number(value: number, digits: number, unit: string): string {
  return Number.isNaN(value) ? '-' : `${value.toFixed(digits)}${unit}`;
}
