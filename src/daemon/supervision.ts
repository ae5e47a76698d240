import { spawn, type ChildProcess, type Serializable } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import createDebug from 'debug';
import { programPath, systemErrorCode } from '../base/index.js';
import { FileSystemError } from '../fs/index.js';
import { StoreUnreachable } from '../store/index.js';
import { nameProcess, type NamedProcess } from './record.js';
import { stopSignals } from './stop-signals.js';
import type { MountRequest } from './types.js';
import type {
  Program,
  Restarts,
  SuperviseMessage,
  SupervisorMessage,
  WorkerMessage,
} from './supervisor-protocol.js';

const debug = createDebug('isr:daemon');

/** A supervisor has little to do and nothing to keep. */
const supervisorOptions = ['--max-semi-space-size=1', '--max-old-space-size=16'];

/** How often is looked whether requests are answered, until they are. */
const progressIntervalMs = 20;

/** Before another supervisor is started in place of one that died soon, or could not be started: twice as long each time. */
const firstPauseMs = 500;
const longestPauseMs = 30_000;
const soonMs = 10_000;

/** What outlives a worker, and how to say so to a supervisor. */
export interface KeptMount {
  readonly mount: Omit<SuperviseMessage, 'restarts'>;
  readonly descriptors: { readonly connection: number; readonly lock: number };
}

/** A supervisor, at the other end of the channel that a process of Node has with its parent, or with a child. */
interface Supervisor {
  readonly process: NamedProcess;
  /** Settled when the supervisor hears what it is told, or is gone. */
  readonly listening: Promise<void>;
  readonly send: (message: Serializable, sent: () => void) => void;
  readonly close: () => void;
}

interface SupervisorListener {
  readonly onStop: (reason: string) => void;
  readonly onGone: () => void;
}

export interface Supervised {
  /** The supervisor asks for an end in order. */
  readonly onStop: (reason: string) => void;
  /** Another supervisor is there, or none. Whatever this fails with is only noted. */
  readonly onReplaced: () => Promise<void>;
  /** How many requests have been answered, and how many wait. */
  readonly requests: () => { readonly answered: number; readonly waiting: number };
}

/**
 * What a worker has to do with its supervisor. One that dies is replaced by the worker, as a worker is by its supervisor: only
 * when both die at once the mount is lost.
 */
export class Supervision {
  readonly restarts: Restarts;
  /** Undefined while there is none. */
  #supervisor: Supervisor | undefined;
  #kept: KeptMount | undefined;
  #supervised: Supervised | undefined;
  #progressTimer: NodeJS.Timeout | undefined;
  #stopReason: string | undefined;
  #ended = false;
  #replacing: Promise<void> | undefined;
  #pauseMs = 0;
  #sinceMs = performance.now();
  readonly #waking = new AbortController();

  private constructor(restarts: Restarts) {
    this.restarts = restarts;
  }

  /** Starts a supervisor for a mount that this process, its first worker, has made. Does not wait for it. */
  static async begin(kept: KeptMount): Promise<Supervision> {
    const supervision = new Supervision({ count: 0, lastReason: undefined, lastAt: undefined });
    supervision.#kept = kept;
    await supervision.#start(kept);
    return supervision;
  }

  /** For a worker that its supervisor has started; `supervisor` is what that calls itself. */
  static continue(restarts: Restarts, supervisor = nameProcess(process.ppid)): Supervision {
    const supervision = new Supervision(restarts);
    const above = supervisorAbove(supervisor, supervision.#listener());
    if (process.connected) supervision.#supervisor = above;
    return supervision;
  }

  /** What another supervisor needs to know, and to hold, if this one dies. */
  keep(kept: KeptMount): void {
    this.#kept = kept;
    if (this.#supervisor === undefined) this.#replace();
  }

  /** Workers that follow are asked for this, too. Resolves when the supervisor was told. */
  async keepRequest(change: Partial<MountRequest>): Promise<void> {
    if (this.#kept === undefined) return;
    const { mount, descriptors } = this.#kept;
    const start = { ...mount.start, mount: { ...mount.start.mount, ...change } };
    this.#kept = { mount: { ...mount, start }, descriptors };
    // One that is about to begin is told all of it.
    const supervisor = this.#supervisor;
    if (supervisor === undefined) return;
    await supervisor.listening;
    await new Promise<void>((sent) =>
      supervisor.send({ tell: 'start', start } satisfies WorkerMessage, sent),
    );
  }

  /** The supervisor's process; undefined while there is none. */
  get supervisor(): NamedProcess | undefined {
    return this.#supervisor?.process;
  }

  /** From now on `onStop` may be called. */
  serve(supervised: Supervised): void {
    this.#supervised = supervised;
    if (this.#stopReason !== undefined) supervised.onStop(this.#stopReason);
    this.#tellProgress();
  }

  /** This process is about to die, and knows why. */
  failing(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    this.#send({ tell: 'failing', reason, needsOnlyTime: needsOnlyTime(error) });
  }

  /** Whether another program takes the place of this process when it ends: not if there is no supervisor. */
  async makeRoomFor(program: Program): Promise<boolean> {
    const supervisor = this.#supervisor;
    if (supervisor === undefined) return false;
    await supervisor.listening;
    await new Promise<void>((sent) =>
      supervisor.send({ tell: 'upgrade', program } satisfies WorkerMessage, sent),
    );
    return this.#supervisor === supervisor;
  }

  /** The mount has ended: the supervisor ends, too. Idempotent. */
  async end(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    clearInterval(this.#progressTimer);
    this.#waking.abort();
    await this.#replacing;
    const supervisor = this.#supervisor;
    if (supervisor === undefined) return;
    await supervisor.listening;
    await new Promise<void>((sent) => supervisor.send({ tell: 'ended' } satisfies WorkerMessage, sent));
    supervisor.close();
  }

  async #start({ mount, descriptors }: KeptMount): Promise<void> {
    this.#sinceMs = performance.now();
    const child = spawn(
      process.execPath,
      [...supervisorOptions, programPath('supervisor'), mount.start.mount.vmName],
      {
        cwd: '/',
        detached: true,
        // A foreground mount writes its result to the standard output.
        stdio: ['pipe', 2, 2, 'ipc', descriptors.connection, descriptors.lock],
      },
    );
    await once(child, 'spawn');
    // What was asked for since counts, too.
    const message: SuperviseMessage = { ...(this.#kept?.mount ?? mount), restarts: this.restarts };
    child.stdin?.on('error', () => undefined).end(JSON.stringify(message));
    this.#supervisor = supervisorBelow(child, this.#listener());
    this.#tellProgress();
  }

  #listener(): SupervisorListener {
    return { onStop: (reason) => this.#stop(reason), onGone: () => this.#replace() };
  }

  #stop(reason: string): void {
    if (this.#ended) return;
    debug('%s', reason);
    this.#stopReason = reason;
    this.#supervised?.onStop(reason);
  }

  /** The supervisor is gone. Nobody else notices; but now the death of this process would be noticed. */
  #replace(): void {
    this.#supervisor = undefined;
    if (this.#ended || this.#kept === undefined || this.#replacing !== undefined) return;
    const kept = this.#kept;
    this.#replacing = this.#startAnother(kept).finally(() => {
      this.#replacing = undefined;
      // It died while it was announced.
      if (this.#supervisor === undefined) this.#replace();
    });
  }

  async #startAnother(kept: KeptMount): Promise<void> {
    if (performance.now() - this.#sinceMs > soonMs) this.#pauseMs = 0;
    const { signal } = this.#waking;
    for (;;) {
      await sleep(this.#pauseMs, undefined, { signal }).catch(() => undefined);
      this.#pauseMs = Math.min(Math.max(this.#pauseMs * 2, firstPauseMs), longestPauseMs);
      if (signal.aborted) return;
      try {
        await this.#start(kept);
        log('the supervisor is gone, and another one takes its place');
        break;
      } catch (error) {
        log(`the supervisor is gone, and another one cannot be started: ${String(error)}`);
      }
    }
    await this.#supervised?.onReplaced().catch((error: unknown) => debug('not announced: %o', error));
  }

  /** Once requests are answered, the death of this process is no part of a crash loop. */
  #tellProgress(): void {
    const { requests } = this.#supervised ?? {};
    if (requests === undefined || this.#ended) return;
    clearInterval(this.#progressTimer);
    this.#progressTimer = setInterval(() => {
      const { answered, waiting } = requests();
      if (answered === 0 && waiting > 0) return;
      clearInterval(this.#progressTimer);
      this.#send({ tell: 'progress' });
    }, progressIntervalMs);
  }

  #send(message: WorkerMessage): void {
    this.#supervisor?.send(message, () => undefined);
  }
}

/** Calls that send get an error when the other side is gone, which `disconnect` tells as well. */
function supervisorBelow(child: ChildProcess, { onStop, onGone }: SupervisorListener): Supervisor {
  const { promise, resolve } = withResolvers();
  child.on('error', (error) => debug('the supervisor: %o', error));
  child.on('message', (message) => {
    resolve();
    hear(message as SupervisorMessage, onStop);
  });
  child.once('disconnect', () => {
    resolve();
    onGone();
  });
  // One that came before it listened to signals ended it.
  child.once('exit', (_code, signal) => {
    if (signal !== null && stopSignals.includes(signal)) onStop(`the supervisor got ${signal}`);
  });
  return {
    process: nameProcess(child.pid ?? 0),
    listening: promise,
    send: (message, sent) => child.send(message, () => sent()),
    close: () => {
      if (child.connected) child.disconnect();
      child.unref();
    },
  };
}

function supervisorAbove(supervisor: NamedProcess, { onStop, onGone }: SupervisorListener): Supervisor {
  process.on('message', (message) => hear(message as SupervisorMessage, onStop));
  process.once('disconnect', onGone);
  return {
    process: supervisor,
    listening: Promise.resolve(),
    send: (message, sent) => {
      if (process.send === undefined) sent();
      else process.send(message, undefined, undefined, () => sent());
    },
    close: () => {
      if (process.connected) process.disconnect();
    },
  };
}

function hear(message: SupervisorMessage, onStop: (reason: string) => void): void {
  if ('stop' in message) onStop(`the supervisor got ${message.stop}`);
}

function withResolvers(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

function needsOnlyTime(error: unknown): boolean {
  if (error instanceof StoreUnreachable) return true;
  const errno = error instanceof FileSystemError ? error.errno : systemErrorCode(error);
  return errno === 'ENOSPC' || errno === 'EDQUOT';
}

/** For the daemon's log, beside what supervisors write there. */
function log(text: string): void {
  process.stderr.write(`${new Date().toISOString()} worker ${process.pid}: ${text}\n`);
}
