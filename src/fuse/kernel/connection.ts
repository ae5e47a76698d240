import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import { limits } from '../../base/index.js';
import type { FileSystem } from '../../fs/index.js';
import type { EngineStatus } from '../types.js';
import { readDescriptor, setNonBlocking, waitForData, writeDescriptor } from '../../system/index.js';
import { resendMessage } from './exchange.js';
import { Notifications } from './notifications.js';
import { Requests, type Outcome, type Send } from './requests.js';
import { ServingThreads } from './serving-threads.js';
import {
  crowdRequests,
  lingerNanoseconds,
  readsBeforePassing,
  readsBeforePassingMax,
  spinMilliseconds,
  turnMilliseconds,
} from './timing.js';

const { EAGAIN, EINTR, ENOENT, ENODEV } = constants.errno;

export interface ConnectionListener {
  /** The kernel has ended the connection. */
  readonly onDisconnected: (reason: string) => void;
  readonly onMountTable: () => void;
}

/** A mount's connection to the kernel: takes requests from the device as they come, and owns its descriptor. */
export class Connection {
  readonly requests: Requests;
  readonly #fd: number;
  readonly #threads: ServingThreads;
  readonly #notifications: Notifications;
  readonly #listener: ConnectionListener;
  #scheduled = false;
  #connected = true;
  #closing: Promise<void> | undefined;
  /** Reads in a row that were answered here, and after how many the other threads are to go on. */
  #readsInARow = 0;
  #readsBeforePassing = readsBeforePassing;
  #answeredWhenPassed = 0;

  /**
   * `threads`: how many may answer reads of local data at once, beside this one. `life` counts the processes that served the
   * connection before.
   */
  constructor(
    fileSystem: FileSystem,
    fd: number,
    options: { readonly threads: number; readonly life?: number },
    listener: ConnectionListener,
  ) {
    this.#fd = fd;
    this.#listener = listener;
    setNonBlocking(fd);
    const send: Send = (answer, lengthBytes) => this.#send(answer, lengthBytes);
    this.#notifications = new Notifications(fd);
    this.requests = new Requests(fileSystem, send, {
      life: options.life ?? 0,
      forgetPages: (range) => this.#notifications.invalidate(range),
    });
    this.requests.onLateAnswer = () => this.#serveSoon();
    this.#threads = new ServingThreads(
      fd,
      { threads: options.threads, reads: fileSystem.shareReads?.() },
      {
        onTurn: () => this.#serve(),
        onMountTable: () => this.#listener.onMountTable(),
        onFailure: (error) => this.#disconnect(`lost a thread that serves it: ${error.message}`),
      },
    );
    this.#serveSoon();
  }

  /**
   * Asks for what another process read and did not answer, to be sent again. False if the kernel does not know how.
   */
  askAgain(): boolean {
    const message = resendMessage();
    return this.#send(message, message.length) === 0;
  }

  status(): EngineStatus {
    const status = this.requests.status();
    return { ...status, requests: status.requests + this.#threads.answered };
  }

  /** Ends all requests, the threads and the connection. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.requests.stop();
    // Requests go on being refused meanwhile: a notification may wait for pages that one of them holds.
    await this.#notifications.stop();
    this.#connected = false;
    await this.#threads.stop();
    this.requests.memory.release();
    closeSync(this.#fd);
  }

  /**
   * Serves requests until there have been none for a moment, or it is the turn of something else; then other threads have the
   * device again.
   */
  #serve(): void {
    if (!this.#connected) return;
    const turnEndsMs = performance.now() + turnMilliseconds;
    let spinEndsMs = turnEndsMs - turnMilliseconds + spinMilliseconds;
    let inARow = 0;
    while (this.requests.heldBytes < limits.kernelBytesWaiting) {
      const lengthBytes = this.#take();
      if (lengthBytes >= 0) {
        const outcome = this.requests.handle(lengthBytes);
        const nowMs = performance.now();
        // What waits, waits for the event loop.
        if (outcome === 'waits') spinEndsMs = 0;
        else if (outcome !== 'silent') spinEndsMs = nowMs + spinMilliseconds;
        inARow += 1;
        if (inARow % crowdRequests === 0) this.#threads.callHelp();
        if (this.#threads.canAnswer && this.#isForThreads(outcome)) break;
        if (nowMs <= turnEndsMs) continue;
        if (this.#threads.canAnswer) break;
        this.#serveSoon();
        return;
      } else if (lengthBytes === -EAGAIN) {
        inARow = 0;
        if (performance.now() <= spinEndsMs) continue;
        const mayLinger = spinEndsMs > 0 && !this.requests.somebodyWaits;
        if (!mayLinger || !waitForData(this.#fd, lingerNanoseconds)) break;
      } else if (lengthBytes !== -EINTR && lengthBytes !== -ENOENT) {
        this.#disconnect(
          lengthBytes === -ENODEV ? 'was unmounted by somebody else' : 'was disconnected by somebody else',
        );
        return;
      }
    }
    // Where too much waits, `onLateAnswer` goes on.
    if (this.requests.heldBytes < limits.kernelBytesWaiting) this.#threads.pass();
  }

  /** The length of the next request, handed over or from the device; an error number negated if there is none. */
  #take(): number {
    const { bytes } = this.requests.memory;
    const handedBytes = this.#threads.isHanded ? this.#threads.takeHanded(bytes) : 0;
    return handedBytes > 0 ? handedBytes : readDescriptor(this.#fd, bytes);
  }

  /** Whether reads of local data come one after the other, which other threads can answer while this one does something else. */
  #isForThreads(outcome: Outcome): boolean {
    this.#readsInARow = outcome === 'read' ? this.#readsInARow + 1 : 0;
    if (this.#readsInARow < this.#readsBeforePassing) return false;
    const { answered } = this.#threads;
    const paid = answered - this.#answeredWhenPassed >= readsBeforePassing;
    this.#readsBeforePassing = paid
      ? readsBeforePassing
      : Math.min(this.#readsBeforePassing * 2, readsBeforePassingMax);
    this.#answeredWhenPassed = answered;
    this.#readsInARow = 0;
    return true;
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
