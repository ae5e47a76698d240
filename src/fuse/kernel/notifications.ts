import createDebug from 'debug';
import { Worker } from 'node:worker_threads';
import { programPath } from '../../base/index.js';

const debug = createDebug('isr:fuse');

/** Told the notifying thread at its start. */
export interface NotifyingThreadData {
  readonly deviceFd: number;
  readonly queue: SharedArrayBuffer;
}

/** A range of a file's page cache. */
export interface CachedRange {
  readonly inode: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** More than that wait only while the kernel holds the thread up: what is not said then costs requests, nothing else. */
const rangesQueuedMax = 256;

const headWord = 0;
const tailWord = 1;
const endWord = 2;
const controlBytes = 16;
const rangeNumbers = 3;

/**
 * Ranges on their way from the main thread to the notifying thread: a ring. The main thread writes a range and then `tail`,
 * the other one reads the range and then writes `head`; both words by `Atomics`, which keep that order. They count up and are taken
 * modulo the ring's size; each is written by one thread only.
 */
export class RangeQueue {
  readonly shared: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #ranges: Float64Array;

  constructor(
    shared = new SharedArrayBuffer(
      controlBytes + rangesQueuedMax * rangeNumbers * Float64Array.BYTES_PER_ELEMENT,
    ),
  ) {
    this.shared = shared;
    this.#words = new Int32Array(shared, 0, controlBytes / Int32Array.BYTES_PER_ELEMENT);
    this.#ranges = new Float64Array(shared, controlBytes);
  }

  /** False, and nothing done, if the ring is full. */
  put({ inode, offsetBytes, lengthBytes }: CachedRange): boolean {
    const tail = Atomics.load(this.#words, tailWord);
    if (this.length >= rangesQueuedMax) return false;
    this.#ranges.set([inode, offsetBytes, lengthBytes], placeOf(tail));
    Atomics.store(this.#words, tailWord, (tail + 1) | 0);
    Atomics.notify(this.#words, tailWord);
    return true;
  }

  /** Ranges that wait. */
  get length(): number {
    return (Atomics.load(this.#words, tailWord) - Atomics.load(this.#words, headWord)) | 0;
  }

  /** Blocks until there is a range; undefined when `end` was called. */
  take(): CachedRange | undefined {
    const head = Atomics.load(this.#words, headWord);
    for (;;) {
      if (Atomics.load(this.#words, endWord) !== 0) return undefined;
      if (Atomics.load(this.#words, tailWord) !== head) break;
      Atomics.wait(this.#words, tailWord, head);
    }
    const [inode = 0, offsetBytes = 0, lengthBytes = 0] = this.#ranges.subarray(placeOf(head));
    Atomics.store(this.#words, headWord, (head + 1) | 0);
    return { inode, offsetBytes, lengthBytes };
  }

  /** Whoever takes gets nothing any more. */
  end(): void {
    Atomics.store(this.#words, endWord, 1);
    // A wait ends at a change of `tail`, or here.
    Atomics.add(this.#words, tailWord, 1);
    Atomics.notify(this.#words, tailWord);
  }
}

/**
 * Tells the kernel to forget pages of its cache. In a thread of its own, because the kernel waits for pages whose read is not
 * answered yet: a thread that answers could wait for itself. It has descriptors of its own: see there.
 */
export class Notifications {
  readonly #deviceFd: number;
  readonly #queue = new RangeQueue();
  #worker: Worker | undefined;
  #exited: Promise<unknown> | undefined;
  #stopped = false;
  /** A thread that waits would hold up `process.exit`. */
  readonly #onExit = (): void => this.#queue.end();

  constructor(deviceFd: number) {
    this.#deviceFd = deviceFd;
  }

  /** The kernel is to read these pages anew when they are wanted; what is dirty of them it writes first. Best effort. */
  invalidate(range: CachedRange): void {
    if (this.#stopped || range.lengthBytes <= 0) return;
    this.#queue.put(range);
    if (this.#worker === undefined) this.#start();
  }

  /** Requests must go on being answered until it resolves. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#queue.end();
    await this.#exited;
    process.off('exit', this.#onExit);
  }

  #start(): void {
    const workerData: NotifyingThreadData = { deviceFd: this.#deviceFd, queue: this.#queue.shared };
    const worker = new Worker(programPath('notifying-thread'), {
      workerData,
      execArgv: [],
    });
    this.#worker = worker;
    this.#exited = new Promise((resolve) => worker.once('exit', resolve));
    worker.once('error', (error) => {
      debug('no pages are forgotten any more: %o', error);
      this.#stopped = true;
    });
    process.on('exit', this.#onExit);
  }
}

function placeOf(count: number): number {
  return ((count >>> 0) % rangesQueuedMax) * rangeNumbers;
}
