import { randomBytes } from 'node:crypto';
import * as v from 'valibot';
import type { HostIdentity } from '../repo/index.js';
import { createFile, readFileIfPresent } from './atomic-file.js';
import { HomeDamaged } from './errors.js';

const schema = v.strictObject({
  hostId: v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/)),
  hostName: v.pipe(v.string(), v.nonEmpty(), v.maxLength(255)),
});

/** The identity of this home, made at its first use. Concurrent first uses agree on one. */
export async function loadIdentity(path: string, hostName: string): Promise<HostIdentity> {
  const known = await readFileIfPresent(path);
  if (known !== undefined) return parseIdentity(path, known);
  const made: HostIdentity = { hostId: randomBytes(16).toString('hex'), hostName };
  if ((await createFile(path, `${JSON.stringify(made, null, 2)}\n`)) === 'created') return made;
  return parseIdentity(path, (await readFileIfPresent(path)) ?? '');
}

function parseIdentity(path: string, content: string): HostIdentity {
  try {
    return v.parse(schema, JSON.parse(content));
  } catch (cause) {
    throw new HomeDamaged(
      path,
      'Restore it from a backup. Without it leases of this host must be broken: then move the file away and a new identity is made.',
      { cause },
    );
  }
}
