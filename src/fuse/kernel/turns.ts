/** Bits of the number by which other threads wake the main thread. */
export const wake = {
  /** A request was handed over, or the device is the main thread's. */
  turn: 1,
  /** Something was mounted or unmounted on this host. */
  mountTable: 2,
  /** Requests come faster than the threads that are there answer them. */
  crowd: 4,
} as const;

/** What a serving thread is to do. */
const turn = {
  /** The thread has not been started. */
  absent: 0,
  /** Wait: another thread serves. */
  rest: 1,
  serve: 2,
  end: 3,
} as const;

/** A cache line for the main thread's words, and one for each serving thread's. */
const lineWords = 16;
const wakeWord = 0;
const handedCountWord = 1;
const turnWord = 0;
const handedBytesWord = 1;
const answeredWord = 2;

/** `Atomics.waitAsync` is newer than the library that the compiler is told of. */
const { waitAsync } = Atomics as unknown as {
  readonly waitAsync: (
    array: Int32Array,
    index: number,
    value: number,
  ) => { readonly async: boolean; readonly value: Promise<string> | string };
};

/**
 * All that the main thread and the serving threads of one mount share, beside the device, the memory that requests are handed
 * over in, and the table of local reads.
 *
 * Every word is read and written with `Atomics`, which keep the order in which a thread wrote. So who sees `handedBytes`
 * sees the request in memory, which was written before; and who sees it become 0 may use that memory again, for the main thread
 * copied the request before. One thread writes each word to a value, and another one back:
 *
 * - `turn`: any thread writes `serve` over `rest`, in one step that fails where it is anything else; the thread itself writes
 *   `rest` over `serve`, the same way. The main thread writes `rest` over `absent` when it starts the thread, and at last `end`.
 * - `handedBytes`: the thread writes the length of a request over 0, the main thread 0 over that length.
 * - `wake`: any thread sets bits; the main thread takes them all by writing 0 in the same step, and begins to wait for it
 *   to be other than 0 before it acts on them: a bit that is set at any time ends a wait that is under way or the next.
 */
export class Turns {
  readonly shared: SharedArrayBuffer;
  readonly #words: Int32Array;

  /** Makes the words for a number of threads, or takes those that another thread made. */
  constructor(from: number | SharedArrayBuffer) {
    this.shared = typeof from === 'number' ? new SharedArrayBuffer((1 + from) * lineWords * 4) : from;
    this.#words = new Int32Array(this.shared);
  }

  /** The main thread has something to do. */
  wakeMain(bits: number): void {
    Atomics.or(this.#words, wakeWord, bits);
    Atomics.notify(this.#words, wakeWord);
  }

  /** On the main thread: resolves when there are bits to take. */
  async woken(): Promise<void> {
    await waitAsync(this.#words, wakeWord, 0).value;
  }

  takeWakeBits(): number {
    return Atomics.exchange(this.#words, wakeWord, 0);
  }

  /** Ends a wait of the main thread that nobody else would end. */
  stopWaiting(): void {
    Atomics.notify(this.#words, wakeWord);
  }

  /** The thread is being started; it rests at first. */
  begin(thread: number): void {
    Atomics.store(this.#words, lineOf(thread) + turnWord, turn.rest);
  }

  /** Lets a helper that rests serve: a thread other than 0. `absent`: there is none, but one could be started. */
  callHelper(): 'called' | 'busy' | 'absent' {
    const threads = this.#words.length / lineWords - 1;
    for (let thread = 1; thread < threads; thread += 1) {
      if (this.give(thread)) return 'called';
      if (Atomics.load(this.#words, lineOf(thread) + turnWord) === turn.absent) return 'absent';
    }
    return 'busy';
  }

  /** Lets a thread that rests serve; answers whether it did rest. */
  give(thread: number): boolean {
    const at = lineOf(thread) + turnWord;
    if (Atomics.compareExchange(this.#words, at, turn.rest, turn.serve) !== turn.rest) return false;
    Atomics.notify(this.#words, at);
    return true;
  }

  /** On the main thread: the thread is to end, whatever it waits for. */
  end(thread: number): void {
    const at = lineOf(thread);
    Atomics.store(this.#words, at + turnWord, turn.end);
    Atomics.notify(this.#words, at + turnWord);
    // In this order: a thread that hands something over after this sees that it is to end, and does not wait.
    Atomics.store(this.#words, at + handedBytesWord, 0);
    Atomics.notify(this.#words, at + handedBytesWord);
  }

  isEnding(thread: number): boolean {
    return Atomics.load(this.#words, lineOf(thread) + turnWord) === turn.end;
  }

  /** On the thread itself: from now on another one serves. */
  rest(thread: number): void {
    Atomics.compareExchange(this.#words, lineOf(thread) + turnWord, turn.serve, turn.rest);
  }

  /** On the thread itself: blocks until it is to serve; false if it is to end. */
  waitForTurn(thread: number): boolean {
    const at = lineOf(thread) + turnWord;
    for (;;) {
      Atomics.wait(this.#words, at, turn.rest);
      const now = Atomics.load(this.#words, at);
      if (now !== turn.rest) return now === turn.serve;
    }
  }

  /** On a serving thread: the main thread is to answer the request that lies in this thread's memory. */
  handOver(thread: number, lengthBytes: number): void {
    Atomics.store(this.#words, lineOf(thread) + handedBytesWord, lengthBytes);
    Atomics.add(this.#words, handedCountWord, 1);
    this.wakeMain(wake.turn);
  }

  /** On a serving thread: blocks until the request that it handed over was taken, or the thread is to end. */
  waitUntilTaken(thread: number): void {
    const at = lineOf(thread) + handedBytesWord;
    while (!this.isEnding(thread)) {
      const handed = Atomics.load(this.#words, at);
      if (handed === 0) return;
      Atomics.wait(this.#words, at, handed);
    }
  }

  /** On the main thread: whether any request was handed over and not taken. */
  get isHanded(): boolean {
    return Atomics.load(this.#words, handedCountWord) > 0;
  }

  /** The length of the request that a thread has handed over; 0 if it has none. */
  handedBytes(thread: number): number {
    return Atomics.load(this.#words, lineOf(thread) + handedBytesWord);
  }

  /** On the main thread: the request was copied. */
  taken(thread: number): void {
    const at = lineOf(thread) + handedBytesWord;
    Atomics.sub(this.#words, handedCountWord, 1);
    Atomics.store(this.#words, at, 0);
    Atomics.notify(this.#words, at);
  }

  /** On a serving thread: it has answered a request. */
  countAnswer(thread: number): void {
    Atomics.add(this.#words, lineOf(thread) + answeredWord, 1);
  }

  /** Requests that a thread has answered so far, modulo 2^32. */
  answered(thread: number): number {
    return Atomics.load(this.#words, lineOf(thread) + answeredWord) >>> 0;
  }
}

function lineOf(thread: number): number {
  return (1 + thread) * lineWords;
}
