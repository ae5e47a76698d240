import { request as httpRequest, type IncomingMessage } from 'node:http';
import { Cancelled, systemErrorCode, type ProgressListener } from '../base/index.js';
import type { ControlMessage, ControlMethod, ControlMethods } from './control-protocol.js';
import { NotMounted, RemoteError } from './errors.js';
import type { WarmRequest } from '../fetch/index.js';
import type { DaemonClient, DaemonStatus, PublishResult, UnmountResult, WarmResult } from './types.js';

interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ProgressListener | undefined;
}

/** A `DaemonClient` over the control socket. One connection a call; nothing to close. */
export class ControlClient implements DaemonClient {
  readonly mountPath: string;
  readonly ephemeral: boolean;
  readonly #vmName: string;
  readonly #socketPath: string;

  constructor(
    vmName: string,
    socketPath: string,
    mount: { readonly mountPath: string; readonly ephemeral: boolean },
  ) {
    this.mountPath = mount.mountPath;
    this.ephemeral = mount.ephemeral;
    this.#vmName = vmName;
    this.#socketPath = socketPath;
  }

  status(): Promise<DaemonStatus> {
    return this.#call('status', {});
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

  unmount(): Promise<UnmountResult> {
    return this.#call('unmount', {});
  }

  async #call<M extends ControlMethod>(
    method: M,
    parameters: ControlMethods[M]['parameters'],
    options: CallOptions = {},
  ): Promise<ControlMethods[M]['result']> {
    const response = await this.#send(method, JSON.stringify(parameters), options.signal);
    try {
      for await (const message of messages(response)) {
        if ('progress' in message) options.onProgress?.(message.progress);
        else if ('error' in message) throw new RemoteError(message.error);
        else return message.result as ControlMethods[M]['result'];
      }
    } catch (error) {
      if (options.signal?.aborted === true) throw new Cancelled(`isr ${method}`);
      throw error;
    } finally {
      response.destroy();
    }
    if (options.signal?.aborted === true) throw new Cancelled(`isr ${method}`);
    // The socket closed without a result: the daemon died while it worked.
    throw new NotMounted(this.#vmName);
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
      request.once('error', (error) => {
        if (signal?.aborted === true) reject(new Cancelled(`isr ${method}`));
        else if (['ENOENT', 'ECONNREFUSED', 'ECONNRESET'].includes(systemErrorCode(error) ?? '')) {
          reject(new NotMounted(this.#vmName));
        } else reject(error);
      });
      request.end(body);
    });
  }
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
