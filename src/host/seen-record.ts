import * as v from 'valibot';
import type { LogPosition, SeenPosition } from '../repo/index.js';
import { readFileIfPresent, replaceFile } from './atomic-file.js';
import { HomeDamaged } from './errors.js';
import type { VmPaths } from './types.js';

const schema = v.strictObject({
  position: v.pipe(
    v.number(),
    v.safeInteger(),
    v.minValue(0),
    v.transform((position) => position as LogPosition),
  ),
  digest: v.pipe(v.string(), v.regex(/^[0-9a-f]+$/)),
});

/** What this host saw last of a VM's log; undefined when it never looked. `HomeDamaged`. */
export async function readSeen(paths: VmPaths): Promise<SeenPosition | undefined> {
  const content = await readFileIfPresent(paths.seenRecord);
  if (content === undefined) return undefined;
  try {
    return v.parse(schema, JSON.parse(content));
  } catch (cause) {
    throw new HomeDamaged(
      paths.seenRecord,
      'Remove it if you trust the store: it is made again, and only protects against a store that goes back in time.',
      { cause },
    );
  }
}

/** Remembers what was seen, unless something newer is remembered already. The VM's directory must exist. */
export async function writeSeen(paths: VmPaths, seen: SeenPosition): Promise<void> {
  const known = await readSeen(paths);
  if (known !== undefined && known.position >= seen.position) return;
  await replaceFile(paths.seenRecord, `${JSON.stringify(seen)}\n`);
}
