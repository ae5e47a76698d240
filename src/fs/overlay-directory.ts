import { existsSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { systemErrorCode } from '../base/index.js';
import { bootId } from '../system/index.js';
import { DataFiles } from './data-file.js';
import { readOverlayState } from './overlay-state.js';
import { journalPath } from './overlay.js';
import type { AnnouncedCommits } from './records.js';

export interface OverlaySummary {
  /** Which version the changes were made to. */
  readonly identity: string;
  /** Whole pages that no version has. */
  readonly dirtyBytes: number;
  /** Inodes that were changed, made or removed. */
  readonly changedFiles: number;
  /** Commits that were to be made from it, oldest first, and whether it was changed after the last. */
  readonly announced: AnnouncedCommits;
  /** No inode of it has this number, or a larger one. */
  readonly nextInode: number;
}

/** Whether a directory holds an overlay. */
export function overlayExists(directory: string): boolean {
  return existsSync(journalPath(directory));
}

/**
 * What an overlay holds, without opening it; undefined where there is none. Of an overlay that is open elsewhere it
 * tells what was acknowledged at some time during the call. Rejects with `OverlayDamaged` or `OverlayFormatUnknown`.
 */
export async function readOverlaySummary(directory: string): Promise<OverlaySummary | undefined> {
  try {
    const { header, table, announced } = await readOverlayState(journalPath(directory), {
      bootId: bootId(),
      dataFiles: new DataFiles(join(directory, 'data')),
      openFile: () => {
        throw new Error('a summary reads no content');
      },
    });
    return {
      identity: header.base,
      dirtyBytes: table.overlayBytes(),
      changedFiles: table.changedCount(),
      announced,
      nextInode: table.nextInode,
    };
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Removes an overlay and its directory; not while it is open. It is an overlay until it is none: a crash leaves no half. */
export async function discardOverlay(directory: string): Promise<void> {
  if (!existsSync(directory)) return;
  await rm(journalPath(directory), { force: true });
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rm(directory, { recursive: true, force: true });
}
