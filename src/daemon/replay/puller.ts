import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import createDebug from 'debug';
import { programPath } from '../../base/index.js';
import type { PulledRange, PullMessage } from './puller-protocol.js';

const debug = createDebug('isr:daemon:replay');

const pullerOptions = ['--max-semi-space-size=1', '--max-old-space-size=16'];

/** A process that has the kernel read parts of a mount: see its program. */
export class Puller implements AsyncDisposable {
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  /** What ends the pulls that were asked for, in order. */
  readonly #waiting: (() => void)[] = [];

  private constructor(child: ChildProcess, pid: number) {
    this.#child = child;
    this.pid = pid;
    child.on('message', () => this.#waiting.shift()?.());
    // A message to a process that is just ending is no reason to fail.
    child.on('error', (error) => debug('the puller: %o', error));
    this.#exited = new Promise<void>((resolve) => child.once('exit', () => resolve())).then(() => {
      for (const resolve of this.#waiting.splice(0)) resolve();
    });
  }

  /** Undefined if it cannot be started. */
  static async start(): Promise<Puller | undefined> {
    const child = spawn(process.execPath, [...pullerOptions, programPath('puller')], {
      cwd: '/',
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    try {
      await once(child, 'spawn');
    } catch (error) {
      debug('no puller: %o', error);
      return undefined;
    }
    return child.pid === undefined ? undefined : new Puller(child, child.pid);
  }

  /** Resolves when the kernel has the ranges, or does not want them, or the process is gone. */
  pull(ranges: readonly PulledRange[]): Promise<void> {
    if (!this.#child.connected) return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#child.send({ pull: ranges } satisfies PullMessage);
    });
  }

  /** Ends the process, whatever it waits for. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exited;
  }
}
