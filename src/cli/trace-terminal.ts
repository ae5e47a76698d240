import type { Trace } from '../repo/index.js';
import { formatBytes, formatCount, formatSeconds } from './format.js';
import { filesOfTrace, lastTouchMs } from './trace-files.js';

const stripCells = 60;
const filesShown = 8;
const shades = ['·', '░', '▒', '▓', '█'] as const;
const bars = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'] as const;

/** What a trace looks like in a terminal: how densely each file is touched along its length, and how much when. */
export function traceForTerminal(trace: Trace): string {
  const files = filesOfTrace(trace);
  const shown = files.slice(0, filesShown);
  const width = Math.max(4, ...shown.map(({ path }) => path.length));
  const lines = shown.map(({ path, entries, chunks }) => {
    const strip = densities(
      entries.map(({ chunkIndex }) => chunkIndex),
      chunks,
    );
    const touched = `${formatCount(entries.length, 'chunk')} within ${formatBytes(chunks * trace.chunkBytes)}`;
    return `${path.padEnd(width)}  ${drawn(strip, shades)}  ${touched}`;
  });
  if (files.length > shown.length) lines.push(`and ${formatCount(files.length - shown.length, 'more file')}`);
  const lastMs = lastTouchMs(trace);
  const times = densities(
    trace.entries.map(({ atMs }) => atMs),
    lastMs + 1,
  );
  const most = Math.max(...times, Number.MIN_VALUE);
  const overTime = times.map((density) => density / most);
  return [
    ...lines,
    '',
    `${'time'.padEnd(width)}  ${drawn(overTime, bars)}  first touches, 0 to ${formatSeconds(lastMs / 1000)}`,
  ].join('\n');
}

/** How many of the places in each cell are taken, as a fraction of what the cell holds. */
function densities(places: readonly number[], length: number): number[] {
  const cells = Math.min(stripCells, length);
  const counts = new Array<number>(cells).fill(0);
  for (const place of places) {
    const cell = Math.floor((place / length) * cells);
    counts[cell] = (counts[cell] ?? 0) + 1;
  }
  return counts.map((count) => Math.min(1, count / (length / cells)));
}

/** Something is never drawn as nothing. */
function drawn(densities: readonly number[], steps: readonly string[]): string {
  const strip = densities.map((density) => steps[Math.ceil(density * (steps.length - 1))] ?? '');
  return strip.join('').padEnd(stripCells);
}
