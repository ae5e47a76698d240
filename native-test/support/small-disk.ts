import { mkdtempSync, rmSync, writeFileSync, appendFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { systemErrorCode } from '../../src/base/index.js';
import { runProgram } from './mount-contract.js';

/** A disk of its own that can be filled to the last byte; it goes with the test. */
export class SmallDisk {
  readonly path: string;
  readonly #filler: string;

  private constructor(path: string) {
    this.path = path;
    this.#filler = join(path, 'filler');
  }

  static async mount(t: Test, sizeBytes: number): Promise<SmallDisk> {
    const path = mkdtempSync(join(tmpdir(), 'isr-small-disk-'));
    t.teardown(() => rmSync(path, { recursive: true, force: true }));
    const { exitCode, stderr } = await runProgram('mount', [
      ...['-t', 'tmpfs', '-o', `size=${sizeBytes}`, 'tmpfs', path],
    ]);
    if (exitCode !== 0) throw new Error(stderr);
    t.teardown(() => runProgram('umount', ['-l', path]));
    return new SmallDisk(path);
  }

  /** Takes all space that is left. */
  fill(): void {
    for (const pieceBytes of [1024 * 1024, 4096]) {
      try {
        for (;;) appendFileSync(this.#filler, Buffer.alloc(pieceBytes, 0xff));
      } catch (error) {
        if (systemErrorCode(error) !== 'ENOSPC') throw error;
      }
    }
  }

  /** Gives back what `fill` took. */
  free(): void {
    writeFileSync(this.#filler, '');
  }
}
