import { closeSync, lstatSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs';

/** How a program touches memory that is a file's. */
export interface MappedAccess {
  read(memory: Buffer, offsetBytes: number, lengthBytes: number, into: Buffer): Buffer;
  write(memory: Buffer, offsetBytes: number, data: Uint8Array): void;
  /** Fails if the mount of a path is lost: munmap(2) does not tell that it could not write pages back. */
  requireMounted(path: string): void;
}

/** As a processor does. Kills this process where a page cannot be had. */
export const directAccess: MappedAccess = {
  read: (memory, offsetBytes, lengthBytes) => memory.subarray(offsetBytes, offsetBytes + lengthBytes),
  write: (memory, offsetBytes, data) => {
    memory.set(data, offsetBytes);
  },
  requireMounted: () => undefined,
};

/**
 * By read(2) and write(2) between the memory and a file elsewhere: the kernel faults the same pages in, and where it cannot
 * have one, the call fails with `EFAULT` and this process lives.
 */
export class SurvivingAccess implements MappedAccess, Disposable {
  readonly #fd: number;
  #probes = 0;

  /** `path`: of a file to be made, which has no name afterwards. */
  constructor(path: string) {
    this.#fd = openSync(path, 'w+');
    unlinkSync(path);
  }

  read(memory: Buffer, offsetBytes: number, lengthBytes: number, into: Buffer): Buffer {
    for (let done = 0; done < lengthBytes;) {
      done += writeSync(this.#fd, memory, offsetBytes + done, lengthBytes - done, done);
    }
    return into.subarray(0, readSync(this.#fd, into, 0, lengthBytes, 0));
  }

  write(memory: Buffer, offsetBytes: number, data: Uint8Array): void {
    writeSync(this.#fd, data, 0, data.length, 0);
    for (let done = 0; done < data.length;) {
      done += readSync(this.#fd, memory, offsetBytes + done, data.length - done, done);
    }
  }

  requireMounted(path: string): void {
    this.#probes += 1;
    // A name that the kernel cannot know yet. It throws whatever else than that it does not exist.
    lstatSync(`${path}.probe-${this.#probes}`, { throwIfNoEntry: false });
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
