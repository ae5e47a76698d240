import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import createDebug from 'debug';
import * as v from 'valibot';
import type { BlobReference, Branch, Commit, HostIdentity } from '../repo/index.js';
import { originIdentity, type Origin } from './origin.js';

const debug = createDebug('isr:daemon:ground');

/** What the record says; which of the two the overlay lies over, it says itself. */
export interface RecordedGround {
  readonly origin: Origin;
  readonly base: Origin;
}

const instant = v.pipe(
  v.string(),
  v.isoTimestamp(),
  v.transform((text) => new Date(text)),
);

const draft = {
  vmName: v.string(),
  mountPath: v.string(),
  host: v.object({ hostId: v.string(), hostName: v.string() }) satisfies v.GenericSchema<HostIdentity>,
  createdAt: instant,
  manifest: v.custom<BlobReference>((value) => typeof value === 'object' && value !== null),
  logicalBytes: v.number(),
  storedBytes: v.number(),
  parent: v.optional(v.number()),
};

const originSchema = v.variant('kind', [
  v.object({
    kind: v.literal('version'),
    commit: v.object({ ...draft, version: v.number(), position: v.number() }),
  }),
  v.object({ kind: v.literal('branch'), branch: v.object({ name: v.string(), commit: v.object(draft) }) }),
]);

const schema = v.object({ origin: originSchema, base: originSchema });

/**
 * What a mount's overlay lies over and what its next version is made from, beside the overlay, so that a worker which takes the
 * place of another needs no store for it. Written before it becomes true: `base` is what the overlay may still lie over. It is of no
 * use after the mount, and a hint even before: without it, the store is asked.
 */
export class GroundRecord {
  readonly #path: string;

  constructor(overlayDirectory: string) {
    this.#path = join(overlayDirectory, 'ground.json');
  }

  /** Acknowledged when it resolves. One that cannot be written does not stay as it was. */
  async write(ground: RecordedGround): Promise<void> {
    const temporary = `${this.#path}.new`;
    try {
      await writeFile(temporary, `${JSON.stringify(ground)}\n`, { mode: 0o600 });
      await rename(temporary, this.#path);
    } catch (error) {
      debug('%s is not written: %o', this.#path, error);
      await this.remove();
      await rm(temporary, { force: true });
    }
  }

  /** What was recorded, for an overlay over the base of this identity; undefined if there is nothing of use. */
  async read(identity: string): Promise<RecordedGround | undefined> {
    try {
      const { origin, base } = decode(await readFile(this.#path, 'utf8'));
      const under = [origin, base].find((one) => originIdentity(one) === identity);
      return under === undefined ? undefined : { origin, base: under };
    } catch (error) {
      debug('%s is of no use: %o', this.#path, error);
      return undefined;
    }
  }

  async remove(): Promise<void> {
    await rm(this.#path, { force: true });
  }
}

function decode(text: string): RecordedGround {
  const { origin, base } = v.parse(schema, JSON.parse(text));
  return { origin: branded(origin), base: branded(base) };
}

/** The numbers have been such before they were written. */
function branded(origin: v.InferOutput<typeof originSchema>): Origin {
  return origin.kind === 'version'
    ? { kind: 'version', commit: { ...origin.commit, parent: origin.commit.parent } as Commit }
    : { kind: 'branch', branch: { ...origin.branch } as Branch };
}
