import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import createDebug from 'debug';
import * as v from 'valibot';
import { limits, systemErrorCode } from '../base/index.js';
import { discardOverlay, readOverlaySummary, rootInode } from '../fs/index.js';
import { replaceFile, type VmPaths } from '../host/index.js';

const debug = createDebug('isr:daemon:inodes');

const schema = v.object({ next: v.pipe(v.number(), v.safeInteger(), v.minValue(rootInode + 1)) });

/** An overlay whose records are damaged may have used so many numbers. */
const unknownNumbers = 1_000_000;

/**
 * Takes `count` inode numbers for a new overlay and returns the first. Overlays that follow each other at a VM's path
 * share no number, so that whoever knows a file by its number never takes one for another.
 */
export async function takeInodeNumbers(paths: VmPaths, count: number): Promise<number> {
  const other = await readOverlaySummary(paths.overlay).catch(() => undefined);
  const first = Math.max(await readNext(paths), other?.nextInode ?? 0);
  await writeNext(paths, first + count);
  return first;
}

/** Removes an overlay of the VM; numbers that it gave to inodes are not given again. */
export async function dropOverlay(paths: VmPaths, directory: string): Promise<void> {
  const next = await readNext(paths);
  const used = await readOverlaySummary(directory).then(
    (summary) => summary?.nextInode ?? next,
    () => next + unknownNumbers,
  );
  try {
    if (used > next) await writeNext(paths, used);
  } catch (error) {
    // Dropping an overlay is what makes room on a full disk.
    debug('the next inode number of %s is not recorded: %o', directory, error);
  }
  await discardOverlay(directory);
}

async function readNext(paths: VmPaths): Promise<number> {
  try {
    const parsed = v.safeParse(schema, JSON.parse(await readFile(recordPath(paths), 'utf8')));
    // 32 bits are all that `fuse-native` has: in time numbers begin anew.
    if (parsed.success)
      return parsed.output.next > limits.inodeNumbersRestart ? rootInode + 1 : parsed.output.next;
  } catch (error) {
    if (!(error instanceof SyntaxError) && systemErrorCode(error) !== 'ENOENT') throw error;
  }
  return rootInode + 1;
}

async function writeNext(paths: VmPaths, next: number): Promise<void> {
  await replaceFile(recordPath(paths), `${JSON.stringify({ next })}\n`);
}

function recordPath(paths: VmPaths): string {
  return join(paths.directory, 'inodes.json');
}
