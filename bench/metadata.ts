import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { ChangesResult, OpenResult } from './metadata/subject.js';
import { formatTable } from './support/table.js';

const run = promisify(execFile);
const program = fileURLToPath(new URL('./metadata/subject.js', import.meta.url));

const measured = ['journal', 'overlay', 'lmdb, transactionSync', 'lmdb, batch'] as const;

/** Who fills for whom: what is opened is the same file, however it came to be. */
const opened = { overlay: 'overlay', lmdb: 'lmdb, transactionSync, noSync' } as const;

/** The overlay's journal and LMDB, at making files: what an acknowledged change and a flush cost, and opening 100,000 files. */
export async function benchMetadata(): Promise<object> {
  const changes: Record<string, ChangesResult> = {};
  for (const subject of measured) {
    changes[subject] = await inDirectory((directory) =>
      measure<ChangesResult>(subject, directory, 'changes'),
    );
  }
  console.log(
    formatTable(
      ['', 'change, us', 'change and flush, us'],
      Object.entries(changes).map(([name, { changeUs, flushUs }]) => [
        name,
        changeUs.toFixed(0),
        flushUs.toFixed(0),
      ]),
    ),
  );
  const opening: Record<string, OpenResult> = {};
  for (const [name, subject] of Object.entries(opened)) {
    opening[name] = await inDirectory(async (directory) => {
      await measure(subject, directory, 'fill');
      return measure<OpenResult>(subject, directory, 'open');
    });
  }
  console.log(
    formatTable(
      ['opening 100,000 files', 'ms', 'MB'],
      Object.entries(opening).map(([name, { openMs, residentBytes }]) => [
        name,
        openMs.toFixed(0),
        (residentBytes / 1e6).toFixed(0),
      ]),
    ),
  );
  return { changes, opening };
}

async function inDirectory<T>(work: (directory: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), 'isr-metadata-'));
  try {
    return await work(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function measure<T>(subject: string, directory: string, what: string): Promise<T> {
  const { stdout } = await run(process.execPath, [program, subject, directory, what]);
  return JSON.parse(stdout) as T;
}
