import { open, rename, rm, type FileHandle } from 'node:fs/promises';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { addAbortSignal } from 'node:stream';
import { limits } from '../../base/index.js';
import { MonitorClosed } from './errors.js';
import { retryWhileAbsent } from './retry.js';

/**
 * The saved device state travels between QEMU and its file through this process, over a Unix socket: QEMU's `exec:`
 * would need a shell, and would not say that the last bytes did not fit on the disk.
 */

/** Receives a state from QEMU into a file that takes its name only when it is complete. */
export class StateReceiver implements AsyncDisposable {
  /** Resolves when QEMU has sent everything and it is flushed under the temporary name; rejects when it cannot be. */
  readonly received: Promise<void>;
  readonly #server: Server;
  readonly #path: string;
  readonly #file: FileHandle;
  #socket: Socket | undefined;
  #failure: unknown;
  #isKept = false;

  private constructor(server: Server, path: string, file: FileHandle, signal: AbortSignal) {
    this.#server = server;
    this.#path = path;
    this.#file = file;
    this.received = this.#receive(signal);
    // Whoever saves looks at it last, after QEMU's own report.
    this.received.catch(() => undefined);
  }

  /** Listens on `socketPath` until the signal fires; rejects when the file cannot be created. */
  static async listen(socketPath: string, path: string, signal: AbortSignal): Promise<StateReceiver> {
    const file = await open(temporaryName(path), 'w', 0o600);
    try {
      await rm(socketPath, { force: true });
      const server = createServer();
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen({ path: socketPath, signal }, resolve);
      });
      return new StateReceiver(server, path, file, signal);
    } catch (error) {
      await file.close();
      await rm(temporaryName(path), { force: true });
      throw error;
    }
  }

  /** Why the state could not be written here, as opposed to not being sent. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Whether the state has its name. */
  get isKept(): boolean {
    return this.#isKept;
  }

  /** Gives the complete state its name, in place of an older one. */
  async keep(): Promise<void> {
    await this.received;
    await rename(temporaryName(this.#path), this.#path);
    this.#isKept = true;
    await syncDirectory(dirname(this.#path));
  }

  /** Ends the transfer and removes what was not kept. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket?.destroy();
    if (this.#server.listening) this.#server.close();
    await this.received.catch(() => undefined);
    await rm(temporaryName(this.#path), { force: true });
  }

  async #receive(signal: AbortSignal): Promise<void> {
    try {
      const socket = addAbortSignal(signal, await this.#accept());
      this.#socket = socket;
      // Leaving the loop by an error destroys the socket, which QEMU sees as a failed migration.
      for await (const bytes of socket as AsyncIterable<Buffer>)
        await this.#write(() => writeAll(this.#file, bytes));
      await this.#write(() => this.#file.sync());
    } finally {
      if (this.#server.listening) this.#server.close();
      await this.#file.close();
    }
  }

  async #write(action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (error) {
      this.#failure = error;
      throw error;
    }
  }

  #accept(): Promise<Socket> {
    return new Promise((resolve, reject) => {
      this.#server.once('connection', resolve);
      this.#server.once('close', () => reject(new Error('QEMU did not send its state')));
    });
  }
}

/**
 * A saved state that is being read before QEMU asks for it: fetching its pieces from a store and starting QEMU take
 * place at the same time. Pieces are read side by side, within a bound.
 */
export class StateSender implements AsyncDisposable {
  readonly #file: FileHandle;
  readonly #pieces: Promise<Buffer>[] = [];
  readonly #sizeBytes: number;
  #nextOffset = 0;

  private constructor(file: FileHandle, sizeBytes: number) {
    this.#file = file;
    this.#sizeBytes = sizeBytes;
    while (this.#pieces.length < limits.savedStateReadsInFlight && this.#readOn());
  }

  /** Begins to read; rejects with the system's error (`ENOENT`) when there is no such file. */
  static async open(path: string): Promise<StateSender> {
    const file = await open(path, 'r');
    return new StateSender(file, (await file.stat()).size);
  }

  /**
   * Sends everything to the socket on which QEMU listens. Resolves when it is on its way; `MonitorClosed` when QEMU stops
   * reading, the system's error when the file cannot be read.
   */
  async sendTo(socketPath: string, signal: AbortSignal): Promise<void> {
    const socket = addAbortSignal(signal, await retryWhileAbsent(() => connect(socketPath), signal));
    try {
      for (let piece = this.#pieces.shift(); piece !== undefined; piece = this.#pieces.shift()) {
        this.#readOn();
        await writeToSocket(socket, await piece);
      }
      // Called at the end or at a failure; what QEMU makes of it, it says over QMP.
      await new Promise<void>((resolve) => socket.end(() => resolve()));
    } finally {
      socket.destroy();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled(this.#pieces);
    await this.#file.close();
  }

  /** Begins to read the next piece; false at the end of the file. */
  #readOn(): boolean {
    const offset = this.#nextOffset;
    const length = Math.min(limits.chunkBytes, this.#sizeBytes - offset);
    if (length <= 0) return false;
    const piece = readFully(this.#file, offset, length);
    piece.catch(() => undefined);
    this.#pieces.push(piece);
    this.#nextOffset = offset + length;
    return true;
  }
}

function temporaryName(path: string): string {
  return `${path}.saving`;
}

/** Where a state lies that a guest is being resumed from. */
export function asideName(path: string): string {
  return `${path}.resumed`;
}

/** Removes what interrupted saves and resumes left; not while one is under way. */
export async function removeLeftovers(path: string): Promise<void> {
  for (const leftover of [temporaryName(path), asideName(path)]) await rm(leftover, { force: true });
}

/** Removes a saved state and everything that belongs to it. */
export async function removeSavedState(path: string): Promise<void> {
  await rm(path, { force: true });
  await removeLeftovers(path);
}

async function readFully(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(length);
  for (let done = 0; done < length;) {
    const { bytesRead } = await file.read(buffer, done, length - done, offset + done);
    if (bytesRead === 0) throw new Error('the saved state became shorter while it was read');
    done += bytesRead;
  }
  return buffer;
}

async function writeAll(file: FileHandle, bytes: Buffer): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    done += (await file.write(bytes, done, bytes.length - done)).bytesWritten;
  }
}

function writeToSocket(socket: Socket, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.write(bytes, (error) => {
      if (error instanceof Error)
        reject(new MonitorClosed('QEMU stopped reading the saved state.', { cause: error }));
      else resolve();
    });
  });
}

function connect(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.removeListener('error', reject);
      // Failures reach the writes; an emitter without a listener would end the process.
      socket.on('error', () => undefined);
      resolve(socket);
    });
  });
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
