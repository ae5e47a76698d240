import { execFile } from 'node:child_process';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { TouchedUntil } from './bound.js';
import type { RunRecord } from './runs.js';
import type { Summary } from './summary.js';

const run = promisify(execFile);

const checkout = fileURLToPath(new URL('../../../', import.meta.url));

export const resultsDirectory = join(checkout, 'bench', 'results');

const resultsPath = join(resultsDirectory, 'resume.json');

/** What `resume.json` holds. */
export interface Results {
  /** Of the large guest at 100 Mb/s and 20 ms. */
  readonly summary?: Summary | undefined;
  /** The same for every guest and link. */
  readonly summaries?: readonly Summary[];
  /** What a resume touches, by guest. */
  readonly touched?: Readonly<Record<string, TouchedUntil>>;
  readonly runs: readonly RunRecord[];
}

export async function startResults(): Promise<void> {
  await writeResults({ runs: [] });
}

export async function readResults(): Promise<Results> {
  try {
    return JSON.parse(await readFile(resultsPath, 'utf8')) as Results;
  } catch {
    return { runs: [] };
  }
}

/** Kept at once, so that a suite that is interrupted has lost nothing. */
export async function addRun(record: RunRecord): Promise<void> {
  const results = await readResults();
  await writeResults({ ...results, runs: [...results.runs, record] });
}

export async function addTouched(guest: string, touched: TouchedUntil): Promise<void> {
  const results = await readResults();
  await writeResults({ ...results, touched: { ...results.touched, [guest]: touched } });
}

export async function writeResults(results: Results): Promise<void> {
  await mkdir(resultsDirectory, { recursive: true });
  await writeFile(`${resultsPath}.new`, `${JSON.stringify(results, null, 1)}\n`);
  await rename(`${resultsPath}.new`, resultsPath);
}

/** The commit of this checkout, with a plus sign where files were changed. */
export async function revisionOf(): Promise<string> {
  const git = async (...parameters: string[]): Promise<string> =>
    (await run('git', parameters, { cwd: checkout })).stdout.trim();
  try {
    const changed = await git('status', '--porcelain', '--untracked-files=no');
    return `${await git('rev-parse', '--short', 'HEAD')}${changed === '' ? '' : '+'}`;
  } catch {
    return 'unknown';
  }
}
