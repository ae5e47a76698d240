import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import { limits } from '../base/index.js';
import { FileSystemError } from './errors.js';
import { checkOffset, checkSize, type FileAccess } from './file-access.js';
import type { FilePosition } from './types.js';

interface Copy {
  readonly source: FilePosition;
  readonly target: FilePosition;
  readonly lengthBytes: number;
  readonly signal: AbortSignal | undefined;
}

/**
 * copy_file_range(2): reading and writing in steps, with turns for others in between. Each step is acknowledged by
 * itself, as the writes are that a program without this call would make; what fails after the first ends the call early.
 */
export class RangeCopies {
  readonly #access: FileAccess;
  #running = 0;
  readonly #inLine: (() => void)[] = [];

  constructor(access: FileAccess) {
    this.#access = access;
  }

  async copy(copy: Copy): Promise<number> {
    const { source, target, lengthBytes } = this.#checked(copy);
    if (lengthBytes <= 0) return 0;
    await this.#enter();
    try {
      return await this.#copy({ source, target, lengthBytes, signal: copy.signal });
    } finally {
      this.#leave();
    }
  }

  /** As Linux checks it: what lies after the end of the source is not asked for. */
  #checked({ source, target, lengthBytes, signal }: Copy): Copy {
    checkOffset(source.offsetBytes);
    checkOffset(target.offsetBytes);
    checkOffset(lengthBytes);
    const { file } = this.#access.handles.get(source.handle);
    const targetFile = this.#access.writableFile(target.handle);
    const length = Math.min(lengthBytes, file.content.sizeBytes - source.offsetBytes);
    checkSize(target.offsetBytes + Math.max(length, 0));
    if (file === targetFile && Math.abs(source.offsetBytes - target.offsetBytes) < length) {
      throw new FileSystemError('EINVAL', 'The ranges overlap.');
    }
    return { source, target, lengthBytes: length, signal };
  }

  async #copy(copy: Copy): Promise<number> {
    const memory = Buffer.allocUnsafe(Math.min(copy.lengthBytes, limits.copyStepBytes));
    let doneBytes = 0;
    let dataBytes = 0;
    try {
      while (doneBytes < copy.lengthBytes && dataBytes < limits.copyBytes) {
        const holeBytes = await this.#copyHole(copy, doneBytes);
        doneBytes += holeBytes;
        const copiedBytes = doneBytes < copy.lengthBytes ? await this.#copyData(copy, doneBytes, memory) : 0;
        doneBytes += copiedBytes;
        dataBytes += copiedBytes;
        // The source has become shorter meanwhile.
        if (holeBytes + copiedBytes === 0) break;
        await eventLoopTurn();
      }
    } catch (error) {
      if (doneBytes === 0) throw error;
    }
    return doneBytes;
  }

  /** Makes a hole where the source has one, and says how long it is. */
  async #copyHole({ source, target, lengthBytes, signal }: Copy, doneBytes: number): Promise<number> {
    const startBytes = source.offsetBytes + doneBytes;
    const limitBytes = source.offsetBytes + lengthBytes;
    const dataAt = await this.#access.find(source.handle, 'data', { startBytes, limitBytes }, signal);
    const holeBytes = dataAt - startBytes;
    if (holeBytes <= 0) return 0;
    await this.#access.writeZeros(target.handle, target.offsetBytes + doneBytes, holeBytes, true, signal);
    return holeBytes;
  }

  /** Copies data up to the next hole, as much as `memory` holds, and says how much. */
  async #copyData(
    { source, target, lengthBytes, signal }: Copy,
    doneBytes: number,
    memory: Buffer,
  ): Promise<number> {
    const startBytes = source.offsetBytes + doneBytes;
    const limitBytes = Math.min(source.offsetBytes + lengthBytes, startBytes + memory.length);
    const holeAt = await this.#access.find(source.handle, 'hole', { startBytes, limitBytes }, signal);
    if (holeAt <= startBytes) return 0;
    const wanted = memory.subarray(0, holeAt - startBytes);
    const readBytes = await this.#access.read(source.handle, startBytes, wanted, 'demand', signal);
    if (typeof readBytes !== 'number') throw new Error('a demand read was refused');
    const data = memory.subarray(0, readBytes);
    return this.#access.write(target.handle, target.offsetBytes + doneBytes, data, signal);
  }

  async #enter(): Promise<void> {
    if (this.#running < limits.copiesInFlight) this.#running += 1;
    else await new Promise<void>((resolve) => this.#inLine.push(resolve));
  }

  /** Hands the place over where somebody waits for it. */
  #leave(): void {
    const next = this.#inLine.shift();
    if (next === undefined) this.#running -= 1;
    else next();
  }
}
