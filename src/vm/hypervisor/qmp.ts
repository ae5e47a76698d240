import { createConnection, type Socket } from 'node:net';
import * as v from 'valibot';
import { limits } from '../../base/index.js';
import { abortError } from './deadline.js';
import { MonitorClosed, MonitorRefused } from './errors.js';

export interface QmpEvent {
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
}

const errorSchema = v.object({ class: v.string(), desc: v.string() });

const messageSchema = v.union([
  v.object({ QMP: v.looseObject({}) }),
  v.object({ event: v.string(), data: v.optional(v.record(v.string(), v.unknown()), {}) }),
  v.object({ id: v.optional(v.number()), error: errorSchema }),
  v.object({ id: v.number(), return: v.unknown() }),
]);

interface Waiter {
  /** Begins a sentence in an error. */
  readonly what: string;
  resolve(value: unknown): void;
  reject(error: Error): void;
}

interface EventWaiter extends Waiter {
  matches(event: QmpEvent): boolean;
}

/**
 * Speaks to QEMU's machine monitor, one JSON object a line each way.
 * Source: "QEMU Machine Protocol Specification", docs/interop/qmp-spec in QEMU.
 *
 * QEMU serves one client at a time: a second one connects but is not greeted until the first leaves.
 */
export class QmpClient implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #closed: Promise<void>;
  readonly #answers = new Map<number, Waiter>();
  readonly #events = new Set<EventWaiter>();
  #greeting: Waiter | undefined;
  #received: Buffer[] = [];
  #receivedBytes = 0;
  #nextId = 1;
  #ended: MonitorClosed | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#closed = new Promise((resolve) => socket.once('close', () => resolve()));
    socket.on('data', (bytes) => this.#receive(bytes));
    socket.on('error', (error) => this.#end(`the connection to QEMU broke (${error.message})`));
    socket.on('close', () => this.#end('QEMU closed the connection'));
  }

  /**
   * Connects, waits for the greeting and leaves negotiation mode. Rejects with the system's error (`ENOENT`,
   * `ECONNREFUSED`) where nobody listens, `MonitorClosed`, or as the signal says.
   */
  static async connect(socketPath: string, options: { readonly signal: AbortSignal }): Promise<QmpClient> {
    const client = new QmpClient(await connectSocket(socketPath, options.signal));
    try {
      await client.#wait('Waiting for QEMU to answer', options.signal, (waiter) => {
        client.#greeting = waiter;
        return () => (client.#greeting = undefined);
      });
      await client.execute('qmp_capabilities', {}, options);
      return client;
    } catch (error) {
      await client[Symbol.asyncDispose]();
      throw error;
    }
  }

  /**
   * Runs a command and returns what it returned. `MonitorRefused` when QEMU answers with an error, `MonitorClosed` when
   * it goes away. After an abort the command may still take effect.
   */
  execute(
    command: string,
    parameters: Readonly<Record<string, unknown>>,
    options: { readonly signal: AbortSignal },
  ): Promise<unknown> {
    const id = this.#nextId;
    this.#nextId += 1;
    return this.#wait(`The QEMU command ${command}`, options.signal, (waiter) => {
      this.#answers.set(id, waiter);
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: parameters, id })}\n`);
      return () => this.#answers.delete(id);
    });
  }

  /**
   * The next event that matches, counted from this call: ask before running the command that causes it. It is no error
   * to let the promise go unused.
   */
  nextEvent(
    matches: (event: QmpEvent) => boolean,
    options: { readonly what: string; readonly signal: AbortSignal },
  ): Promise<QmpEvent> {
    const event = this.#wait(options.what, options.signal, (waiter) => {
      const eventWaiter: EventWaiter = { ...waiter, matches };
      this.#events.add(eventWaiter);
      return () => this.#events.delete(eventWaiter);
    });
    event.catch(() => undefined);
    return event as Promise<QmpEvent>;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end('the connection to QEMU was closed');
    await this.#closed;
  }

  #wait(what: string, signal: AbortSignal, register: (waiter: Waiter) => () => unknown): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const refused = this.#ended ?? (signal.aborted ? abortError(signal, what) : undefined);
      if (refused !== undefined) {
        reject(refused);
        return;
      }
      const settle = <T>(action: (value: T) => void): ((value: T) => void) => {
        return (value) => {
          signal.removeEventListener('abort', abort);
          unregister();
          action(value);
        };
      };
      const waiter: Waiter = { what, resolve: settle(resolve), reject: settle(reject) };
      const abort = (): void => waiter.reject(abortError(signal, what));
      signal.addEventListener('abort', abort, { once: true });
      const unregister = register(waiter);
    });
  }

  #receive(bytes: Buffer): void {
    let rest = bytes;
    for (let end = rest.indexOf('\n'); end >= 0; end = rest.indexOf('\n')) {
      const line = Buffer.concat([...this.#received, rest.subarray(0, end)]).toString();
      this.#received = [];
      this.#receivedBytes = 0;
      rest = rest.subarray(end + 1);
      this.#handleLine(line);
      if (this.#ended !== undefined) return;
    }
    this.#receivedBytes += rest.length;
    if (rest.length > 0) this.#received.push(rest);
    if (this.#receivedBytes > limits.qmpLineBytesMax) this.#end('what it sends is not QMP');
  }

  #handleLine(line: string): void {
    const message = parseMessage(line);
    if (message === undefined) {
      this.#end('what it sends is not QMP');
    } else if ('QMP' in message) {
      this.#greeting?.resolve(undefined);
    } else if ('event' in message) {
      const event: QmpEvent = { name: message.event, data: message.data };
      for (const waiter of [...this.#events]) if (waiter.matches(event)) waiter.resolve(event);
    } else if ('error' in message) {
      // An error without an id answers a line that QEMU could not read: then our side is broken too.
      const waiter = message.id === undefined ? undefined : this.#answers.get(message.id);
      if (waiter === undefined) this.#end(`it reports an error (${message.error.desc})`);
      else waiter.reject(refusal(waiter.what, message.error));
    } else {
      this.#answers.get(message.id)?.resolve(message.return);
    }
  }

  #end(reason: string): void {
    if (this.#ended !== undefined) return;
    const error = new MonitorClosed(`QEMU's monitor cannot be used: ${reason}.`);
    this.#ended = error;
    this.#socket.destroy();
    for (const waiter of [...this.#answers.values(), ...this.#events]) waiter.reject(error);
    this.#greeting?.reject(error);
  }
}

function connectSocket(path: string, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(abortError(signal, 'Connecting to QEMU'));
      return;
    }
    const socket = createConnection(path);
    const abort = (): void => {
      socket.destroy();
      reject(abortError(signal, 'Connecting to QEMU'));
    };
    signal.addEventListener('abort', abort, { once: true });
    socket.once('error', reject);
    socket.once('connect', () => {
      signal.removeEventListener('abort', abort);
      socket.removeListener('error', reject);
      resolve(socket);
    });
    socket.once('close', () => signal.removeEventListener('abort', abort));
  });
}

function parseMessage(line: string): v.InferOutput<typeof messageSchema> | undefined {
  try {
    const result = v.safeParse(messageSchema, JSON.parse(line));
    return result.success ? result.output : undefined;
  } catch {
    return undefined;
  }
}

function refusal(what: string, error: v.InferOutput<typeof errorSchema>): MonitorRefused {
  return new MonitorRefused(`${what} was refused: ${error.desc}.`, { facts: { qmpClass: error.class } });
}
