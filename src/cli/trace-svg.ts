import type { StoredTrace } from '../repo/index.js';
import { likelyTouches } from '../trace/index.js';
import { formatBytes, formatCount, formatSeconds } from './format.js';
import { filesOfTrace, lastTouchMs, type TracedFile } from './trace-files.js';

const width = 1000;
const height = 700;
const plot = { left: 190, right: 960, top: 70, bottom: 650 } as const;
const bandGap = 8;
const bandHeightMin = 10;
const bandsMax = 12;
const ticks = 5;
const colours = { likely: '#1f5fa8', chance: '#c9ccd1', text: '#333333', frame: '#999999' } as const;

/**
 * A picture of a trace: time to the right, each file a band from its first byte (top) to the last chunk that was touched.
 * Its size is bounded by the points that it has room for.
 */
export function traceAsSvg(vmName: string, { number, trace }: StoredTrace): string {
  const files = filesOfTrace(trace);
  const likely = new Set(likelyTouches(trace));
  const lastMs = Math.max(1, lastTouchMs(trace));
  const bands = placeBands(files.slice(0, bandsMax));
  const title = `What resumes of ${vmName} touch: trace ${number}, ${formatCount(trace.resumes, 'resume')}, ${formatCount(trace.entries.length, 'chunk')} of ${formatBytes(trace.chunkBytes)}`;
  const omitted =
    files.length > bands.length ? `; ${formatCount(files.length - bands.length, 'more file')} not shown` : '';
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${width}" height="${height}" fill="white"/>`,
    text(plot.left, 28, title, 'font-size="16"'),
    text(plot.left, 48, `Blue: what the next resume is likely to touch. Grey: chance${omitted}.`),
    ...timeAxis(lastMs),
  ];
  for (const { file, top, bottom } of bands) {
    parts.push(
      `<rect x="${plot.left}" y="${top}" width="${plot.right - plot.left}" height="${bottom - top}" fill="none" stroke="${colours.frame}" stroke-width="0.5"/>`,
      text(plot.left - 8, (top + bottom) / 2, shortened(file.path), 'text-anchor="end"'),
    );
    if (bottom - top > 3 * bandHeightMin) {
      const size = `${formatCount(file.entries.length, 'chunk')}, to ${formatBytes(file.chunks * trace.chunkBytes)}`;
      parts.push(text(plot.left - 8, (top + bottom) / 2 + 14, size, 'text-anchor="end" font-size="10"'));
    }
    for (const kind of ['chance', 'likely'] as const) {
      const entries = file.entries.filter((entry) => likely.has(entry) === (kind === 'likely'));
      const points = new Set(
        entries.map(({ atMs, chunkIndex }) => {
          const x = plot.left + (atMs / lastMs) * (plot.right - plot.left - 2);
          const y = top + 1 + (chunkIndex / file.chunks) * (bottom - top - 2);
          return `M${x.toFixed(0)} ${y.toFixed(0)}h2`;
        }),
      );
      if (points.size > 0) {
        parts.push(`<path d="${[...points].join('')}" stroke="${colours[kind]}" stroke-width="2"/>`);
      }
    }
  }
  return `${[...parts, '</svg>'].join('\n')}\n`;
}

interface Band {
  readonly file: TracedFile;
  readonly top: number;
  readonly bottom: number;
}

/** Heights follow the number of touched chunks, so that dense files have room. */
function placeBands(files: readonly TracedFile[]): readonly Band[] {
  const total = files.reduce((sum, { entries }) => sum + entries.length, 0);
  const free = plot.bottom - plot.top - files.length * (bandGap + bandHeightMin);
  let top: number = plot.top;
  return files.map((file) => {
    const bottom = top + bandHeightMin + Math.floor((free * file.entries.length) / Math.max(1, total));
    const band = { file, top, bottom };
    top = bottom + bandGap;
    return band;
  });
}

function timeAxis(lastMs: number): string[] {
  return Array.from({ length: ticks + 1 }, (_, tick) => {
    const x = plot.left + (tick / ticks) * (plot.right - plot.left);
    return text(x, plot.bottom + 20, formatSeconds((lastMs * tick) / ticks / 1000), 'text-anchor="middle"');
  });
}

function shortened(path: string): string {
  return path.length <= 26 ? path : `…${path.slice(-25)}`;
}

function text(x: number, y: number, content: string, attributes = ''): string {
  return `<text x="${x.toFixed(0)}" y="${y.toFixed(0)}" fill="${colours.text}" ${attributes}>${escaped(content)}</text>`;
}

/** Names of files can hold anything, control characters that XML has no place for among it. */
function escaped(content: string): string {
  return (
    content
      // eslint-disable-next-line no-control-regex -- those are meant
      .replace(/[\0-\x1f\x7f\ufffe\uffff]/g, '\ufffd')
      .replace(/&/g, '&amp;')
      .replace(/</g, '&lt;')
      .replace(/>/g, '&gt;')
  );
}
