import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import { limits } from '../../base/index.js';
import type { FileSystem } from '../../fs/index.js';
import { readDescriptor, setNonBlocking, waitForData, writeDescriptor } from '../../system/index.js';
import { Poller } from './poller.js';
import { resendMessage } from './exchange.js';
import { Requests, type Send } from './requests.js';

const { EAGAIN, EINTR, ENOENT, ENODEV } = constants.errno;

/**
 * How long after an answer the next request is looked for without pause. A reader that goes on at once is back within
 * 15 to 30 us, and waking up for it takes longer than serving it, on an idle virtual core several times as long.
 */
const spinMilliseconds = 0.05;

/**
 * How long the thread then sleeps at the device, unless a request waits for the event loop: waking up from there needs
 * one thread instead of two. Bounded by what a delivery from the store may be late.
 */
const lingerNanoseconds = 200_000;

/** How long requests may keep the event loop from everything else: what the store delivers, control connections. */
const turnMilliseconds = 1;

export interface ConnectionListener {
  /** The kernel has ended the connection. */
  readonly onDisconnected: (reason: string) => void;
  readonly onMountTable: () => void;
}

/** A mount's connection to the kernel: takes requests from the device as they come, and owns its descriptor. */
export class Connection {
  readonly requests: Requests;
  readonly #fd: number;
  readonly #poller: Poller;
  readonly #listener: ConnectionListener;
  #scheduled = false;
  #connected = true;
  #closing: Promise<void> | undefined;

  /** `life` counts the processes that served the connection before. */
  constructor(fileSystem: FileSystem, fd: number, listener: ConnectionListener, life = 0) {
    this.#fd = fd;
    this.#listener = listener;
    setNonBlocking(fd);
    const send: Send = (answer, lengthBytes) => this.#send(answer, lengthBytes);
    this.requests = new Requests(fileSystem, send, life);
    this.requests.onLateAnswer = () => this.#serveSoon();
    this.#poller = new Poller(fd, {
      onRequest: () => this.#serve(),
      onMountTable: () => this.#listener.onMountTable(),
      onFailure: (error) => this.#disconnect(`lost the thread that watches it: ${error.message}`),
    });
    this.#serveSoon();
  }

  /**
   * Asks for what another process read and did not answer, to be sent again. False if the kernel does not know how.
   */
  askAgain(): boolean {
    const message = resendMessage();
    return this.#send(message, message.length) === 0;
  }

  /** Ends all requests, the poller and the connection. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.requests.stop();
    this.#connected = false;
    await this.#poller.stop();
    closeSync(this.#fd);
  }

  /** Serves requests until there have been none for a moment, or it is the turn of something else. */
  #serve(): void {
    if (!this.#connected) return;
    const turnEndsMs = performance.now() + turnMilliseconds;
    let spinEndsMs = turnEndsMs - turnMilliseconds + spinMilliseconds;
    while (this.requests.heldBytes < limits.kernelBytesWaiting) {
      const lengthBytes = readDescriptor(this.#fd, this.requests.memory.bytes);
      if (lengthBytes >= 0) {
        const outcome = this.requests.handle(lengthBytes);
        const nowMs = performance.now();
        // What waits, waits for the event loop.
        if (outcome === 'answered') spinEndsMs = nowMs + spinMilliseconds;
        else if (outcome === 'waits') spinEndsMs = 0;
        if (nowMs > turnEndsMs) {
          this.#serveSoon();
          return;
        }
      } else if (lengthBytes === -EAGAIN) {
        if (performance.now() > spinEndsMs) {
          if (spinEndsMs > 0 && !this.requests.somebodyWaits && waitForData(this.#fd, lingerNanoseconds)) {
            continue;
          }
          this.#poller.arm();
          return;
        }
      } else if (lengthBytes !== -EINTR && lengthBytes !== -ENOENT) {
        this.#disconnect(
          lengthBytes === -ENODEV ? 'was unmounted by somebody else' : 'was disconnected by somebody else',
        );
        return;
      }
    }
    // Too much waits: `onLateAnswer` goes on.
  }

  #serveSoon(): void {
    if (this.#scheduled || !this.#connected) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#serve();
    });
  }

  #send(answer: Uint8Array, lengthBytes: number): number {
    if (!this.#connected) return -ENODEV;
    for (;;) {
      const written = writeDescriptor(this.#fd, answer, lengthBytes);
      if (written !== -EINTR) return Math.min(written, 0);
    }
  }

  #disconnect(reason: string): void {
    if (!this.#connected) return;
    this.#connected = false;
    this.#listener.onDisconnected(reason);
  }
}
