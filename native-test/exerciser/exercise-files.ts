import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fuseNativeCapabilities, kernelCapabilities, type EngineName } from '../../src/fuse/index.js';
import { ChildProgram, type Failed } from './child-program.js';
import { Draw } from './draw.js';
import { ExerciseFailed, type ExerciseOptions } from './exercise.js';
import { ExercisedVm } from './exercised-vm.js';
import { operationNames } from './file-operations.js';
import { describeOperation, operationsAt, readOperationLog } from './operation-log.js';
import type { ExerciserAnswer, ExerciserArguments, ExerciserRequest, PlaceOfDifference } from './protocol.js';

const program = fileURLToPath(new URL('./file-process.js', import.meta.url));
const capabilities = { kernel: kernelCapabilities, 'fuse-native': fuseNativeCapabilities };

const pageBytes = 4096;

/** Reads while a version is published. */
const looksPerPublish = 200;

/** What happens to the VM between operations, in turn. */
const events = ['publish', 'publish', 'remount', 'publish', 'publishUnmounted'] as const;

export interface FileExercise {
  readonly engine: EngineName;
  readonly seed: number;
  readonly operations: number;
  /** Operations between two events: a version is published, or the VM is unmounted and mounted again. */
  readonly operationsPerEvent: number;
  /** Parameters of a `lab+` store, as `rttMs=1&errorRate=0.01`, with tiny caches; none: the store is near. */
  readonly link: string | undefined;
  readonly fileBytesMax: number;
}

/** What an exercise has done. */
export interface FileExerciseResult {
  readonly operations: number;
  readonly events: number;
  /** Chunks that operations waited for, and requests for them that the store had to be asked again. */
  readonly demandRequests: number;
  readonly repeatedRequests: number;
  readonly refusedAhead: number;
}

/**
 * Imports a version, mounts it, and makes random operations on its file and on new ones, with publishing, unmounting
 * and mounting between them. The version that is published at the end is exported, and is what the model says.
 * @throws ExerciseFailed
 */
export async function exerciseFiles(
  exercise: FileExercise,
  { signal, onProgress }: ExerciseOptions = {},
): Promise<FileExerciseResult> {
  await using vm = await ExercisedVm.create(exercise, { base: baseContent(exercise) });
  await vm.mount();
  return await new RunningExercise(exercise, vm, { signal, onProgress }).run();
}

/** Random bytes, zeros and holes, so that pages of the overlay, of the version and of neither lie side by side. */
function baseContent({ seed, fileBytesMax }: FileExercise): Uint8Array {
  const draw = new Draw(~seed);
  const content = Buffer.alloc(Math.floor(fileBytesMax * 0.7) + draw.below(pageBytes));
  for (let at = 0; at < content.length; at += 16_384) {
    if (draw.oneIn(5)) continue;
    content.set(draw.data(Math.min(draw.length(16_384), content.length - at)), at);
  }
  return content;
}

class RunningExercise {
  readonly #exercise: FileExercise;
  readonly #vm: ExercisedVm;
  readonly #logPath: string;
  readonly #child: ChildProgram<ExerciserRequest, ExerciserAnswer>;
  readonly #onProgress: (text: string) => void;
  #operations = 0;
  #events = 0;
  #demandRequests = 0;
  #repeatedRequests = 0;
  #refusedAhead = 0;

  constructor(exercise: FileExercise, vm: ExercisedVm, { signal, onProgress }: ExerciseOptions) {
    this.#exercise = exercise;
    this.#vm = vm;
    this.#onProgress = onProgress ?? (() => undefined);
    this.#logPath = join(vm.trial.root, 'operations');
    const { engine, seed, fileBytesMax } = exercise;
    const options: ExerciserArguments = {
      directory: vm.mountPath,
      originals: vm.originals,
      seed,
      logPath: this.#logPath,
      fileNames: ['base', 'new'],
      fileBytesMax,
      operationBytesMax: Math.min(Math.floor(fileBytesMax / 4), 256 * 1024),
      allocates: capabilities[engine].allocate,
    };
    this.#child = new ChildProgram(program, options, signal);
  }

  async run(): Promise<FileExerciseResult> {
    try {
      const { operations, operationsPerEvent } = this.#exercise;
      await this.#ask({ type: 'check' });
      while (this.#operations < operations) {
        const count = Math.min(operationsPerEvent, operations - this.#operations);
        await this.#ask({ type: 'run', operations: count });
        this.#operations += count;
        await this.#makeEvent();
        this.#onProgress(`${this.#operations} operations`);
      }
      await this.#compareExported();
    } finally {
      await this.#child[Symbol.asyncDispose]();
    }
    return {
      operations: this.#operations,
      events: this.#events,
      demandRequests: this.#demandRequests,
      repeatedRequests: this.#repeatedRequests,
      refusedAhead: this.#refusedAhead,
    };
  }

  async #makeEvent(): Promise<void> {
    const event = events[this.#events % events.length] ?? 'publish';
    this.#events += 1;
    await this.#ask({ type: 'letGo', keepReading: event === 'publish' });
    if (event === 'publish') {
      // Whoever reads sees nothing of it.
      await Promise.all([this.#vm.publish(), this.#ask({ type: 'look', operations: looksPerPublish })]);
    } else {
      await this.#count();
      await this.#vm.unmount();
      if (event === 'publishUnmounted') await this.#vm.publish();
      await this.#vm.mount();
    }
    if (this.#events % 4 === 0) await this.#ask({ type: 'check' });
  }

  async #compareExported(): Promise<void> {
    await this.#ask({ type: 'check' });
    await this.#ask({ type: 'letGo', keepReading: false });
    await this.#count();
    await this.#vm.publish();
    await this.#ask({ type: 'compare', directory: await this.#vm.export() });
  }

  /** Adds up what the daemon has counted, before it ends. */
  async #count(): Promise<void> {
    const { fetch, engine } = await this.#vm.status();
    if (fetch.errors > 0) throw new ExerciseFailed(`a fetch failed for good: ${fetch.lastError ?? ''}`);
    if (engine.errors > 0) throw new ExerciseFailed(`${engine.errors} requests of the kernel failed`);
    this.#demandRequests += fetch.fetches.demand.requests;
    this.#repeatedRequests += fetch.trouble.retries;
    this.#refusedAhead += engine.refusedAhead;
  }

  async #ask(request: ExerciserRequest): Promise<void> {
    const answer = await this.#child.ask(request);
    if (answer.type === 'failed') throw this.#failure(answer);
  }

  #failure({ message, place }: Failed & { readonly place?: PlaceOfDifference }): ExerciseFailed {
    const { engine, seed, operations, operationsPerEvent, link, fileBytesMax } = this.#exercise;
    const logged = readOperationLog(this.#logPath, operationNames);
    const shown =
      place === undefined ? logged.slice(-16) : operationsAt(logged, place.file, place.offsetBytes);
    const command =
      `make exercise ENGINE=${engine} SEED=${seed} OPS=${operations}` +
      ` OPS_PER_EVENT=${operationsPerEvent} FILE_BYTES=${fileBytesMax}` +
      (link === undefined ? '' : ` LINK='${link}'`);
    return new ExerciseFailed(
      [
        `operation ${logged.at(-1)?.number ?? 0}, after ${this.#events} events: ${message}`,
        place === undefined ? 'The last operations:' : 'The last operations on this page:',
        ...shown.map(describeOperation),
        `Again: ${command}`,
      ].join('\n'),
    );
  }
}
