import { open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import createDebug from 'debug';
import { limits, systemErrorCode } from '../base/index.js';
import type { VmPaths } from '../host/index.js';
import type { PackId } from '../repo/index.js';

const debug = createDebug('isr:daemon:packs');

/** A line that says: a publish has begun to upload. */
const publishBegunLine = 'publish';

/** Is there while something is stored that only the next publish will use. */
export function packRecordPath(paths: VmPaths): string {
  return join(paths.directory, 'publish-packs');
}

/** Whether a publish has begun to upload and did not come to its end. What was stored ahead of one does not count. */
export async function hasPublishBegun(paths: VmPaths): Promise<boolean> {
  return (await readLines(packRecordPath(paths))).includes(publishBegunLine);
}

/** None where it cannot be read. */
async function readLines(path: string): Promise<readonly string[]> {
  try {
    return (await readFile(path, 'latin1')).split('\n');
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT') debug('%s cannot be read: %o', path, error);
    return [];
  }
}

/**
 * Which packs the unfinished publishes of a VM have uploaded, and what was stored ahead of one, a line each, so that the next
 * one need not upload them again. It speaks of nothing that the store does not confirm, and nothing is lost with it: its own failures are noted
 * and ignored.
 */
export class PackRecord {
  readonly #path: string;
  #packs = 0;
  #saysPublish = false;

  constructor(paths: VmPaths) {
    this.#path = packRecordPath(paths);
  }

  /** In the order in which they were begun. */
  async read(): Promise<readonly PackId[]> {
    const lines = await readLines(this.#path);
    const packIds = lines.filter((line): line is PackId => /^[0-9a-f]{32}$/.test(line));
    this.#packs = packIds.length;
    this.#saysPublish = lines.includes(publishBegunLine);
    return packIds;
  }

  /**
   * Before a pack is uploaded: if it is not there in the end, no harm is done. Answers whether it was recorded: if not, only
   * the publish that uploads it will use it. Flushed when this resolves.
   */
  async add(packId: PackId, uploader: 'publish' | 'trickle'): Promise<boolean> {
    const isRecorded = this.#packs < limits.earlierPacksRecorded;
    const lines: string[] = isRecorded ? [packId] : [];
    if (uploader === 'publish' && !this.#saysPublish) lines.unshift(publishBegunLine);
    if (lines.length === 0) return false;
    if (isRecorded) this.#packs += 1;
    try {
      const file = await open(this.#path, 'a', 0o600);
      try {
        // A line that a full disk cut off must not swallow the next.
        await file.write(`\n${lines.join('\n')}\n`);
        await file.datasync();
      } finally {
        await file.close();
      }
    } catch (error) {
      debug('%s cannot be written: %o', this.#path, error);
      return false;
    }
    if (uploader === 'publish') this.#saysPublish = true;
    return isRecorded;
  }

  /** When the publish has come to its end. */
  async remove(): Promise<void> {
    this.#packs = 0;
    this.#saysPublish = false;
    await rm(this.#path, { force: true }).catch((error: unknown) => debug('%o', error));
  }
}
