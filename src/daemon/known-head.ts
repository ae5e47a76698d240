import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import createDebug from 'debug';
import * as v from 'valibot';
import { readSeen, replaceFile, type VmPaths } from '../host/index.js';
import type { LogPosition, VmHead } from '../repo/index.js';
import { brandedCommit, commitSchema, hostSchema, instantSchema } from './commit-record.js';

const debug = createDebug('isr:daemon:known');

/** The VM's log as this host saw it last. */
export interface KnownHead {
  readonly head: VmHead;
  readonly seenAt: Date;
}

const leaseSchema = v.variant('state', [
  v.object({ state: v.literal('free') }),
  v.object({ state: v.literal('held'), holder: hostSchema, leaseNumber: v.number(), since: instantSchema }),
]);

const schema = v.object({
  seenAt: instantSchema,
  head: v.object({ position: v.number(), latest: v.optional(commitSchema), lease: leaseSchema }),
});

/**
 * Remembers what a VM's log says, for the time when the store is away. A hint, as everything of this kind: what is
 * done on its word is checked when it is published. Nothing older takes the place of something newer; where this cannot be
 * recorded, nothing stays recorded.
 */
export async function rememberHead(paths: VmPaths, head: VmHead): Promise<void> {
  const path = pathOf(paths);
  try {
    if (await isOlderThanKnown(paths, head)) return;
    await replaceFile(path, `${JSON.stringify({ seenAt: new Date(), head })}\n`);
  } catch (error) {
    debug('what was seen is not recorded: %o', error);
    await rm(path, { force: true }).catch((also: unknown) => debug('%s stays: %o', path, also));
  }
}

/** Not where the user removed what guards against a store that goes back: then the store is right. */
async function isOlderThanKnown(paths: VmPaths, { position }: VmHead): Promise<boolean> {
  const known = (await readKnownHead(paths))?.head.position ?? 0;
  if (position >= known) return false;
  const seen = await readSeen(paths);
  return seen !== undefined && seen.position >= known;
}

/** Undefined where nothing of use was recorded. */
export async function readKnownHead(paths: VmPaths): Promise<KnownHead | undefined> {
  try {
    const { seenAt, head } = v.parse(schema, JSON.parse(await readFile(pathOf(paths), 'utf8')));
    const latest = head.latest === undefined ? undefined : brandedCommit(head.latest);
    const position = head.position as LogPosition;
    return { seenAt, head: { position, latest, lease: head.lease as VmHead['lease'] } };
  } catch (error) {
    debug('%s is of no use: %o', pathOf(paths), error);
    return undefined;
  }
}

function pathOf({ directory }: VmPaths): string {
  return join(directory, 'known.json');
}
