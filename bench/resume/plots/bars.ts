import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { median } from '../../support/statistics.js';
import { resultsDirectory } from '../results.js';
import type { RunRecord } from '../runs.js';
import { subjects } from '../subjects/index.js';
import { fileName, openPage, pageEnd, text, ticksBetween } from './svg.js';

const width = 900;
const labelWidth = 260;
const rowHeight = 34;
const top = 56;
const plotWidth = width - labelWidth - 110;

const colours = { first: '#2b6cb0', work: '#ed8936', bytes: '#718096' };

interface Bar {
  readonly title: string;
  readonly first: number;
  readonly work: number;
  readonly workLeast: number;
  readonly workMost: number;
  readonly megabytes: number;
}

/** One drawing for each guest and link, beside `resume.json`: times to first tick and to work done, bytes fetched. */
export async function drawBars(runs: readonly RunRecord[]): Promise<void> {
  for (const place of new Set(runs.map(({ guest, link }) => `${guest} guest, ${link}`))) {
    const here = runs.filter(({ guest, link }) => `${guest} guest, ${link}` === place);
    const bars = subjects.flatMap(({ name, title }) => {
      const mine = here.filter(({ subject }) => subject === name);
      return mine.length === 0 ? [] : [barOf(title, mine)];
    });
    await writeFile(join(resultsDirectory, `resume-${fileName(place)}.svg`), barChart(place, bars));
  }
}

function barOf(title: string, runs: readonly RunRecord[]): Bar {
  const works = runs.map(({ seconds }) => seconds.work);
  return {
    title,
    first: median(runs.map(({ seconds }) => seconds.first)),
    work: median(works),
    workLeast: Math.min(...works),
    workMost: Math.max(...works),
    megabytes: median(runs.map(({ bytes }) => bytes.work)) / 1e6,
  };
}

/** Times on a logarithmic scale: the subjects differ by factors, not by seconds. */
function barChart(title: string, bars: readonly Bar[]): string {
  const height = top + rowHeight * bars.length + 40;
  const least = Math.min(...bars.map(({ first }) => first)) / 1.5;
  const most = Math.max(...bars.map(({ workMost }) => workMost)) * 1.1;
  const x = (seconds: number): number =>
    labelWidth + (plotWidth * Math.log(seconds / least)) / Math.log(most / least);
  const ticks = ticksBetween(least, most);
  const bottom = top + rowHeight * bars.length;
  return [
    ...openPage(width, height, title),
    ...legend(),
    ...ticks.flatMap((tick) => [
      `<line x1="${x(tick)}" y1="${top - 8}" x2="${x(tick)}" y2="${bottom}" stroke="#e2e8f0"/>`,
      text(x(tick), bottom + 18, `${tick} s`, 'text-anchor="middle" fill="#4a5568"'),
    ]),
    ...bars.flatMap((bar, row) => drawBar(bar, top + row * rowHeight, x)),
    pageEnd,
  ].join('\n');
}

function legend(): readonly string[] {
  return [
    `<rect x="${width - 330}" y="14" width="12" height="12" fill="${colours.first}"/>`,
    text(width - 312, 25, 'first tick'),
    `<rect x="${width - 235}" y="14" width="12" height="12" fill="${colours.work}"/>`,
    text(width - 217, 25, 'work done, least to most'),
  ];
}

function drawBar(bar: Bar, y: number, x: (seconds: number) => number): readonly string[] {
  const middle = y + rowHeight / 2;
  const rect = (from: number, to: number, colour: string): string =>
    `<rect x="${from}" y="${y + 7}" width="${Math.max(1, to - from)}" height="${rowHeight - 16}" fill="${colour}"/>`;
  return [
    text(labelWidth - 8, middle + 4, bar.title, 'text-anchor="end"'),
    rect(labelWidth, x(bar.first), colours.first),
    rect(x(bar.first), x(bar.work), colours.work),
    `<line x1="${x(bar.workLeast)}" y1="${middle}" x2="${x(bar.workMost)}" y2="${middle}" stroke="black"/>`,
    text(
      x(bar.workMost) + 6,
      middle + 4,
      `${bar.first.toFixed(1)} / ${bar.work.toFixed(1)} s, ${bar.megabytes.toFixed(0)} MB`,
      `fill="${colours.bytes}" font-size="11"`,
    ),
  ];
}
