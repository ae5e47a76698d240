import { open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import createDebug from 'debug';
import { limits, systemErrorCode } from '../base/index.js';
import type { VmPaths } from '../host/index.js';
import type { PackId } from '../repo/index.js';

const debug = createDebug('isr:daemon:packs');

/** Is there while a publish is unfinished. */
export function packRecordPath(paths: VmPaths): string {
  return join(paths.directory, 'publish-packs');
}

/**
 * Which packs the unfinished publishes of a VM have uploaded, a line each, so that the next one need not upload them
 * again. It speaks of nothing that the store does not confirm, and nothing is lost with it: its own failures are noted
 * and ignored.
 */
export class PackRecord {
  readonly #path: string;
  #packs = 0;

  constructor(paths: VmPaths) {
    this.#path = packRecordPath(paths);
  }

  /** In the order in which they were begun. */
  async read(): Promise<readonly PackId[]> {
    try {
      const lines = (await readFile(this.#path, 'latin1')).split('\n');
      const packIds = lines.filter((line): line is PackId => /^[0-9a-f]{32}$/.test(line));
      this.#packs = packIds.length;
      return packIds;
    } catch (error) {
      if (systemErrorCode(error) !== 'ENOENT') debug('%s cannot be read: %o', this.#path, error);
      return [];
    }
  }

  /** Before a pack is uploaded: if it is not there in the end, no harm is done. Flushed when this resolves. */
  async add(packId: PackId): Promise<void> {
    if (this.#packs >= limits.earlierPacksRecorded) return;
    this.#packs += 1;
    try {
      const file = await open(this.#path, 'a', 0o600);
      try {
        // A line that a full disk cut off must not swallow the next.
        await file.write(`\n${packId}\n`);
        await file.datasync();
      } finally {
        await file.close();
      }
    } catch (error) {
      debug('%s cannot be written: %o', this.#path, error);
    }
  }

  /** When the publish has come to its end. */
  async remove(): Promise<void> {
    this.#packs = 0;
    await rm(this.#path, { force: true }).catch((error: unknown) => debug('%o', error));
  }
}
