import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fuseNativeCapabilities, kernelCapabilities, type EngineName } from '../../src/fuse/index.js';
import { ChildProgram } from './child-program.js';
import { ExerciseFailed, type ExerciseOptions } from './exercise.js';
import { ExercisedVm } from './exercised-vm.js';
import { firstDifference, type TreeExerciserOptions } from './tree-exerciser.js';
import type { TreeAnswer, TreeRequest } from './tree-process.js';
import type { Snapshot } from './tree-walk.js';

const program = fileURLToPath(new URL('./tree-process.js', import.meta.url));
const capabilities = { kernel: kernelCapabilities, 'fuse-native': fuseNativeCapabilities };

export interface TreeExercise {
  readonly engine: EngineName;
  readonly seed: number;
  /** Of each process. */
  readonly operations: number;
  readonly processes: number;
  /** Times that all processes stop, and the VM is published or mounted again. */
  readonly rounds: number;
}

export interface TreeExerciseResult {
  /** Of all processes. */
  readonly operations: number;
  /** That were there at the end. */
  readonly entries: number;
}

type Process = ChildProgram<TreeRequest, TreeAnswer>;

/**
 * Several processes change names, files and attributes of one mount at once, each in a tree of its own and all in a
 * shared one. Then the tree is what it should be, and stays that when the VM is mounted again, published and exported.
 * @throws ExerciseFailed
 */
export async function exerciseTrees(
  exercise: TreeExercise,
  { signal, onProgress = () => undefined }: ExerciseOptions = {},
): Promise<TreeExerciseResult> {
  await using vm = await ExercisedVm.create(
    { ...exercise, link: undefined },
    { base: Buffer.alloc(100_000, 'base') },
  );
  await vm.mount();
  const processes = Array.from({ length: exercise.processes }, (_, index) =>
    startProcess(exercise, vm, index, signal),
  );
  try {
    return await new RunningTrees(exercise, vm, processes, onProgress).run();
  } finally {
    await Promise.all(processes.map((process) => process[Symbol.asyncDispose]()));
  }
}

function startProcess(
  { engine, seed }: TreeExercise,
  vm: ExercisedVm,
  index: number,
  signal: AbortSignal | undefined,
): Process {
  const { renameModes, callerIdentity, inodeIdentity, timeResolutionNs } = capabilities[engine];
  const options: TreeExerciserOptions = {
    seed: seed * 1000 + index,
    privateRoot: join(vm.mountPath, `own-${index}`),
    sharedRoot: join(vm.mountPath, 'shared'),
    referenceRoot: join(vm.trial.root, 'reference', `own-${index}`),
    renameModes,
    callerIdentity,
    namelessVisible: inodeIdentity,
    timeResolutionNs: Number(timeResolutionNs),
  };
  return new ChildProgram(program, options, signal);
}

class RunningTrees {
  readonly #exercise: TreeExercise;
  readonly #vm: ExercisedVm;
  readonly #processes: readonly Process[];
  readonly #onProgress: (text: string) => void;

  constructor(
    exercise: TreeExercise,
    vm: ExercisedVm,
    processes: readonly Process[],
    onProgress: (text: string) => void,
  ) {
    this.#exercise = exercise;
    this.#vm = vm;
    this.#processes = processes;
    this.#onProgress = onProgress;
  }

  async run(): Promise<TreeExerciseResult> {
    const { operations, rounds, processes } = this.#exercise;
    let snapshot: Snapshot = [];
    for (let round = 0; round < rounds; round++) {
      await this.#all({ type: 'run', operations: Math.ceil(operations / rounds) });
      await this.#all({ type: 'compare' });
      await this.#ask(0, { type: 'settle', root: this.#vm.mountPath });
      snapshot = await this.#walk(this.#vm.mountPath);
      this.#onProgress(`round ${round + 1} of ${rounds}: ${snapshot.length} entries`);
      await this.#makeEvent(round);
      this.#requireSame(await this.#walk(this.#vm.mountPath), snapshot, 'the mount');
    }
    await this.#vm.publish();
    this.#requireSame(await this.#walk(this.#vm.mountPath), snapshot, 'the mount after publishing');
    const { errors } = (await this.#vm.status()).engine;
    if (errors > 0) throw this.#failure(`${errors} requests of the kernel failed`);
    await this.#vm.unmount();
    this.#requireSame(await this.#walk(await this.#vm.export(), false), snapshot, 'the exported version');
    return { operations: operations * processes, entries: snapshot.length };
  }

  async #makeEvent(round: number): Promise<void> {
    if (round % 2 === 1) {
      await this.#vm.publish();
      return;
    }
    await this.#vm.unmount();
    if (round % 4 === 2) await this.#vm.publish();
    await this.#vm.mount();
  }

  async #all(request: TreeRequest): Promise<void> {
    await Promise.all(this.#processes.map((_, index) => this.#ask(index, request)));
  }

  async #walk(root: string, countsDirectoryLinks = true): Promise<Snapshot> {
    const answer = await this.#ask(0, { type: 'walk', root, countsDirectoryLinks });
    if (answer.type !== 'walked') throw new Error('no tree was walked');
    return answer.snapshot;
  }

  async #ask(index: number, request: TreeRequest): Promise<TreeAnswer> {
    const process = this.#processes[index];
    if (process === undefined) throw new Error('no such process');
    const answer = await process.ask(request);
    if (answer.type === 'failed') throw this.#failure(`process ${index}: ${answer.message}`);
    return answer;
  }

  #requireSame(found: Snapshot, wanted: Snapshot, what: string): void {
    const difference = firstDifference(found, wanted);
    if (difference !== undefined) throw this.#failure(`${what}: ${difference}`);
  }

  #failure(message: string): ExerciseFailed {
    const { engine, seed, operations, processes, rounds } = this.#exercise;
    return new ExerciseFailed(
      `${message}\nAgain: make exercise WHAT=trees ENGINE=${engine} SEED=${seed} OPS=${operations} PROCESSES=${processes} ROUNDS=${rounds}`,
    );
  }
}
