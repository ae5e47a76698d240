import { closeSync, constants, openSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { programPath } from '../../base/index.js';
import type { SharedLocalReads } from '../../resident/index.js';
import { unforkedMemory, waitFor, WaitSet, WakeDescriptor, type UnforkedMemory } from '../../system/index.js';
import { requestBytesMax } from './sizes.js';
import { Turns, wake } from './turns.js';

/** Told a serving thread at its start. */
export interface ServingThreadData {
  readonly thread: number;
  readonly deviceFd: number;
  readonly turns: SharedArrayBuffer;
  /** Where its requests arrive, and are handed over. */
  readonly memory: Uint8Array;
  /** Undefined if only the main thread can read. */
  readonly reads: SharedLocalReads | undefined;
  /** For the thread that waits while there is nothing to do. */
  readonly waiting:
    { readonly waitSetFd: number; readonly stopFd: number; readonly mountTableFd: number } | undefined;
}

export interface ServingListener {
  /** The main thread is to look at the device. */
  readonly onTurn: () => void;
  /** Something was mounted or unmounted on this host. */
  readonly onMountTable: () => void;
  /** A thread has failed. */
  readonly onFailure: (error: Error) => void;
}

/**
 * The threads that serve a device beside the main thread, which has much else to do and cannot wait for a device: Node
 * watches no descriptors but those of sockets and pipes.
 *
 * Thread 0 has the device whenever the main thread does not: it waits for requests, answers those that it can, and gives the
 * device back with the first that it cannot. The others help either of them for as long as requests come faster than
 * they are answered; each starts when it is first called.
 */
export class ServingThreads {
  readonly #turns: Turns;
  readonly #memories: UnforkedMemory[] = [];
  readonly #workers: Worker[] = [];
  readonly #exits: Promise<unknown>[] = [];
  readonly #deviceFd: number;
  readonly #threads: number;
  readonly #reads: SharedLocalReads | undefined;
  readonly #listener: ServingListener;
  readonly #waitSet = new WaitSet();
  readonly #stop = new WakeDescriptor();
  readonly #mountTableFd: number;
  #stopped = false;
  /** A thread that waits in the kernel would hold up `process.exit`. */
  readonly #onExit = (): void => this.#signalEnd();

  /** `threads`: how many may serve at once, the main thread not counted; at least one. */
  constructor(
    deviceFd: number,
    options: { readonly threads: number; readonly reads: SharedLocalReads | undefined },
    listener: ServingListener,
  ) {
    this.#deviceFd = deviceFd;
    this.#threads = options.reads === undefined ? 1 : options.threads;
    this.#reads = options.reads;
    this.#listener = listener;
    this.#turns = new Turns(this.#threads);
    this.#mountTableFd = openSync('/proc/self/mountinfo', constants.O_RDONLY);
    this.#waitSet.watch(deviceFd, waitFor.data);
    this.#waitSet.watch(this.#stop.fd, waitFor.data);
    this.#waitSet.watch(this.#mountTableFd, waitFor.exception);
    this.#startThread();
    process.on('exit', this.#onExit);
    void this.#listen();
  }

  /** Requests that the threads have answered so far. */
  get answered(): number {
    return this.#workers.reduce((sum, _, thread) => sum + this.#turns.answered(thread), 0);
  }

  /** Whether the threads can answer anything themselves. */
  get canAnswer(): boolean {
    return this.#reads !== undefined;
  }

  /** Whether requests wait to be taken with `takeHanded`. */
  get isHanded(): boolean {
    return this.#turns.isHanded;
  }

  /** Leaves the device to thread 0. */
  pass(): void {
    if (!this.#stopped) this.#turns.give(0);
  }

  /** Calls another thread to help, which ends its help by itself. */
  callHelp(): void {
    if (this.#stopped || this.#turns.callHelper() !== 'absent') return;
    this.#turns.give(this.#startThread());
  }

  /** Copies a request that was handed over to `into`, and answers its length; 0 if there is none. */
  takeHanded(into: Uint8Array): number {
    for (const [thread, memory] of this.#memories.entries()) {
      const lengthBytes = this.#turns.handedBytes(thread);
      if (lengthBytes === 0) continue;
      into.set(memory.bytes.subarray(0, lengthBytes));
      this.#turns.taken(thread);
      return lengthBytes;
    }
    return 0;
  }

  /** Ends the threads. The device's descriptor stays open. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#signalEnd();
    await Promise.all(this.#exits);
    for (const memory of this.#memories) memory.release();
    process.off('exit', this.#onExit);
    this.#turns.stopWaiting();
    this.#stop.close();
    this.#waitSet.close();
    closeSync(this.#mountTableFd);
  }

  #signalEnd(): void {
    this.#workers.forEach((_, thread) => this.#turns.end(thread));
    this.#stop.signal();
  }

  #startThread(): number {
    const thread = this.#workers.length;
    // As that of `RequestMemory`.
    const memory = unforkedMemory(requestBytesMax, 'shared');
    const workerData: ServingThreadData = {
      thread,
      deviceFd: this.#deviceFd,
      turns: this.#turns.shared,
      memory: memory.bytes,
      reads: this.#reads,
      waiting:
        thread > 0
          ? undefined
          : { waitSetFd: this.#waitSet.fd, stopFd: this.#stop.fd, mountTableFd: this.#mountTableFd },
    };
    this.#turns.begin(thread);
    const worker = new Worker(programPath('serving-thread'), {
      workerData,
      // Modules that the program was told to load are not for this thread.
      execArgv: [],
    });
    this.#memories.push(memory);
    this.#workers.push(worker);
    this.#exits.push(new Promise((resolve) => worker.once('exit', resolve)));
    worker.once('error', (error) => this.#listener.onFailure(error));
    return thread;
  }

  async #listen(): Promise<void> {
    for (;;) {
      await this.#turns.woken();
      if (this.#stopped) return;
      const bits = this.#turns.takeWakeBits();
      if ((bits & wake.crowd) !== 0) this.callHelp();
      if ((bits & wake.turn) !== 0) this.#listener.onTurn();
      if ((bits & wake.mountTable) !== 0) this.#listener.onMountTable();
    }
  }
}
