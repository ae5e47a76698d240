import {
  closeSync,
  constants,
  fdatasyncSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  renameSync,
  truncateSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { Difference } from './difference.js';
import type { Draw } from './draw.js';
import { waysToRead, type ExercisedFile } from './exercised-file.js';
import type { FileComparison } from './file-comparison.js';
import type { OperationLog } from './operation-log.js';
import type { Atomicity } from './remains.js';
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

/** What an operation may have changed, in bytes. */
export interface Touched {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /**
   * How much of that, from its start, is acknowledged with the operation; all of it where nothing is said. What it left as it was
   * is not: a mapping may have changed that, and the kernel has not written it back.
   */
  readonly acknowledgedBytes?: number;
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

export type OperationName = keyof typeof weights;

/** All that the log may name. */
export const operationNames: readonly string[] = [...Object.keys(weights), 'check'];

export const drawnNames: readonly OperationName[] = Object.entries(weights).flatMap(([name, weight]) =>
  Array<OperationName>(weight).fill(name as OperationName),
);

/** Of the operations that change a file otherwise than through a mapping: what a loss of the mount may leave of them. */
export const atomicityOf: Partial<Record<OperationName, Atomicity>> = {
  write: 'pages',
  append: 'pages',
  directWrite: 'pages',
  punchHole: 'pages',
  zeroRange: 'pages',
  zeroRangeKeepSize: 'pages',
  // Each part of a copy is acknowledged, and parts end anywhere.
  copyRange: 'bytes',
  truncate: 'whole',
  truncatePath: 'whole',
  openTruncating: 'whole',
  allocate: 'whole',
  allocateKeepSize: 'whole',
  replace: 'whole',
  recreate: 'whole',
};

export interface FileOperationsOptions {
  readonly draw: Draw;
  readonly files: readonly ExercisedFile[];
  /** Starts at the beginning of a page. */
  readonly scratch: Buffer;
  readonly comparison: FileComparison;
  readonly log: OperationLog;
  readonly fileBytesMax: number;
  readonly operationBytesMax: number;
  /** Whether fallocate(2) works; otherwise it must answer `EOPNOTSUPP`. */
  readonly allocates: boolean;
}

/** The operations: each draws what it does, changes the model, and then the file. */
export class FileOperations {
  readonly #options: FileOperationsOptions;
  readonly #draw: Draw;
  readonly #operations: Readonly<Record<OperationName, Operation>>;
  #number = 0;

  constructor(options: FileOperationsOptions) {
    this.#options = options;
    this.#draw = options.draw;
    this.#operations = this.#makeOperations();
  }

  /** Makes an operation. @throws Difference */
  make(number: number, name: OperationName, file: ExercisedFile): Touched {
    this.#number = number;
    return this.#operations[name](file);
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
        file.model.resize(0);
        closeSync(openSync(file.path, constants.O_RDWR | constants.O_TRUNC));
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
        file.remains?.willHold(Buffer.alloc(0));
        unlinkSync(file.path);
        this.#leaveNameless(file);
        return nothing;
      },
      syncMapping: (file) => {
        this.#log('syncMapping', file, 0, 0);
        if (this.#draw.oneIn(4)) {
          file.shared.sync('sync');
          file.wroteBack();
        } else {
          file.shared.sync('async');
        }
        return nothing;
      },
      syncAll: (file) => {
        this.#log('syncAll', file, 0, 0);
        syncFileSystem(file.fd);
        // On FUSE it only begins to write pages back, and does not wait (AS_NO_DATA_INTEGRITY, Linux 6.18.y and 6.19).
        for (const each of this.#options.files) each.writeBack();
        return nothing;
      },
      wholeFile: (file) => {
        this.#log('wholeFile', file, 0, file.model.sizeBytes);
        this.#options.comparison.requireRange(file, this.#draw.pick(waysToRead), 0, file.model.sizeBytes);
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
    const got = file.read(way, offsetBytes, wanted, this.#options.scratch);
    const expectedBytes = Math.min(wanted, sizeBytes - offsetBytes);
    if (got.length !== expectedBytes) {
      throw new Difference(
        file.index,
        offsetBytes,
        `${way} of ${wanted} bytes gave ${got.length}, not ${expectedBytes}`,
      );
    }
    this.#options.comparison.requireSame(file, way, offsetBytes, got);
    return nothing;
  }

  #write(name: OperationName, file: ExercisedFile, offsetBytes: number): Touched {
    const roomBytes = this.#options.fileBytesMax - offsetBytes;
    if (roomBytes <= 0) return nothing;
    const data = this.#draw.data(this.#draw.length(Math.min(roomBytes, this.#options.operationBytesMax)));
    this.#log(name, file, offsetBytes, data.length);
    file.model.write(offsetBytes, data);
    writeAll(file.fd, data, offsetBytes);
    return { offsetBytes, lengthBytes: data.length };
  }

  #directWrite(file: ExercisedFile): Touched {
    const unit = this.#draw.pick([1, 512, 4096]);
    const { fileBytesMax, operationBytesMax } = this.#options;
    const offsetBytes = Math.floor(this.#draw.place(fileBytesMax - 4096) / unit) * unit;
    const roomBytes = Math.min(fileBytesMax - offsetBytes, operationBytesMax);
    const lengthBytes = Math.max(Math.floor(this.#draw.length(roomBytes) / unit) * unit, unit);
    const data = this.#options.scratch.subarray(0, lengthBytes);
    data.set(this.#draw.data(lengthBytes));
    this.#log('directWrite', file, offsetBytes, lengthBytes);
    file.model.write(offsetBytes, data);
    writeAll(file.directFd, data, offsetBytes);
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
    file.remains?.doubt(offsetBytes, data.length);
    file.model.write(offsetBytes, data);
    file.writeMapped(offsetBytes, data);
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
    file.access.write(memory.bytes, offsetBytes, this.#draw.data(lengthBytes));
    memory.unmap();
    return { offsetBytes, lengthBytes };
  }

  #sync(file: ExercisedFile): Touched {
    const dataOnly = this.#draw.oneIn(2);
    this.#log('sync', file, 0, 0, dataOnly ? 1 : 0);
    if (dataOnly) fdatasyncSync(file.fd);
    else fsyncSync(file.fd);
    file.wroteBack();
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
    file.model.resize(newBytes);
    if (name === 'truncatePath') truncateSync(file.path, newBytes);
    else ftruncateSync(file.fd, newBytes);
    return { offsetBytes, lengthBytes };
  }

  #allocate(name: keyof typeof fallocateMode, file: ExercisedFile): Touched {
    const grows = name === 'allocate' || name === 'zeroRange';
    const { fileBytesMax, operationBytesMax, allocates } = this.#options;
    const offsetBytes = this.#draw.place(grows ? fileBytesMax - 1 : file.model.sizeBytes);
    const roomBytes = grows ? fileBytesMax - offsetBytes : operationBytesMax;
    const lengthBytes = this.#draw.length(Math.min(roomBytes, operationBytesMax));
    this.#log(name, file, offsetBytes, lengthBytes);
    if (allocates) {
      if (grows) file.model.grow(offsetBytes + lengthBytes);
      if (name !== 'allocate' && name !== 'allocateKeepSize') file.model.zero(offsetBytes, lengthBytes);
    }
    const done = fallocate(file.fd, fallocateMode[name], offsetBytes, lengthBytes);
    if (done !== allocates) {
      throw new Difference(file.index, offsetBytes, `${name}: ${done ? 'no error' : 'EOPNOTSUPP'}`);
    }
    // The kernel writes pages back before a hole or zeros, and leaves them alone where space is only reserved.
    const isReserved = name === 'allocate' || name === 'allocateKeepSize';
    return { offsetBytes, lengthBytes, ...(isReserved ? { acknowledgedBytes: 0 } : {}) };
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
    const from = this.#draw.pick(this.#options.files);
    const { fileBytesMax, operationBytesMax } = this.#options;
    const fromBytes = this.#draw.place(from.model.sizeBytes);
    const toBytes = this.#draw.place(fileBytesMax - 1);
    const lengthBytes = this.#draw.length(Math.min(fileBytesMax - toBytes, operationBytesMax));
    // The kernel refuses ranges of one file that overlap.
    if (from === to && Math.abs(fromBytes - toBytes) < lengthBytes) return nothing;
    this.#log('copyRange', to, toBytes, lengthBytes, fromBytes + from.index / 10);
    let done = 0;
    while (done < lengthBytes) {
      const at = toBytes + done;
      const rest = lengthBytes - done;
      const available = Math.min(Math.max(from.model.sizeBytes - fromBytes - done, 0), rest);
      const before = {
        sizeBytes: to.model.sizeBytes,
        data: Buffer.from(to.model.bytes.subarray(at, at + available)),
      };
      if (available > 0) {
        to.model.write(at, from.model.bytes.subarray(fromBytes + done, fromBytes + done + available));
      }
      const copied = copyFileRange(from.fd, fromBytes + done, to.fd, at, rest);
      if (copied === 0 ? available > 0 : copied > available) {
        throw new Difference(to.index, at, `${copied} bytes copied of ${available}`);
      }
      if (copied === 0) break;
      // It may stop short.
      to.model.bytes.set(before.data.subarray(copied), at + copied);
      to.model.sizeBytes = Math.max(before.sizeBytes, at + copied);
      done += copied;
    }
    return { offsetBytes: toBytes, lengthBytes, acknowledgedBytes: done };
  }

  /** As editors save: another file takes the name. */
  #replace(file: ExercisedFile): Touched {
    const data = this.#draw.data(this.#draw.length(this.#options.operationBytesMax));
    this.#log('replace', file, 0, file.model.sizeBytes, data.length);
    file.hold();
    file.remains?.willHold(data);
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
    this.#options.comparison.requireRange(
      file,
      this.#draw.pick(['read', 'shared', 'private']),
      0,
      file.model.sizeBytes,
    );
    file.letGo();
    file.model.resize(0);
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
