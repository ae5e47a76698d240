import { mkdirSync } from 'node:fs';
import { Draw } from './draw.js';
import { MountLost, tellsOfLoss } from './loss.js';
import { drawTreeOperation, outcomeOf, type TreeOperation } from './tree-operations.js';
import { adoptTornFile } from './torn-file.js';
import { settleTimes, walkTree } from './tree-walk.js';

export interface TreeExerciserOptions {
  readonly seed: number;
  /** On the mount, this process's own. */
  readonly privateRoot: string;
  /** On the mount, used by others at the same time. */
  readonly sharedRoot: string;
  /** On a local file system: shows what Linux does. */
  readonly referenceRoot: string;
  /** Whether rename flags work; otherwise they are `EINVAL`. */
  readonly renameModes: boolean;
  /** Whether new files belong to who makes them. */
  readonly callerIdentity: boolean;
  /** Whether what is open, and is no regular file, can be looked at when it has lost its name. */
  readonly namelessVisible: boolean;
  readonly timeResolutionNs: number;
}

/** Operations of which a failure shows the last. */
const remembered = 40;

/** One operation in so many is made where others work, too. */
const sharedEvery = 3;

/**
 * Random operations on names and what they name. In a tree of its own everything must come out as on a local file
 * system, the errors included; in a shared one, where others change what it looks at, as the manual allows.
 */
export class TreeExerciser {
  readonly #options: TreeExerciserOptions;
  readonly #draw: Draw;
  readonly #excluded: ReadonlySet<string>;
  readonly #last: string[] = [];
  #number = 0;
  /** The mount may be lost: an operation that fails for that says nothing. */
  #mayBeLost = false;
  /** On the own tree, when the mount was lost. */
  #underWay: TreeOperation | undefined;

  constructor(options: TreeExerciserOptions) {
    this.#options = options;
    this.#draw = new Draw(options.seed);
    // Where new files do not belong to who makes them, owners differ from a local file system's.
    this.#excluded = new Set([
      ...(options.callerIdentity ? [] : ['changeOwner']),
      ...(options.namelessVisible ? [] : ['removeOpenDirectory', 'renameOverOpenOther']),
    ]);
    process.umask(0);
    mkdirSync(options.privateRoot);
    mkdirSync(options.sharedRoot, { recursive: true });
    mkdirSync(options.referenceRoot, { recursive: true });
  }

  /** `mayBeLost`: the mount may be, meanwhile. @throws Error with the last operations; MountLost */
  run(count: number, mayBeLost = false): void {
    this.#mayBeLost = mayBeLost;
    for (let done = 0; done < count; done++) {
      this.#number += 1;
      const operation = drawTreeOperation(this.#draw, this.#excluded);
      if (this.#draw.oneIn(sharedEvery)) this.#runShared(operation);
      else this.#runPrivate(operation);
    }
  }

  /** Compares this process's tree with the local one, names, content, attributes and times. @throws Error */
  compare(): void {
    const difference = this.#difference();
    if (difference !== undefined) this.#fail(`${this.#options.privateRoot} differs: ${difference}`);
  }

  /**
   * The trees are mounted again after a loss. Everything acknowledged must be there; the operation that was under way was
   * made, or was not; of what it wrote to a file there may be a part. @throws Error
   */
  recover(): void {
    const { privateRoot, sharedRoot, referenceRoot } = this.#options;
    walkTree(sharedRoot, { countsDirectoryLinks: true });
    const operation = this.#underWay;
    this.#underWay = undefined;
    const unmade = this.#difference();
    if (unmade === undefined) return;
    if (operation === undefined) this.#fail(`after the loss ${privateRoot} differs: ${unmade}`);
    adoptTornFile(privateRoot, referenceRoot, () => outcomeOf(() => operation.apply(referenceRoot)));
    const made = this.#difference();
    if (made === undefined) return;
    this.#fail(`after the loss, neither was the last operation not made (${unmade}) nor made (${made})`);
  }

  /** How the own tree differs from the local one. */
  #difference(): string | undefined {
    const { privateRoot, referenceRoot, timeResolutionNs } = this.#options;
    settleTimes(privateRoot, timeResolutionNs);
    settleTimes(referenceRoot, timeResolutionNs);
    const found = walkTree(privateRoot, { countsDirectoryLinks: true });
    const wanted = walkTree(referenceRoot, { countsDirectoryLinks: false });
    return firstDifference(found, wanted);
  }

  #runPrivate(operation: TreeOperation): void {
    const { privateRoot, referenceRoot, renameModes } = this.#options;
    this.#underWay = operation;
    const outcome = this.#apply(operation, privateRoot, 'own');
    this.#underWay = undefined;
    if (!renameModes && outcome === 'EINVAL' && flaggedRenames.has(operation.name)) return;
    const wanted = outcomeOf(() => operation.apply(referenceRoot));
    if (outcome !== wanted) this.#fail(`${outcome} instead of ${wanted}`);
  }

  #runShared(operation: TreeOperation): void {
    const outcome = this.#apply(operation, this.#options.sharedRoot, 'shared');
    if (!/^E[A-Z]+$/.test(outcome)) return;
    const isLegal = pathErrors.has(outcome) || legalErrors[operation.name]?.includes(outcome) === true;
    if (!isLegal) this.#fail(`${outcome}, which ${operation.name} may not fail with`);
  }

  #apply(operation: TreeOperation, root: string, where: string): string {
    this.#last.push(`${this.#number} ${where} ${operation.description}`);
    if (this.#last.length > remembered) this.#last.shift();
    const outcome = outcomeOf(() => operation.apply(root));
    if (this.#mayBeLost && tellsOfLoss(outcome)) throw new MountLost(outcome);
    return outcome;
  }

  #fail(what: string): never {
    const last = this.#last.map((line) => line.replaceAll(/n{255}/g, 'n…'));
    throw new Error([`operation ${this.#number}: ${what}`, 'The last operations:', ...last].join('\n'));
  }
}

/** The first line in which two lists differ. */
export function firstDifference(found: readonly string[], wanted: readonly string[]): string | undefined {
  for (let at = 0; at < Math.max(found.length, wanted.length); at++) {
    if (found[at] !== wanted[at])
      return `found ${found[at] ?? 'nothing'}, expected ${wanted[at] ?? 'nothing'}`;
  }
  return undefined;
}

const flaggedRenames: ReadonlySet<string> = new Set(['renameWithoutReplacing', 'renameExchanging']);

/** What any call that takes a path may fail with. */
const pathErrors: ReadonlySet<string> = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG']);

const renameErrors = ['ENOTEMPTY', 'EISDIR', 'EINVAL', 'EEXIST'];

/** What else each operation may fail with, by the manual pages of its calls. */
const legalErrors: Partial<Record<TreeOperation['name'], readonly string[]>> = {
  // ESPIPE and EAGAIN are a fifo's.
  writeFile: ['EEXIST', 'EISDIR', 'ESPIPE', 'EAGAIN'],
  readFile: ['EISDIR', 'EAGAIN'],
  truncate: ['EISDIR', 'EINVAL'],
  makeDirectory: ['EEXIST'],
  removeDirectory: ['ENOTEMPTY'],
  unlink: ['EISDIR'],
  makeSymlink: ['EEXIST'],
  readSymlink: ['EINVAL'],
  makeFifo: ['EEXIST'],
  link: ['EEXIST', 'EPERM'],
  rename: renameErrors,
  renameWithoutReplacing: renameErrors,
  renameExchanging: renameErrors,
  renameOverOpen: renameErrors,
  renameOverOpenOther: renameErrors,
  unlinkOpen: ['EISDIR'],
  removeOpenDirectory: ['ENOTEMPTY'],
  setAttribute: ['EPERM', 'EEXIST', 'ENODATA'],
  getAttribute: ['EPERM', 'ENODATA', 'ERANGE'],
  removeAttribute: ['EPERM', 'ENODATA'],
};
