import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
/** This file runs from the same path below `build/`. */
const source = fileURLToPath(new URL('../../../bench/fuse/load.c', import.meta.url));

/** What one run of the load program measured. */
export interface LoadFigures {
  readonly operations: number;
  readonly bytes: number;
  readonly seconds: number;
  /** Of one operation; only where operations are timed one by one. */
  readonly medianUs?: number;
  readonly p99Us?: number;
}

/** The program that makes the load, in C so that its own time does not show. */
export class LoadProgram {
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
  }

  static async build(directory: string): Promise<LoadProgram> {
    const path = join(directory, 'load');
    await run('cc', ['-O2', '-Wall', '-pthread', source, '-o', path]);
    return new LoadProgram(path);
  }

  /** Parameters as at the top of load.c. */
  async measure(
    mode: string,
    path: string,
    seconds: number,
    ...parameters: readonly string[]
  ): Promise<LoadFigures> {
    const { stdout } = await run(this.#path, [mode, path, String(seconds), ...parameters]);
    return JSON.parse(stdout) as LoadFigures;
  }

  /** Takes a file, or everything below a directory, out of the host's page cache. */
  async drop(path: string): Promise<void> {
    await run(this.#path, ['drop', path]);
  }
}
