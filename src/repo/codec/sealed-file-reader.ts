import { closeSync, openSync, readSync } from 'node:fs';
import { limits } from '../../base/index.js';
import { sealOverheadBytes } from '../format/sealer.js';

/**
 * Reads sealed chunks from files into memory that it uses again and again: new memory for each would be collected at a
 * higher price than opening it. For one thread; what it gives holds until the next read.
 */
export class SealedFileReader {
  #memory = Buffer.allocUnsafeSlow(0);

  /** Undefined where the file is not there, cannot be read, or ends before; and for more than any chunk has. */
  read(path: string, offsetBytes: number, lengthBytes: number): Uint8Array | undefined {
    if (lengthBytes > limits.chunkBytesMax + sealOverheadBytes) return undefined;
    if (this.#memory.length < lengthBytes) this.#memory = Buffer.allocUnsafeSlow(lengthBytes);
    try {
      const file = openSync(path, 'r');
      try {
        const readBytes = readSync(file, this.#memory, 0, lengthBytes, offsetBytes);
        return readBytes === lengthBytes ? this.#memory.subarray(0, lengthBytes) : undefined;
      } finally {
        closeSync(file);
      }
    } catch {
      return undefined;
    }
  }
}
