import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { systemErrorCode } from '../base/index.js';
import { replaceFile, type VmPaths } from '../host/index.js';

/**
 * What the overlay holds of the guest, kept on this host's disk beside it: the journal of starting, resuming and
 * suspending. docs/operations.md says what each command does where it finds which.
 * - `fresh`: the guest has not run since the version (no record).
 * - `resuming`: its saved state is being loaded; it has not run yet, and everything is as it was before.
 * - `ran`: it runs, or its hypervisor died: memory and disks have moved on from the saved device state, which must
 *   never be resumed again.
 * - `stopped`: its device state is saved, and it does not run any more; what it wrote to memory and disks is with the
 *   kernel and the daemon, but not flushed yet.
 * - `saved`: all of it is flushed; the state waits to be published.
 */
export type GuestRecord = 'fresh' | 'resuming' | 'ran' | 'stopped' | 'saved';

/** Who holds what is not flushed yet: while that process lives, nothing of it is lost. */
const keeperSchema = v.object({
  bootId: v.nullable(v.string()),
  pid: v.number(),
  startTime: v.optional(v.number()),
});

export type Keeper = v.InferOutput<typeof keeperSchema>;

const steps = ['start', 'resume', 'suspend'] as const;

const schema = v.object({
  guest: v.picklist(['resuming', 'ran', 'stopped', 'saved']),
  /** The command that was under way; none when it came to its end. */
  step: v.optional(v.picklist(steps)),
  /** The adapter's kind. */
  hypervisor: v.optional(v.string()),
  /** When that became so, for people. */
  since: v.optional(v.string()),
  keeper: v.optional(keeperSchema),
});

/** What a record says beside its state. */
export interface GuestDetails {
  readonly step?: (typeof steps)[number] | undefined;
  readonly hypervisor?: string | undefined;
  /** Of `stopped`. */
  readonly keeper?: Keeper | undefined;
}

export interface GuestEntry extends GuestDetails {
  readonly guest: GuestRecord;
  readonly since?: string | undefined;
}

export async function readGuestEntry(paths: VmPaths): Promise<GuestEntry> {
  try {
    return v.parse(schema, JSON.parse(await readFile(recordPath(paths), 'utf8')));
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return { guest: 'fresh' };
    throw error;
  }
}

/** Returns when the record is flushed. */
export async function writeGuestRecord(
  paths: VmPaths,
  guest: GuestRecord,
  details: GuestDetails = {},
): Promise<void> {
  if (guest === 'fresh') {
    await rm(recordPath(paths), { force: true });
    return;
  }
  const entry = { guest, since: new Date().toISOString(), ...details };
  await replaceFile(recordPath(paths), `${JSON.stringify(entry)}\n`);
}

function recordPath(paths: VmPaths): string {
  return join(paths.directory, 'guest.json');
}
