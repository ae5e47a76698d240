import { limits } from '../../base/index.js';
import type { ObjectKey } from '../../store/index.js';
import type { BlobKind } from '../types.js';
import type { Problem } from './problem.js';

/** Something that cannot be read back, and what of the version it takes with it. */
export interface Damage {
  readonly object: ObjectKey;
  readonly problem: Problem['problem'];
  /** `pack`: the pack's own header or index, which reading a version does not need; or the whole pack, if missing. */
  readonly what: BlobKind | 'pack';
  readonly message: string;
  /** Undefined where no single file is affected: of a pack as such, or of the whole version (its manifest). */
  readonly file:
    { readonly path: string; readonly offsetBytes: number; readonly lengthBytes: number } | undefined;
}

/** Collects damages: neighbouring ranges of one file with one cause are one damage, and the list has a bound. */
export class DamageList {
  readonly #listed: Damage[] = [];
  #omitted = 0;

  get listed(): readonly Damage[] {
    return this.#listed;
  }

  /** Damages that were found but are not listed. */
  get omitted(): number {
    return this.#omitted;
  }

  add(problem: Problem, what: Damage['what'], file: Damage['file']): void {
    const damage: Damage = { ...problem, what, file };
    const merged = mergedWith(this.#listed.at(-1), damage);
    if (merged !== undefined) this.#listed[this.#listed.length - 1] = merged;
    else if (this.#listed.length < limits.verifyDamagesListed) this.#listed.push(damage);
    else this.#omitted += 1;
  }
}

function mergedWith(last: Damage | undefined, next: Damage): Damage | undefined {
  if (last?.file === undefined || next.file === undefined) return undefined;
  const continues =
    last.object === next.object &&
    last.problem === next.problem &&
    last.what === next.what &&
    last.file.path === next.file.path &&
    last.file.offsetBytes + last.file.lengthBytes === next.file.offsetBytes;
  if (!continues) return undefined;
  const lengthBytes = last.file.lengthBytes + next.file.lengthBytes;
  return { ...last, file: { ...last.file, lengthBytes } };
}
