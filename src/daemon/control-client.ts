import { request as httpRequest, type IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cancelled, type ProgressListener } from '../base/index.js';
import type { ControlMessage, ControlMethod, ControlMethods } from './control-protocol.js';
import { DaemonRestarted, DaemonSilent, NotMounted, RemoteError, UpgradeFailed } from './errors.js';
import { workerProgram } from './worker-program.js';
import type { Explanation } from './explain/index.js';
import type { FillOptions } from './fill/index.js';
import type { WarmPlan, WarmRequest, WarmResult, WarmScope } from '../warm/index.js';
import type { DaemonClient, DaemonStatus, PublishResult, Resuming, UnmountResult } from './types.js';

interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ProgressListener | undefined;
}

/** How long a call waits for the worker that takes the place of a dead one. */
const restartTimeoutMs = 10_000;
const retryIntervalMs = 50;

/** What is simply asked again when the daemon dies over it. */
const repeatable: ReadonlySet<ControlMethod> = new Set<ControlMethod>([
  ...(['status', 'explain', 'flush', 'resuming'] as const),
  ...(['warm', 'planWarming', 'fill'] as const),
]);

/** A `DaemonClient` over the control socket. One connection a call; nothing to close. */
export class ControlClient implements DaemonClient {
  readonly mountPath: string;
  readonly ephemeral: boolean;
  readonly #vmName: string;
  readonly #socketPath: string;
  readonly #isAlive: () => Promise<boolean>;

  /** `isAlive`: whether somebody still serves the mount, or is about to. */
  constructor(
    vmName: string,
    socketPath: string,
    mount: { readonly mountPath: string; readonly ephemeral: boolean },
    isAlive: () => Promise<boolean>,
  ) {
    this.mountPath = mount.mountPath;
    this.ephemeral = mount.ephemeral;
    this.#vmName = vmName;
    this.#socketPath = socketPath;
    this.#isAlive = isAlive;
  }

  status(): Promise<DaemonStatus> {
    return this.#call('status', {});
  }

  explain(): Promise<Explanation> {
    return this.#call('explain', {});
  }

  async flush(): Promise<void> {
    await this.#call('flush', {});
  }

  publish(options: {
    readonly releaseLease: boolean;
    readonly signal?: AbortSignal;
    readonly onProgress?: ProgressListener;
  }): Promise<PublishResult> {
    return this.#call('publish', { releaseLease: options.releaseLease }, options);
  }

  warm(
    request: WarmRequest,
    options: { readonly signal?: AbortSignal; readonly onProgress?: ProgressListener },
  ): Promise<WarmResult> {
    return this.#call('warm', request, options);
  }

  planWarming(scope: WarmScope, options: { readonly signal?: AbortSignal }): Promise<WarmPlan> {
    return this.#call('planWarming', scope, options);
  }

  async upgrade(): Promise<void> {
    const { workerPid } = (await this.status()).daemon;
    const program = workerProgram(this.#vmName);
    await this.#call('upgrade', { program });
    for (;;) {
      const { daemon } = await this.status();
      if (daemon.workerPid === workerPid) {
        await sleep(retryIntervalMs);
        continue;
      }
      if (program.parameters.includes(daemon.program)) return;
      throw new UpgradeFailed(this.#vmName, program.parameters.join(' '));
    }
  }

  async resuming(options: Resuming): Promise<void> {
    await this.#call('resuming', options);
  }

  async fill(options: FillOptions): Promise<void> {
    await this.#call('fill', options);
  }

  unmount(): Promise<UnmountResult> {
    return this.#call('unmount', {});
  }

  async #call<M extends ControlMethod>(
    method: M,
    parameters: ControlMethods[M]['parameters'],
    options: CallOptions = {},
  ): Promise<ControlMethods[M]['result']> {
    const body = JSON.stringify(parameters);
    const deadlineMs = performance.now() + restartTimeoutMs;
    for (;;) {
      const response = await this.#connect(method, body, deadlineMs, options.signal);
      const answer = await this.#answer<M>(response, method, options);
      if (answer !== undefined) return answer.result;
      // The socket closed without a result: the daemon died while it worked.
      if (!(await this.#isAlive())) throw new NotMounted(this.#vmName);
      if (!repeatable.has(method)) throw new DaemonRestarted(this.#vmName, method);
    }
  }

  async #answer<M extends ControlMethod>(
    response: IncomingMessage,
    method: M,
    options: CallOptions,
  ): Promise<{ readonly result: ControlMethods[M]['result'] } | undefined> {
    try {
      for await (const message of messages(response)) {
        if ('progress' in message) options.onProgress?.(message.progress);
        else if ('error' in message) throw new RemoteError(message.error);
        else return { result: message.result as ControlMethods[M]['result'] };
      }
    } catch (error) {
      if (options.signal?.aborted === true) throw new Cancelled(`isr ${method}`);
      if (connectionErrorCode(error) !== 'ECONNRESET') throw error;
    } finally {
      response.destroy();
    }
    if (options.signal?.aborted === true) throw new Cancelled(`isr ${method}`);
    return undefined;
  }

  /** While a worker is being replaced, nobody listens for a moment. */
  async #connect(
    method: ControlMethod,
    body: string,
    deadlineMs: number,
    signal: AbortSignal | undefined,
  ): Promise<IncomingMessage> {
    for (;;) {
      try {
        return await this.#send(method, body, signal);
      } catch (error) {
        if (signal?.aborted === true) throw new Cancelled(`isr ${method}`);
        const code = connectionErrorCode(error) ?? '';
        if (!nobodyListens.has(code) && !hungUp.has(code)) throw error;
        if (!(await this.#isAlive())) throw new NotMounted(this.#vmName);
        if (performance.now() > deadlineMs) throw new DaemonSilent(this.#vmName);
        if (hungUp.has(code) && !repeatable.has(method)) throw new DaemonRestarted(this.#vmName, method);
        await sleep(retryIntervalMs);
      }
    }
  }

  #send(method: string, body: string, signal: AbortSignal | undefined): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const request = httpRequest(
        {
          socketPath: this.#socketPath,
          path: `/${method}`,
          method: 'POST',
          headers: { 'content-length': Buffer.byteLength(body) },
          agent: false,
          ...(signal === undefined ? {} : { signal }),
        },
        resolve,
      );
      request.once('error', reject);
      request.end(body);
    });
  }
}

const nobodyListens: ReadonlySet<string> = new Set(['ENOENT', 'ECONNREFUSED']);
const hungUp: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE']);

/** Also of errors that Node itself makes when the other side hangs up, which name no system call. */
function connectionErrorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** Splits a response into its lines. The daemon is ours: its messages are well formed and short. */
async function* messages(response: IncomingMessage): AsyncGenerator<ControlMessage> {
  let rest = '';
  response.setEncoding('utf8');
  for await (const text of response as AsyncIterable<string>) {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) yield JSON.parse(line) as ControlMessage;
  }
}
