import {
  closeSync,
  constants,
  existsSync,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  renameSync,
  truncateSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { Draw } from './draw.js';
import { ExercisedFile, isMapped, waysToRead, type WayToRead } from './exercised-file.js';
import type { OperationLog } from './operation-log.js';
import {
  adviseFile,
  copyFileRange,
  fallocate,
  fallocateMode,
  fileAdvice,
  MappedMemory,
  seek,
  seekWhence,
  syncFileSystem,
} from './system-calls.js';

const pageBytes = 4096;

/** How far around what an operation touched its neighbours are looked at. */
const marginBytes = 5000;

/** A file is not what it should be. */
export class Difference extends Error {
  readonly file: number;
  readonly offsetBytes: number;

  constructor(file: number, offsetBytes: number, what: string) {
    super(`file ${file} differs at byte ${offsetBytes} (0x${offsetBytes.toString(16)}): ${what}`);
    this.name = 'Difference';
    this.file = file;
    this.offsetBytes = offsetBytes;
  }
}

/** What an operation may have changed, in bytes. */
interface Touched {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

type Operation = (file: ExercisedFile) => Touched;

/** Each operation and how often it is drawn, relative to the others. */
const weights = {
  read: 60,
  write: 120,
  append: 20,
  directWrite: 25,
  mappedWrite: 120,
  privateWrite: 10,
  sync: 2,
  syncMapping: 3,
  writeBack: 8,
  truncate: 30,
  truncatePath: 8,
  openTruncating: 2,
  allocate: 8,
  allocateKeepSize: 6,
  punchHole: 40,
  zeroRange: 25,
  zeroRangeKeepSize: 15,
  seekHoles: 25,
  copyRange: 50,
  dropPages: 40,
  readAhead: 10,
  unmap: 12,
  reopen: 12,
  replace: 3,
  recreate: 2,
  syncAll: 1,
  wholeFile: 3,
} as const;

type OperationName = keyof typeof weights;

/** All that the log may name. */
export const operationNames: readonly string[] = [...Object.keys(weights), 'check'];

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
}

/**
 * Random operations on files of a mount, each compared with a model in memory, in the manner of `fsx`. Everything is
 * determined by the seed, and synchronous.
 */
export class FileExerciser {
  readonly #options: ExerciserOptions;
  readonly #draw: Draw;
  readonly #files: readonly ExercisedFile[];
  readonly #scratch: MappedMemory;
  readonly #drawn: readonly OperationName[];
  readonly #operations: Readonly<Record<OperationName, Operation>>;
  #number = 0;

  constructor(options: ExerciserOptions) {
    this.#options = options;
    this.#draw = new Draw(options.seed);
    this.#files = options.fileNames.map(
      (name, index) => new ExercisedFile(index, join(options.directory, name), options.fileBytesMax),
    );
    this.#scratch = MappedMemory.anonymous(options.fileBytesMax + pageBytes);
    this.#drawn = Object.entries(weights).flatMap(([name, weight]) =>
      Array<OperationName>(weight).fill(name as OperationName),
    );
    this.#operations = this.#makeOperations();
    for (const { model, path } of this.#files) {
      const original = join(options.originals, basename(path));
      if (existsSync(original)) model.write(0, readFileSync(original));
    }
  }

  /** Makes operations, and compares after each. @throws Difference */
  run(count: number): void {
    for (let done = 0; done < count; done++) {
      this.#number += 1;
      const name = this.#draw.pick(this.#drawn);
      const file = this.#pickFile(name);
      const touched = this.#operations[name](file);
      this.#checkSize(file);
      this.#checkAround(file, touched);
    }
  }

  /** What is left of the version should live long: its file seldom loses all of its content. */
  #pickFile(name: OperationName): ExercisedFile {
    const file = this.#draw.pick(this.#files);
    const isFresh = name === 'openTruncating' || name === 'replace' || name === 'recreate';
    return isFresh && !this.#draw.oneIn(16) ? (this.#files.at(-1) ?? file) : file;
  }

  /** Compares all of all files. @throws Difference */
  checkAll(): void {
    for (const file of this.#files) {
      this.#checkSize(file);
      for (const way of waysToRead) this.#compare(file, way, 0, file.model.sizeBytes);
    }
  }

  /** Nothing of the mount is in use afterwards, or only for reading; the next operation opens what it needs. */
  letGo(keepReading: boolean): void {
    for (const file of this.#files) {
      if (keepReading) file.stopWriting();
      else file.letGo();
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
      this.#compare(file, this.#draw.pick(['reader', 'readerMap']), fromBytes, toBytes);
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

  #makeOperations(): Record<OperationName, Operation> {
    return {
      read: (file) => this.#read(file),
      write: (file) => this.#write('write', file, this.#draw.place(this.#options.fileBytesMax - 1)),
      append: (file) => this.#write('append', file, file.model.sizeBytes),
      directWrite: (file) => this.#directWrite(file),
      mappedWrite: (file) => this.#mappedWrite(file),
      privateWrite: (file) => this.#privateWrite(file),
      sync: (file) => this.#sync(file),
      writeBack: (file) => {
        this.#log('writeBack', file, 0, 0);
        file.writeBack();
        return nothing;
      },
      truncate: (file) => this.#truncate('truncate', file),
      truncatePath: (file) => this.#truncate('truncatePath', file),
      openTruncating: (file) => {
        this.#log('openTruncating', file, 0, file.model.sizeBytes);
        closeSync(openSync(file.path, constants.O_RDWR | constants.O_TRUNC));
        file.model.resize(0);
        return nothing;
      },
      allocate: (file) => this.#allocate('allocate', file),
      allocateKeepSize: (file) => this.#allocate('allocateKeepSize', file),
      punchHole: (file) => this.#allocate('punchHole', file),
      zeroRange: (file) => this.#allocate('zeroRange', file),
      zeroRangeKeepSize: (file) => this.#allocate('zeroRangeKeepSize', file),
      seekHoles: (file) => this.#seekHoles(file),
      copyRange: (file) => this.#copyRange(file),
      dropPages: (file) => {
        const all = this.#draw.oneIn(2);
        const offsetBytes = all ? 0 : this.#draw.place(file.model.sizeBytes);
        const lengthBytes = all ? 0 : this.#draw.length(this.#options.operationBytesMax);
        this.#log('dropPages', file, offsetBytes, lengthBytes);
        file.forgetPages();
        adviseFile(file.fd, offsetBytes, lengthBytes, fileAdvice.dontNeed);
        return { offsetBytes, lengthBytes };
      },
      readAhead: (file) => {
        const advice = this.#draw.pick([
          fileAdvice.willNeed,
          fileAdvice.random,
          fileAdvice.sequential,
          fileAdvice.normal,
        ]);
        const offsetBytes = this.#draw.place(file.model.sizeBytes);
        const lengthBytes = this.#draw.length(this.#options.operationBytesMax);
        this.#log('readAhead', file, offsetBytes, lengthBytes, advice);
        adviseFile(file.fd, offsetBytes, lengthBytes, advice);
        return { offsetBytes, lengthBytes };
      },
      unmap: (file) => {
        this.#log('unmap', file, 0, 0);
        file.unmap();
        return nothing;
      },
      reopen: (file) => {
        this.#log('reopen', file, 0, 0);
        if (this.#draw.oneIn(3)) file.letGo();
        else file.close();
        return nothing;
      },
      replace: (file) => this.#replace(file),
      recreate: (file) => {
        this.#log('recreate', file, 0, file.model.sizeBytes);
        file.hold();
        unlinkSync(file.path);
        this.#leaveNameless(file);
        return nothing;
      },
      syncMapping: (file) => {
        this.#log('syncMapping', file, 0, 0);
        file.shared.sync(this.#draw.oneIn(4) ? 'sync' : 'async');
        return nothing;
      },
      syncAll: (file) => {
        this.#log('syncAll', file, 0, 0);
        syncFileSystem(file.fd);
        return nothing;
      },
      wholeFile: (file) => {
        this.#log('wholeFile', file, 0, file.model.sizeBytes);
        this.#compare(file, this.#draw.pick(waysToRead), 0, file.model.sizeBytes);
        return nothing;
      },
    };
  }

  #read(file: ExercisedFile): Touched {
    const { sizeBytes } = file.model;
    const offsetBytes = this.#draw.place(sizeBytes);
    const lengthBytes = this.#draw.length(this.#options.operationBytesMax);
    this.#log('read', file, offsetBytes, lengthBytes);
    // Also beyond the end, where a read is short.
    const way = this.#draw.pick(['read', 'direct'] as const);
    const wanted = Math.min(lengthBytes, this.#options.fileBytesMax - offsetBytes);
    const got = file.read(way, offsetBytes, wanted, this.#scratch.bytes);
    const expectedBytes = Math.min(wanted, sizeBytes - offsetBytes);
    if (got.length !== expectedBytes) {
      throw new Difference(
        file.index,
        offsetBytes,
        `${way} of ${wanted} bytes gave ${got.length}, not ${expectedBytes}`,
      );
    }
    this.#requireSame(file, way, offsetBytes, got);
    return nothing;
  }

  #write(name: OperationName, file: ExercisedFile, offsetBytes: number): Touched {
    const roomBytes = this.#options.fileBytesMax - offsetBytes;
    if (roomBytes <= 0) return nothing;
    const data = this.#draw.data(this.#draw.length(Math.min(roomBytes, this.#options.operationBytesMax)));
    this.#log(name, file, offsetBytes, data.length);
    writeAll(file.fd, data, offsetBytes);
    file.model.write(offsetBytes, data);
    return { offsetBytes, lengthBytes: data.length };
  }

  #directWrite(file: ExercisedFile): Touched {
    const unit = this.#draw.pick([1, 512, 4096]);
    const { fileBytesMax, operationBytesMax } = this.#options;
    const offsetBytes = Math.floor(this.#draw.place(fileBytesMax - 4096) / unit) * unit;
    const roomBytes = Math.min(fileBytesMax - offsetBytes, operationBytesMax);
    const lengthBytes = Math.max(Math.floor(this.#draw.length(roomBytes) / unit) * unit, unit);
    const data = this.#scratch.bytes.subarray(0, lengthBytes);
    data.set(this.#draw.data(lengthBytes));
    this.#log('directWrite', file, offsetBytes, lengthBytes);
    writeAll(file.directFd, data, offsetBytes);
    file.model.write(offsetBytes, data);
    return { offsetBytes, lengthBytes };
  }

  #mappedWrite(file: ExercisedFile): Touched {
    const { sizeBytes } = file.model;
    if (sizeBytes === 0) return nothing;
    const offsetBytes = this.#draw.place(sizeBytes - 1);
    const data = this.#draw.data(
      this.#draw.length(Math.min(sizeBytes - offsetBytes, this.#options.operationBytesMax)),
    );
    this.#log('mappedWrite', file, offsetBytes, data.length);
    file.shared.bytes.set(data, offsetBytes);
    file.hasDirtyPages = true;
    file.model.write(offsetBytes, data);
    return { offsetBytes, lengthBytes: data.length };
  }

  /** Changes nothing. */
  #privateWrite(file: ExercisedFile): Touched {
    const { sizeBytes } = file.model;
    if (sizeBytes === 0) return nothing;
    const offsetBytes = this.#draw.place(sizeBytes - 1);
    const lengthBytes = this.#draw.length(Math.min(sizeBytes - offsetBytes, this.#options.operationBytesMax));
    this.#log('privateWrite', file, offsetBytes, lengthBytes);
    const memory = MappedMemory.private(file.fd, sizeBytes);
    memory.bytes.set(this.#draw.data(lengthBytes), offsetBytes);
    memory.unmap();
    return { offsetBytes, lengthBytes };
  }

  #sync(file: ExercisedFile): Touched {
    const dataOnly = this.#draw.oneIn(2);
    this.#log('sync', file, 0, 0, dataOnly ? 1 : 0);
    if (dataOnly) fdatasyncSync(file.fd);
    else fsyncSync(file.fd);
    file.hasDirtyPages = false;
    return nothing;
  }

  #truncate(name: OperationName, file: ExercisedFile): Touched {
    const { sizeBytes } = file.model;
    const wanted = this.#draw.oneIn(10)
      ? this.#draw.place(this.#options.fileBytesMax)
      : sizeBytes + this.#draw.below(20_000) - 10_000;
    const newBytes = Math.min(Math.max(wanted, 0), this.#options.fileBytesMax);
    const offsetBytes = Math.min(sizeBytes, newBytes);
    const lengthBytes = Math.max(sizeBytes, newBytes) - offsetBytes;
    this.#log(name, file, offsetBytes, lengthBytes, newBytes);
    if (name === 'truncatePath') truncateSync(file.path, newBytes);
    else ftruncateSync(file.fd, newBytes);
    file.model.resize(newBytes);
    return { offsetBytes, lengthBytes };
  }

  #allocate(name: keyof typeof fallocateMode, file: ExercisedFile): Touched {
    const grows = name === 'allocate' || name === 'zeroRange';
    const { fileBytesMax, operationBytesMax } = this.#options;
    const offsetBytes = this.#draw.place(grows ? fileBytesMax - 1 : file.model.sizeBytes);
    const roomBytes = grows ? fileBytesMax - offsetBytes : operationBytesMax;
    const lengthBytes = this.#draw.length(Math.min(roomBytes, operationBytesMax));
    this.#log(name, file, offsetBytes, lengthBytes);
    const error = fallocate(file.fd, fallocateMode[name], offsetBytes, lengthBytes);
    if (error !== (this.#options.allocates ? undefined : 'EOPNOTSUPP')) {
      throw new Difference(
        file.index,
        offsetBytes,
        `${name} of ${lengthBytes} bytes: ${error ?? 'no error'}`,
      );
    }
    if (error === undefined) {
      if (grows) file.model.grow(offsetBytes + lengthBytes);
      if (name !== 'allocate' && name !== 'allocateKeepSize') file.model.zero(offsetBytes, lengthBytes);
    }
    return { offsetBytes, lengthBytes };
  }

  /** Holes and data take turns up to the end, and holes are zero. */
  #seekHoles(file: ExercisedFile): Touched {
    const { sizeBytes } = file.model;
    const from = this.#draw.place(sizeBytes);
    this.#log('seekHoles', file, from, 0);
    // The kernel asks the file system, which knows nothing of pages that a mapping has changed.
    file.writeBack();
    const wrong = (at: number, what: string): Difference => new Difference(file.index, at, what);
    for (let at = from; ;) {
      const data = seek(file.fd, at, seekWhence.data);
      const holeEnd = data ?? sizeBytes;
      if (holeEnd < at || holeEnd > sizeBytes) throw wrong(at, `SEEK_DATA gave ${holeEnd} of ${sizeBytes}`);
      if (!file.model.isZero(at, holeEnd)) throw wrong(at, `a hole up to ${holeEnd} where data is`);
      const hole = seek(file.fd, holeEnd, seekWhence.hole);
      if (holeEnd >= sizeBytes) {
        if (hole !== undefined) throw wrong(holeEnd, `SEEK_HOLE at the end gave ${hole}`);
        return nothing;
      }
      if (hole === undefined || hole <= holeEnd || hole > sizeBytes) {
        throw wrong(holeEnd, `SEEK_HOLE gave ${hole ?? 'ENXIO'} in data, of ${sizeBytes}`);
      }
      if (hole === sizeBytes) return nothing;
      at = hole;
    }
  }

  #copyRange(to: ExercisedFile): Touched {
    const from = this.#draw.pick(this.#files);
    const { fileBytesMax, operationBytesMax } = this.#options;
    const fromBytes = this.#draw.place(from.model.sizeBytes);
    const toBytes = this.#draw.place(fileBytesMax - 1);
    const lengthBytes = this.#draw.length(Math.min(fileBytesMax - toBytes, operationBytesMax));
    // The kernel refuses ranges of one file that overlap.
    if (from === to && Math.abs(fromBytes - toBytes) < lengthBytes) return nothing;
    this.#log('copyRange', to, toBytes, lengthBytes, fromBytes + from.index / 10);
    for (let done = 0; done < lengthBytes;) {
      const rest = lengthBytes - done;
      const copied = copyFileRange(from.fd, fromBytes + done, to.fd, toBytes + done, rest);
      const available = Math.max(from.model.sizeBytes - fromBytes - done, 0);
      if (copied === 0 ? available > 0 : copied > Math.min(available, rest)) {
        throw new Difference(
          to.index,
          toBytes + done,
          `${copied} bytes copied of ${Math.min(available, rest)}`,
        );
      }
      if (copied === 0) break;
      const data = from.model.bytes.subarray(fromBytes + done, fromBytes + done + copied);
      to.model.write(toBytes + done, data);
      done += copied;
    }
    return { offsetBytes: toBytes, lengthBytes };
  }

  /** As editors save: another file takes the name. */
  #replace(file: ExercisedFile): Touched {
    const data = this.#draw.data(this.#draw.length(this.#options.operationBytesMax));
    this.#log('replace', file, 0, file.model.sizeBytes, data.length);
    file.hold();
    const path = `${file.path}.new`;
    const fd = openSync(path, 'wx');
    writeAll(fd, data, 0);
    const closesBefore = this.#draw.oneIn(2);
    if (closesBefore) closeSync(fd);
    renameSync(path, file.path);
    if (!closesBefore) closeSync(fd);
    this.#leaveNameless(file);
    file.model.write(0, data);
    return nothing;
  }

  /** A file that lost its name lives on while somebody has it open. */
  #leaveNameless(file: ExercisedFile): void {
    this.#compare(file, this.#draw.pick(['read', 'shared', 'private']), 0, file.model.sizeBytes);
    file.letGo();
    file.model.resize(0);
  }

  #checkSize(file: ExercisedFile): void {
    const { size } = fstatSync(file.fd);
    const { sizeBytes } = file.model;
    if (size !== sizeBytes) {
      throw new Difference(file.index, Math.min(size, sizeBytes), `the size is ${size}, not ${sizeBytes}`);
    }
  }

  #checkAround(file: ExercisedFile, { offsetBytes, lengthBytes }: Touched): void {
    if (lengthBytes === 0) return;
    const from = Math.max(offsetBytes - this.#draw.below(marginBytes), 0);
    const to = Math.min(offsetBytes + lengthBytes + this.#draw.below(marginBytes), file.model.sizeBytes);
    if (from < to) this.#compare(file, this.#draw.pick(waysToRead), from, to);
  }

  #compare(file: ExercisedFile, way: WayToRead, fromBytes: number, toBytes: number): void {
    const { sizeBytes } = file.model;
    // A mapping shows zeros after the end, up to the end of the page.
    const end =
      isMapped(way) && toBytes === sizeBytes ? Math.ceil(sizeBytes / pageBytes) * pageBytes : toBytes;
    if (end <= fromBytes) return;
    const got = file.read(way, fromBytes, end - fromBytes, this.#scratch.bytes);
    if (got.length !== end - fromBytes) {
      throw new Difference(
        file.index,
        fromBytes + got.length,
        `${way} gave ${got.length} bytes of ${end - fromBytes}`,
      );
    }
    this.#requireSame(file, way, fromBytes, got);
  }

  #requireSame(file: ExercisedFile, way: WayToRead, offsetBytes: number, got: Buffer): void {
    const expected = file.model.bytes.subarray(offsetBytes, offsetBytes + got.length);
    if (got.equals(expected)) return;
    const at = firstDifference(got, expected);
    let differing = 0;
    for (let index = at; index < got.length; index++) if (got[index] !== expected[index]) differing += 1;
    const show = (bytes: Buffer): string => bytes.subarray(at, at + 16).toString('hex');
    throw new Difference(
      file.index,
      offsetBytes + at,
      `expected ${show(expected)}, ${way} gave ${show(got)}; ${differing} bytes differ up to ${offsetBytes + got.length}, the file has ${file.model.sizeBytes}`,
    );
  }

  #log(name: OperationName, file: ExercisedFile, offsetBytes: number, lengthBytes: number, extra = 0): void {
    this.#options.log.add({ number: this.#number, name, file: file.index, offsetBytes, lengthBytes, extra });
  }
}

const nothing: Touched = { offsetBytes: 0, lengthBytes: 0 };

function writeAll(fd: number, data: Uint8Array, offsetBytes: number): void {
  for (let done = 0; done < data.length;) {
    done += writeSync(fd, data, done, data.length - done, offsetBytes + done);
  }
}

function firstDifference(one: Buffer, other: Buffer): number {
  const length = Math.min(one.length, other.length);
  for (let at = 0; at < length; at++) if (one[at] !== other[at]) return at;
  return length;
}
