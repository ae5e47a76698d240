import { existsSync, readFileSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { Difference, firstDifference } from './difference.js';
import { Draw } from './draw.js';
import { ExercisedFile, waysToRead } from './exercised-file.js';
import { FileComparison } from './file-comparison.js';
import {
  atomicityOf,
  drawnNames,
  FileOperations,
  type OperationName,
  type Touched,
} from './file-operations.js';
import type { MappedAccess } from './mapped-access.js';
import type { OperationLog } from './operation-log.js';
import { adviseFile, fileAdvice, MappedMemory } from './system-calls.js';

const pageBytes = 4096;

/** How far around what an operation touched its neighbours are looked at. */
const marginBytes = 5000;

export interface ExerciserOptions {
  /** On the mount. */
  readonly directory: string;
  /** Elsewhere: what the files should hold at first, those that are there. */
  readonly originals: string;
  readonly seed: number;
  readonly log: OperationLog;
  readonly fileNames: readonly string[];
  readonly fileBytesMax: number;
  readonly operationBytesMax: number;
  /** Whether fallocate(2) works; otherwise it must answer `EOPNOTSUPP`. */
  readonly allocates: boolean;
  /** Where the mount may be lost: how mappings are touched without dying of it. */
  readonly surviving?: MappedAccess | undefined;
  /** Told of each operation's number before it is made. */
  readonly onOperation?: ((number: number) => void) | undefined;
}

/**
 * Random operations on files of a mount, each compared with a model in memory, in the manner of `fsx`. Everything is
 * determined by the seed, and synchronous.
 */
export class FileExerciser {
  readonly #options: ExerciserOptions;
  readonly #draw: Draw;
  readonly #files: readonly ExercisedFile[];
  readonly #comparison: FileComparison;
  readonly #operations: FileOperations;
  #number = 0;

  constructor(options: ExerciserOptions) {
    this.#options = options;
    this.#draw = new Draw(options.seed);
    const { directory, originals, fileNames, fileBytesMax, surviving } = options;
    this.#files = fileNames.map(
      (name, index) => new ExercisedFile(index, join(directory, name), fileBytesMax, surviving),
    );
    const scratch = MappedMemory.anonymous(fileBytesMax + pageBytes).bytes;
    this.#comparison = new FileComparison(scratch);
    this.#operations = new FileOperations({
      ...options,
      draw: this.#draw,
      files: this.#files,
      scratch,
      comparison: this.#comparison,
    });
    for (const { model, path } of this.#files) {
      const original = join(originals, basename(path));
      if (existsSync(original)) model.write(0, readFileSync(original));
    }
  }

  /** Makes operations, and compares after each. @throws Difference, or an error of a system call */
  run(count: number): void {
    for (let done = 0; done < count; done++) {
      this.#number += 1;
      const name = this.#draw.pick(drawnNames);
      const file = this.#pickFile(name);
      this.#options.onOperation?.(this.#number);
      const touched = this.#make(name, file);
      this.#comparison.requireSize(file);
      this.#checkAround(file, touched);
    }
  }

  /** The operation that was begun last. */
  get number(): number {
    return this.#number;
  }

  /** Compares all of all files. @throws Difference */
  checkAll(): void {
    for (const file of this.#files) {
      this.#comparison.requireSize(file);
      for (const way of waysToRead) this.#comparison.requireRange(file, way, 0, file.model.sizeBytes);
    }
  }

  /** Nothing of the mount is in use afterwards, or only for reading; the next operation opens what it needs. */
  letGo(keepReading: boolean): void {
    for (const file of this.#files) {
      if (keepReading) file.stopWriting();
      else file.letGo();
    }
  }

  /** The mount is lost: lets go of everything. */
  abandon(): void {
    for (const file of this.#files) file.abandon();
  }

  /**
   * The files are mounted again after a loss. Each must hold what was acknowledged; a change that was under way may have
   * been made, or not. What is there is what counts from now on. @throws Difference
   */
  recover(): void {
    for (const file of this.#files) {
      // What was to take the file's name.
      rmSync(`${file.path}.new`, { force: true });
      const bytes = existsSync(file.path) ? readFileSync(file.path) : Buffer.alloc(0);
      const found = { bytes, sizeBytes: bytes.length };
      const objection = file.remains?.objection(found);
      if (objection !== undefined) {
        throw new Difference(file.index, objection.offsetBytes, `after the loss ${objection.what}`);
      }
      file.remains?.adopt(found);
    }
  }

  /** Reads, and nothing else, through what may stay open while a version is published. @throws Difference */
  look(count: number): void {
    for (let done = 0; done < count; done++) {
      const file = this.#draw.pick(this.#files);
      const fromBytes = this.#draw.place(file.model.sizeBytes);
      const lengthBytes = this.#draw.length(this.#options.operationBytesMax);
      if (this.#draw.oneIn(3)) {
        file.forgetPages();
        adviseFile(file.readerFd, 0, 0, fileAdvice.dontNeed);
      }
      const toBytes = Math.min(fromBytes + lengthBytes, file.model.sizeBytes);
      this.#comparison.requireRange(file, this.#draw.pick(['reader', 'readerMap']), fromBytes, toBytes);
    }
  }

  /** Compares files of the same names elsewhere. @throws Difference */
  compareCopies(directory: string): void {
    for (const { index, path, model } of this.#files) {
      const copy = readFileSync(join(directory, basename(path)));
      const expected = model.bytes.subarray(0, model.sizeBytes);
      if (copy.equals(expected)) continue;
      const at = firstDifference(copy, expected);
      throw new Difference(index, at, `${directory} has ${copy.length} bytes, not ${expected.length}`);
    }
  }

  #make(name: OperationName, file: ExercisedFile): Touched {
    const atomicity = atomicityOf[name];
    if (atomicity !== undefined) file.remains?.begin(atomicity);
    const touched = this.#operations.make(this.#number, name, file);
    const { offsetBytes, lengthBytes, acknowledgedBytes = lengthBytes } = touched;
    if (atomicity !== undefined) file.remains?.acknowledge(offsetBytes, acknowledgedBytes);
    return touched;
  }

  /** What is left of the version should live long: its file seldom loses all of its content. */
  #pickFile(name: OperationName): ExercisedFile {
    const file = this.#draw.pick(this.#files);
    const isFresh = name === 'openTruncating' || name === 'replace' || name === 'recreate';
    return isFresh && !this.#draw.oneIn(16) ? (this.#files.at(-1) ?? file) : file;
  }

  #checkAround(file: ExercisedFile, { offsetBytes, lengthBytes }: Touched): void {
    if (lengthBytes === 0) return;
    const from = Math.max(offsetBytes - this.#draw.below(marginBytes), 0);
    const to = Math.min(offsetBytes + lengthBytes + this.#draw.below(marginBytes), file.model.sizeBytes);
    if (from < to) this.#comparison.requireRange(file, this.#draw.pick(waysToRead), from, to);
  }
}
