import { open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { systemErrorCode } from '../base/index.js';
import type { VmPaths } from '../host/index.js';

/**
 * What the overlay holds of the guest, kept on this host's disk beside it:
 * - `fresh`: the guest has not run since the version (no record).
 * - `ran`: it runs, or its hypervisor died: memory and disks have moved on from the saved device state, which must
 *   never be resumed again.
 * - `saved`: the hypervisor saved it completely; the state waits to be published.
 */
export type GuestRecord = 'fresh' | 'ran' | 'saved';

const schema = v.object({ guest: v.picklist(['ran', 'saved']) });

export async function readGuestRecord(paths: VmPaths): Promise<GuestRecord> {
  try {
    return v.parse(schema, JSON.parse(await readFile(recordPath(paths), 'utf8'))).guest;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return 'fresh';
    throw error;
  }
}

/** Returns when the record is flushed. */
export async function writeGuestRecord(paths: VmPaths, guest: GuestRecord): Promise<void> {
  if (guest === 'fresh') await rm(recordPath(paths), { force: true });
  else await replaceRecord(recordPath(paths), JSON.stringify({ guest }));
  const directory = await open(paths.directory, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

async function replaceRecord(path: string, text: string): Promise<void> {
  const temporary = `${path}.new`;
  const file = await open(temporary, 'w', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
}

function recordPath(paths: VmPaths): string {
  return join(paths.directory, 'guest.json');
}
