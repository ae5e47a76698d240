import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** What a guest says; see work.sh. */
export interface GuestLine {
  readonly kind: 'ready' | 'begun' | 'done' | 'idle';
  readonly nonce: string;
  readonly token: string;
  /** Of what the work read. */
  readonly digest: string;
  /** When it was here, as `performance.now()`. */
  readonly atMs: number;
}

/**
 * What a guest does after a resume that is measured: its work; or, as the worst case of fetching what is touched, that after
 * it has read all of its memory.
 */
export type GuestWork = 'go' | 'scan';

/** What a guest understands; see work.sh. */
export type GuestRequest = 'ping' | GuestWork | `dirty:${number}`;

/** Between two attempts: to connect, and to be heard. */
const attemptMs = 5;
const repeatMs = 500;

/** A resume overwrites what the serial port had received before, up to its FIFO's 16 bytes: let it be these. */
const padding = '\n'.repeat(32);

/** A guest's serial console, through the socket that QEMU makes. */
export class GuestConsole implements Disposable {
  readonly #socket: Socket;
  readonly #lines: GuestLine[] = [];
  readonly #listeners = new Set<() => void>();
  #text = '';
  #isClosed = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => {
      this.#take(text);
    });
    const close = (): void => {
      this.#isClosed = true;
      this.#notify();
    };
    socket.on('error', close).on('close', close);
  }

  /** Waits until the socket is there. */
  static async connect(path: string, signal: AbortSignal): Promise<GuestConsole> {
    for (;;) {
      signal.throwIfAborted();
      const socket = await tryConnect(path);
      if (socket !== undefined) return new GuestConsole(socket);
      await sleep(attemptMs);
    }
  }

  /** Has the guest answer, or do something, and returns the first line it says. */
  async request(word: GuestRequest, signal: AbortSignal): Promise<GuestLine> {
    const token = randomBytes(4).toString('hex');
    const say = (): void => void this.#socket.write(`${padding}${word} ${token}\n`);
    say();
    const repeating = setInterval(say, repeatMs);
    try {
      return await this.line('begun', token, signal);
    } finally {
      clearInterval(repeating);
    }
  }

  /** The line of this kind that belongs to a token. */
  async line(kind: GuestLine['kind'], token: string | undefined, signal: AbortSignal): Promise<GuestLine> {
    for (;;) {
      const line = this.#lines.find((each) => each.kind === kind && (token ?? each.token) === each.token);
      if (line !== undefined) return line;
      if (this.#isClosed) throw new Error(`the guest's console closed before it said "${kind}"`);
      signal.throwIfAborted();
      await this.#change(signal);
    }
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  #change(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const listener = (): void => {
        this.#listeners.delete(listener);
        signal.removeEventListener('abort', listener);
        resolve();
      };
      this.#listeners.add(listener);
      signal.addEventListener('abort', listener);
    });
  }

  #notify(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  #take(text: string): void {
    const atMs = performance.now();
    const lines = (this.#text + text).split('\n');
    this.#text = lines.pop() ?? '';
    for (const line of lines) {
      const found =
        /isr-bench (ready|begun|done|idle) nonce=([0-9a-f]{32}) token=(\S+) digest=(\S+)\r?$/.exec(line);
      if (found === null) continue;
      const [, kind, nonce = '', token = '', digest = ''] = found;
      this.#lines.push({ kind: kind as GuestLine['kind'], nonce, token, digest, atMs });
    }
    this.#notify();
  }
}

function tryConnect(path: string): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.removeAllListeners('error');
      resolve(socket);
    });
    socket.once('error', () => resolve(undefined));
  });
}
