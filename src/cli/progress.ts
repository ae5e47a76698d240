import type { Progress, ProgressListener } from '../base/index.js';
import { formatBytes, formatSeconds } from './format.js';
import type { Output } from './output.js';

/** Work that takes no longer is not worth a bar. */
const quietMs = 1000;

/**
 * Runs `work` and shows how far it is: on a terminal only, never with `--json`, after one second. The bar is gone
 * when the promise settles.
 */
export async function withProgress<T>(
  output: Output,
  title: string,
  work: (onProgress: ProgressListener | undefined) => Promise<T>,
): Promise<T> {
  if (output.json || !process.stderr.isTTY) return work(undefined);
  const display = new ProgressDisplay(title);
  try {
    return await work((progress) => display.update(progress));
  } finally {
    display.close();
  }
}

/** The line that a progress bar shows beside its bar. */
export function describeProgress(progress: Progress, elapsedSeconds: number): string {
  const rate = elapsedSeconds > 0 ? progress.doneBytes / elapsedSeconds : 0;
  const parts = [`${formatBytes(rate)}/s`];
  if (progress.totalBytes === undefined) {
    parts.unshift(formatBytes(progress.doneBytes));
  } else {
    parts.unshift(`${formatBytes(progress.doneBytes)} / ${formatBytes(progress.totalBytes)}`);
    if (rate > 0) {
      parts.push(`${formatSeconds(Math.max(0, progress.totalBytes - progress.doneBytes) / rate)} left`);
    }
  }
  if (progress.detail !== undefined) parts.push(progress.detail);
  return parts.join('  ');
}

class ProgressDisplay {
  readonly #title: string;
  readonly #startedAt = performance.now();
  readonly #timer: NodeJS.Timeout;
  #latest: Progress = { doneBytes: 0, totalBytes: undefined };
  #bar: { update: (progress: Progress) => void; stop: () => void } | undefined;
  #closed = false;

  constructor(title: string) {
    this.#title = title;
    this.#timer = setTimeout(() => void this.#show(), quietMs);
  }

  update(progress: Progress): void {
    this.#latest = progress;
    this.#bar?.update(progress);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#bar?.stop();
  }

  async #show(): Promise<void> {
    const { Format, Presets, SingleBar } = (await import('cli-progress')).default;
    if (this.#closed) return;
    const bar = new SingleBar(
      {
        clearOnComplete: true,
        hideCursor: true,
        fps: 5,
        format: (options, parameters) => {
          const elapsed = (performance.now() - this.#startedAt) / 1000;
          return `${this.#title} ${Format.BarFormat(parameters.progress, options)} ${describeProgress(this.#latest, elapsed)}`;
        },
      },
      Presets.shades_classic,
    );
    bar.start(this.#latest.totalBytes ?? 0, this.#latest.doneBytes);
    this.#bar = {
      update: ({ doneBytes, totalBytes }) => {
        if (totalBytes !== undefined) bar.setTotal(totalBytes);
        bar.update(doneBytes);
      },
      stop: () => bar.stop(),
    };
  }
}
