import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { median } from '../../support/statistics.js';
import { resultsDirectory } from '../results.js';
import type { RunRecord } from '../runs.js';
import { fileName, openPage, pageEnd, text, ticksBetween } from './svg.js';

const width = 900;
const height = 520;
const left = 70;
const right = 270;
const top = 56;
const bottom = height - 60;

/** A way to resume, and how it is drawn. */
const series = [
  { subject: 'isr-trace', title: 'nothing at hand, with a trace', colour: '#2b6cb0' },
  { subject: 'isr-first', title: 'nothing at hand, first ever', colour: '#38a169' },
  { subject: 'isr-older-tier', title: 'an older version at hand', colour: '#d53f8c' },
  { subject: 'copy-gzip', title: 'copy in: gzip -1', colour: '#718096' },
] as const;

interface Point {
  readonly mbps: number;
  readonly first: number;
  readonly work: number;
}

interface Line {
  readonly title: string;
  readonly colour: string;
  readonly points: readonly Point[];
}

/**
 * For each guest and round trip that was measured with more than one bandwidth: how long resumes took with each, cold and
 * with an older version at hand. Dashed to the first tick, solid to work done; both scales are logarithmic.
 */
export async function drawBandwidths(runs: readonly RunRecord[]): Promise<void> {
  const placeOf = ({ guest, linkKind }: RunRecord): string => `${guest} guest, ${linkKind.rttMs} ms`;
  for (const place of new Set(runs.map(placeOf))) {
    const here = runs.filter((record) => placeOf(record) === place);
    const lines = series.map(({ subject, ...line }) => ({
      ...line,
      points: pointsOf(here.filter((record) => record.subject === subject)),
    }));
    const bandwidths = new Set(lines.flatMap(({ points }) => points.map(({ mbps }) => mbps)));
    if (bandwidths.size < 2) continue;
    const drawing = lineChart(place, lines, [...bandwidths]);
    await writeFile(join(resultsDirectory, `resume-bandwidth-${fileName(place)}.svg`), drawing);
  }
}

/** Medians, the fastest link first. */
function pointsOf(runs: readonly RunRecord[]): readonly Point[] {
  return [...new Set(runs.map(({ linkKind }) => linkKind.mbps))]
    .sort((one, other) => other - one)
    .map((mbps) => {
      const here = runs.filter(({ linkKind }) => linkKind.mbps === mbps);
      return {
        mbps,
        first: median(here.map(({ seconds }) => seconds.first)),
        work: median(here.map(({ seconds }) => seconds.work)),
      };
    });
}

function lineChart(title: string, lines: readonly Line[], bandwidths: readonly number[]): string {
  const seconds = lines.flatMap(({ points }) => points.flatMap(({ first, work }) => [first, work]));
  const least = Math.min(...seconds) / 1.3;
  const most = Math.max(...seconds) * 1.3;
  const fastest = Math.max(...bandwidths);
  const slowest = Math.min(...bandwidths);
  // From fast to slow, as the lookaside paper has it.
  const x = (mbps: number): number =>
    left + ((width - left - right) * Math.log(fastest / mbps)) / Math.log(fastest / slowest);
  const y = (value: number): number =>
    bottom - ((bottom - top) * Math.log(value / least)) / Math.log(most / least);
  return [
    ...openPage(width, height, `Resume time against bandwidth: ${title}`),
    ...ticksBetween(least, most).flatMap((tick) => [
      `<line x1="${left}" y1="${y(tick)}" x2="${width - right}" y2="${y(tick)}" stroke="#e2e8f0"/>`,
      text(left - 8, y(tick) + 4, `${tick} s`, 'text-anchor="end" fill="#4a5568"'),
    ]),
    ...bandwidths.flatMap((mbps) => [
      `<line x1="${x(mbps)}" y1="${top}" x2="${x(mbps)}" y2="${bottom}" stroke="#e2e8f0"/>`,
      text(x(mbps), bottom + 20, `${mbps} Mb/s`, 'text-anchor="middle" fill="#4a5568"'),
    ]),
    text(left, bottom + 44, 'solid: to work done; dashed: to the first tick', 'fill="#4a5568"'),
    ...lines.flatMap((line, index) => (line.points.length === 0 ? [] : drawLine(line, index, x, y))),
    pageEnd,
  ].join('\n');
}

function drawLine(
  { title, colour, points }: Line,
  index: number,
  x: (mbps: number) => number,
  y: (seconds: number) => number,
): readonly string[] {
  const path = (secondsOf: (point: Point) => number, attributes: string): string =>
    `<polyline points="${points.map((point) => `${x(point.mbps)},${y(secondsOf(point))}`).join(' ')}" ` +
    `fill="none" stroke="${colour}" stroke-width="2" ${attributes}/>`;
  const legendY = top + 12 + index * 22;
  return [
    path(({ work }) => work, ''),
    path(({ first }) => first, 'stroke-dasharray="6 4"'),
    ...points.map(({ mbps, work }) => `<circle cx="${x(mbps)}" cy="${y(work)}" r="4" fill="${colour}"/>`),
    ...points.map(({ mbps, first }) => `<circle cx="${x(mbps)}" cy="${y(first)}" r="3" fill="${colour}"/>`),
    `<rect x="${width - right + 24}" y="${legendY - 10}" width="12" height="12" fill="${colour}"/>`,
    text(width - right + 42, legendY, title),
  ];
}
