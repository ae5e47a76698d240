import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { fuseNativeCapabilities, kernelCapabilities, type EngineName } from '../../src/fuse/index.js';
import { ChildProgram, type Failed } from '../exerciser/child-program.js';
import { Draw } from '../exerciser/draw.js';
import { ExercisedVm } from '../exerciser/exercised-vm.js';
import { operationNames } from '../exerciser/file-operations.js';
import { describeOperation, operationsAt, readOperationLog } from '../exerciser/operation-log.js';
import type { PlaceOfDifference } from '../exerciser/protocol.js';
import { describeCrash, drawCrash, type CrashPlan } from './crash-plan.js';
import type {
  CrashRequest,
  FileProgramArguments,
  LabAnswer,
  TreeCrashRequest,
  TreeProgramArguments,
} from './protocol.js';
import { isRunning } from '../support/supervised-mount.js';
import { sabotage, type Sabotage } from './sabotage.js';

const capabilities = { kernel: kernelCapabilities, 'fuse-native': fuseNativeCapabilities };

const fileBytesMax = 256 * 1024;
const operationBytesMax = 64 * 1024;

/** Operations on names, for each on files. */
const treeOperationsPerFileOperation = 2;

/** Looking at all names takes long, and a crash that takes no mount away should not change them. */
const crashesPerTreeCheck = 8;

/** What was written is then part of a version, over which the next changes lie. */
const crashesPerPublish = 24;

/** Lines of the daemon's log that a failure shows. */
const logTailLines = 40;

const supervisorIntervalMs = 20;

/** Lines of a log that a failure shows. */
const tailLines = 16;

export interface CrashedVmOptions {
  readonly engine: EngineName;
  readonly seed: number;
  readonly breaks?: Sabotage | undefined;
  readonly signal: AbortSignal;
}

/** Something is not as it should be after a crash. */
export class CrashLabFailed extends Error {
  override readonly name = 'CrashLabFailed';
}

export interface Crash {
  readonly processesKilled: number;
  readonly mountLost: boolean;
}

/** One mounted VM of the lab, and the two programs that use it while the processes that serve it are killed. */
export class CrashedVm implements AsyncDisposable {
  readonly #options: CrashedVmOptions;
  readonly #vm: ExercisedVm;
  readonly #draw: Draw;
  readonly #logPath: string;
  readonly #files: ChildProgram<CrashRequest, LabAnswer>;
  readonly #tree: ChildProgram<TreeCrashRequest, LabAnswer>;
  #crashes = 0;
  /** What happened to it, the latest last. */
  readonly #history: string[] = [];

  private constructor(options: CrashedVmOptions, vm: ExercisedVm) {
    const { seed, engine, signal } = options;
    const { renameModes, callerIdentity, inodeIdentity, timeResolutionNs, allocate } = capabilities[engine];
    const { root, mountPath } = vm.trial;
    this.#options = options;
    this.#vm = vm;
    this.#draw = new Draw(seed);
    this.#logPath = join(root, 'operations');
    const fileProgram: FileProgramArguments = {
      ...{ mountPath, originals: vm.originals, seed, logPath: this.#logPath },
      ...{ fileNames: ['base', 'new'], fileBytesMax, operationBytesMax, allocates: allocate },
    };
    const treeProgram: TreeProgramArguments = {
      ...{ mountPath, seed: seed + 1, privateRoot: 'own', sharedRoot: 'shared' },
      ...{ referenceRoot: join(root, 'reference'), renameModes, callerIdentity },
      ...{ namelessVisible: inodeIdentity, timeResolutionNs: Number(timeResolutionNs) },
    };
    this.#files = new ChildProgram(pathOf('file-program'), fileProgram, signal);
    this.#tree = new ChildProgram(pathOf('tree-program'), treeProgram, signal);
  }

  static async create(options: CrashedVmOptions): Promise<CrashedVm> {
    const content = new Draw(~options.seed).data(Math.floor(fileBytesMax * 0.7));
    const vm = await ExercisedVm.create({ ...options, link: undefined }, { base: content });
    try {
      await vm.mount();
      const crashed = new CrashedVm(options, vm);
      await crashed.#all({ type: 'enter' });
      await crashed.#all({ type: 'check' });
      return crashed;
    } catch (error) {
      await vm[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Kills what is drawn, and looks at what is left. @throws CrashLabFailed */
  async crash(): Promise<Crash> {
    const plan = this.#drawPlan();
    this.#crashes += 1;
    this.#note(describeCrash(plan));
    const { workerPid, supervisorPid = 0 } = await this.#processes();
    const { mayLoseMount, holdsOn } = plan;
    const operations = plan.operations * treeOperationsPerFileOperation;
    const metLoss = await Promise.all([
      this.#ask(this.#files, { type: 'run', plan, workerPid, supervisorPid }),
      this.#ask(this.#tree, { type: 'run', operations, mayLoseMount, holdsOn }),
    ]);
    const mountLost = mayLoseMount && !(await this.#vm.isMounted());
    if (mountLost) await this.#mountAgain(plan);
    else if (metLoss.includes(true)) throw this.#failure('an operation failed on a mount that goes on');
    else await this.#check();
    if (this.#crashes % crashesPerPublish === 0) await this.#publish();
    return { processesKilled: plan.strikes.length, mountLost };
  }

  /** What is published at the end is what the programs have written. @throws CrashLabFailed */
  async finish(): Promise<void> {
    await this.#all({ type: 'check' });
    await this.#all({ type: 'leave' });
    await this.#vm.publish();
    const { errors } = (await this.#vm.status()).engine;
    if (errors > 0) throw this.#failure(`${errors} requests of the kernel failed`);
    await this.#vm.unmount();
    await this.#ask(this.#files, { type: 'compare', directory: await this.#vm.export() });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#files[Symbol.asyncDispose](), this.#tree[Symbol.asyncDispose]()]);
    await this.#vm[Symbol.asyncDispose]();
  }

  async #processes(): Promise<{ readonly workerPid: number; readonly supervisorPid: number | undefined }> {
    for (;;) {
      const { workerPid, supervisorPid } = (await this.#vm.status()).daemon;
      // One that was killed may not be replaced yet, nor missed.
      const isThere = supervisorPid !== undefined && (await isRunning(supervisorPid));
      if (isThere || this.#options.engine !== 'kernel') return { workerPid, supervisorPid };
      await sleep(supervisorIntervalMs);
    }
  }

  /** Something can be broken only while nobody serves the mount. */
  #drawPlan(): CrashPlan {
    const { engine, breaks } = this.#options;
    for (;;) {
      const plan = drawCrash(this.#draw, engine === 'kernel');
      if (breaks === undefined || plan.mayLoseMount) return plan;
    }
  }

  /** Nobody noticed anything. */
  async #check(): Promise<void> {
    await this.#ask(this.#files, { type: 'check' });
    if (this.#crashes % crashesPerTreeCheck === 0) await this.#ask(this.#tree, { type: 'check' });
  }

  async #mountAgain({ byCommand }: CrashPlan): Promise<void> {
    this.#note('mounted again');
    await this.#all({ type: 'abandon' });
    if (this.#options.breaks !== undefined) sabotage(this.#options.breaks, this.#vm.overlayPath);
    try {
      await (byCommand ? this.#vm.mountByCommand() : this.#vm.mount());
    } catch (error) {
      throw this.#failure(`it cannot be mounted again: ${String(error)}`);
    }
    await this.#all({ type: 'enter' });
    await this.#all({ type: 'recover' });
  }

  async #publish(): Promise<void> {
    this.#note('published');
    await this.#all({ type: 'leave' });
    await this.#vm.publish();
    await this.#all({ type: 'enter' });
    await this.#all({ type: 'check' });
  }

  async #all(request: Exclude<CrashRequest, { type: 'run' }>): Promise<void> {
    await Promise.all([this.#ask(this.#files, request), this.#ask(this.#tree, request)]);
  }

  async #ask<Request extends object>(
    program: ChildProgram<Request, LabAnswer>,
    request: Request,
  ): Promise<boolean> {
    const answer = await program.ask(request);
    if (answer.type === 'failed') throw this.#failure(answer.message, answer);
    return answer.metLoss;
  }

  #note(what: string): void {
    this.#history.push(`${this.#crashes}: ${what}`);
    if (this.#history.length > tailLines) this.#history.shift();
  }

  #failure(
    message: string,
    { place }: Partial<Failed & { readonly place: PlaceOfDifference }> = {},
  ): CrashLabFailed {
    const logged = readOperationLog(this.#logPath, operationNames);
    const shown =
      place === undefined
        ? logged.slice(-tailLines)
        : operationsAt(logged, place.file, place.offsetBytes, tailLines);
    return new CrashLabFailed(
      [
        `crash ${this.#crashes} of the mount with seed ${this.#options.seed}: ${message}`,
        'The last crashes:',
        ...this.#history,
        place === undefined ? 'The last operations on files:' : 'The last operations on this page:',
        ...shown.map(describeOperation),
        ...(place === undefined ? [] : ['The last operations on files:']),
        ...(place === undefined ? [] : logged.slice(-tailLines).map(describeOperation)),
        'The last lines of daemon.log:',
        ...this.#vm.logTail(logTailLines),
      ].join('\n'),
    );
  }
}

function pathOf(program: string): string {
  return fileURLToPath(new URL(`./${program}.js`, import.meta.url));
}
