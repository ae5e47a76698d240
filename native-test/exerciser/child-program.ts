import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';

/** A mount that does not answer for so long is hung. */
const silenceMaxMs = 300_000;

/** What a child answered instead of a result. */
export interface Failed {
  readonly type: 'failed';
  readonly message: string;
}

/**
 * A process of its own that uses a mount, for which it may be stopped at any time. It is asked one thing at a time, and
 * ends with whoever started it.
 */
export class ChildProgram<
  Request extends object,
  Answer extends { readonly type: string },
> implements AsyncDisposable {
  readonly #child: ChildProcess;

  /** `parameters` are its first argument, as JSON. The signal kills it, which fails what it was asked. */
  constructor(path: string, parameters: object, signal: AbortSignal | undefined) {
    this.#child = fork(path, [JSON.stringify(parameters)]);
    signal?.addEventListener('abort', () => this.#child.kill('SIGKILL'), { once: true });
  }

  ask(request: Request): Promise<Answer | Failed> {
    return new Promise((resolve) => {
      const finish = (answer: Answer | Failed): void => {
        clearTimeout(timer);
        this.#child.off('exit', onExit).off('message', finish);
        resolve(answer);
      };
      const fail = (message: string): void => finish({ type: 'failed', message });
      const onExit = (code: number | null, signal: string | null): void => {
        const ending = signal === 'SIGBUS' ? 'SIGBUS: a page could not be read' : (signal ?? code);
        fail(`the program ended with ${ending ?? 'nothing'}`);
      };
      const timer = setTimeout(() => fail(`nothing happened for ${silenceMaxMs / 1000} s`), silenceMaxMs);
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) {
        onExit(this.#child.exitCode, this.#child.signalCode);
        return;
      }
      this.#child.on('exit', onExit).on('message', finish);
      this.#child.send(request);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exited;
  }
}

/** In the child: answers each request with what `answer` returns; what it throws is the message of a failure. */
export function serveRequests(
  answer: (request: never) => object,
  describe: (error: unknown) => object = () => ({}),
): void {
  process.on('message', (request) => {
    try {
      process.send?.(answer(request as never));
    } catch (error) {
      const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
      process.send?.({ type: 'failed', message, ...describe(error) });
    }
  });
  process.on('disconnect', () => process.exit());
}
