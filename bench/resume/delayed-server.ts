import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ServerProcess } from '../../fixtures/server-process.js';
import { sourcePath } from './guests/bench-guest.js';

const run = promisify(execFile);

const startUpTimeoutMs = 10_000;

export interface DelayedServerOptions {
  readonly namespace: string;
  /** Runs in the namespace until it is killed, and listens at `port` of the loopback address. */
  readonly program: string;
  readonly parameters: readonly string[];
  readonly port: number;
  /** Where it is reached. */
  readonly address: string;
  readonly publicPort: number;
  readonly rttMs: number;
  /** What `compileDelay` made. */
  readonly delayProgram: string;
  readonly logPath: string;
}

/** A server in a network namespace, and the process before it that holds what passes for half of the round trip. */
export class DelayedServer implements AsyncDisposable {
  readonly #server: ServerProcess;
  readonly #delay: ChildProcess;

  private constructor(server: ServerProcess, delay: ChildProcess) {
    this.#server = server;
    this.#delay = delay;
  }

  /** Returns when the process before the server listens; the server itself may not yet. */
  static async start(options: DelayedServerOptions): Promise<DelayedServer> {
    const { namespace, program, parameters, logPath, address, publicPort, port, rttMs } = options;
    const inside = ['netns', 'exec', namespace];
    const server = await ServerProcess.start('ip', [...inside, program, ...parameters], logPath);
    const delay = spawn(
      'ip',
      [
        ...[...inside, options.delayProgram, address, `${publicPort}`, '127.0.0.1', `${port}`],
        `${Math.round(rttMs * 1000)}`,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const started = new DelayedServer(server, delay);
    try {
      await once(delay.stdout, 'data', { signal: AbortSignal.timeout(startUpTimeoutMs) });
      return started;
    } catch (error) {
      await started[Symbol.asyncDispose]();
      throw error;
    }
  }

  get isRunning(): boolean {
    return this.#server.isRunning;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#delay.exitCode === null && this.#delay.signalCode === null) {
      const exited = once(this.#delay, 'exit');
      this.#delay.kill('SIGKILL');
      await exited;
    }
    await this.#server[Symbol.asyncDispose]();
  }
}

/** Compiles the process that delays. Returns its path in `directory`. */
export async function compileDelay(directory: string): Promise<string> {
  const program = join(directory, 'delay');
  await run('cc', ['-O2', '-o', program, sourcePath('delay.c')]);
  return program;
}
