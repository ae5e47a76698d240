import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import createDebug from 'debug';
import * as v from 'valibot';
import type { Branch } from '../repo/index.js';
import { brandedCommit, commitSchema, draftSchema } from './commit-record.js';
import { originIdentity, type Origin } from './origin.js';

const debug = createDebug('isr:daemon:ground');

/** What the record says; which of the two the overlay lies over, it says itself. */
export interface RecordedGround {
  readonly origin: Origin;
  readonly base: Origin;
}

const originSchema = v.variant('kind', [
  v.object({ kind: v.literal('version'), commit: commitSchema }),
  v.object({ kind: v.literal('branch'), branch: v.object({ name: v.string(), commit: draftSchema }) }),
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
    ? { kind: 'version', commit: brandedCommit(origin.commit) }
    : { kind: 'branch', branch: { ...origin.branch } as Branch };
}
