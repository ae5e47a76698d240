import { chmod, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import createDebug from 'debug';
import { InvalidInput, type ProgressListener } from '../base/index.js';
import {
  requestBytesMax,
  type ControlMessage,
  type ControlMethod,
  type ControlMethods,
} from './control-protocol.js';
import { toWire } from './errors.js';

const debug = createDebug('isr:daemon:control');

export interface ControlCall {
  readonly signal: AbortSignal;
  readonly onProgress: ProgressListener;
}

export type ControlHandlers = {
  readonly [M in ControlMethod]: (
    parameters: ControlMethods[M]['parameters'],
    call: ControlCall,
  ) => Promise<ControlMethods[M]['result']>;
};

/** Answers control requests on a Unix socket that only this user can open. A client that hangs up cancels its request. */
export class ControlServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #socketPath: string;

  private constructor(server: Server, socketPath: string) {
    this.#server = server;
    this.#socketPath = socketPath;
  }

  /** Takes over the socket's path: the caller holds the VM's lock, so whoever listened there is dead. */
  static async listen(socketPath: string, handlers: ControlHandlers): Promise<ControlServer> {
    await rm(socketPath, { force: true });
    const server = createServer((request, response) => {
      answer(request, response, handlers).catch((error: unknown) => {
        debug('control request failed: %o', error);
        response.destroy();
      });
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(socketPath, () => {
        server.off('error', reject);
        resolve();
      });
    });
    await chmod(socketPath, 0o600);
    return new ControlServer(server, socketPath);
  }

  /** Stops listening, lets requests under way finish, removes the socket. */
  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeIdleConnections();
    await closed;
    await rm(this.#socketPath, { force: true });
  }
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  handlers: ControlHandlers,
): Promise<void> {
  const send = (message: ControlMessage): void => {
    response.write(`${JSON.stringify(message)}\n`);
  };
  const hangUp = new AbortController();
  response.once('close', () => hangUp.abort());
  response.writeHead(200, { 'content-type': 'application/x-ndjson', connection: 'close' });
  try {
    const method = (request.url ?? '').slice(1);
    if (request.method !== 'POST' || !Object.hasOwn(handlers, method)) {
      throw new InvalidInput(`The control socket has no method ${method}.`);
    }
    const parameters = await readParameters(request);
    const handler = handlers[method as ControlMethod] as (
      parameters: unknown,
      call: ControlCall,
    ) => Promise<unknown>;
    const result = await handler(parameters, {
      signal: hangUp.signal,
      onProgress: (progress) => send({ progress }),
    });
    send({ result });
  } catch (error) {
    send({ error: toWire(error) });
  }
  response.end();
}

async function readParameters(request: IncomingMessage): Promise<unknown> {
  if (Number(request.headers['content-length'] ?? 0) > requestBytesMax) {
    throw new InvalidInput('The control request is too long.');
  }
  const body = await text(request);
  try {
    return JSON.parse(body === '' ? '{}' : body) as unknown;
  } catch (cause) {
    throw new InvalidInput('The control request is not JSON.', { cause });
  }
}
