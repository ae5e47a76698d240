import { spawn, type ChildProcess, type Serializable } from 'node:child_process';
import { once } from 'node:events';
import createDebug from 'debug';
import { programPath, systemErrorCode } from '../base/index.js';
import { FileSystemError } from '../fs/index.js';
import { StoreUnreachable } from '../store/index.js';
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
const progressIntervalMs = 100;

/** The one end of a channel that a process of Node has with its parent, or with a child. */
interface Channel {
  readonly pid: number;
  readonly send: (message: Serializable, sent: () => void) => void;
  readonly close: () => void;
}

/** What a worker has to do with its supervisor. */
export class Supervision {
  readonly restarts: Restarts;
  /** Called when the supervisor asks for an end in order, or is gone: then nobody would replace this worker. */
  onStop: (reason: string) => void = () => undefined;
  readonly #channel: Channel;
  #progressTimer: NodeJS.Timeout | undefined;
  #stopReason: string | undefined;
  #ended = false;
  #onListening: () => void = () => undefined;
  /** Settled when the supervisor hears what it is told, or is gone. */
  readonly #listening = new Promise<void>((resolve) => (this.#onListening = resolve));

  private constructor(channel: Channel, restarts: Restarts) {
    this.#channel = channel;
    this.restarts = restarts;
  }

  /** Starts a supervisor for a mount that this process, its first worker, has made. Does not wait for it. */
  static async begin(
    mount: SuperviseMessage,
    descriptors: { readonly connection: number; readonly lock: number },
  ): Promise<Supervision> {
    const vmName = mount.start.mount.vmName;
    const child = spawn(process.execPath, [...supervisorOptions, programPath('supervisor'), vmName], {
      cwd: '/',
      detached: true,
      // A foreground mount writes its result to the standard output.
      stdio: ['pipe', 2, 2, 'ipc', descriptors.connection, descriptors.lock],
    });
    await once(child, 'spawn');
    child.stdin?.on('error', () => undefined).end(JSON.stringify(mount));
    const supervision = new Supervision(channelTo(child), {
      count: 0,
      lastReason: undefined,
      lastAt: undefined,
    });
    child.on('message', (message) => supervision.#hear(message as SupervisorMessage));
    child.once('disconnect', () => supervision.#stop('the supervisor is gone'));
    return supervision;
  }

  /** For a worker that its supervisor has started. */
  static continue(restarts: Restarts): Supervision {
    const supervision = new Supervision(channelToParent(), restarts);
    supervision.#onListening();
    process.on('message', (message) => supervision.#hear(message as SupervisorMessage));
    process.once('disconnect', () => supervision.#stop('the supervisor is gone'));
    return supervision;
  }

  get supervisorPid(): number {
    return this.#channel.pid;
  }

  /** From now on `onStop` may be called. `answered`: how many requests have been answered, and how many wait. */
  serve(requests: () => { readonly answered: number; readonly waiting: number }): void {
    if (this.#stopReason !== undefined) this.onStop(this.#stopReason);
    this.#progressTimer = setInterval(() => {
      const { answered, waiting } = requests();
      if (answered === 0 && waiting > 0) return;
      clearInterval(this.#progressTimer);
      this.#send({ tell: 'progress' });
    }, progressIntervalMs);
  }

  /** This process is about to die, and knows why. */
  failing(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    this.#send({ tell: 'failing', reason, needsOnlyTime: needsOnlyTime(error) });
  }

  /** Whether another program takes the place of this process when it ends: not if the supervisor is gone. */
  async makeRoomFor(program: Program): Promise<boolean> {
    await this.#listening;
    await new Promise<void>((resolve) =>
      this.#channel.send({ tell: 'upgrade', program } satisfies WorkerMessage, resolve),
    );
    return this.#stopReason === undefined;
  }

  /** The mount has ended: the supervisor ends, too. Idempotent. */
  async end(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    clearInterval(this.#progressTimer);
    await this.#listening;
    await new Promise<void>((resolve) =>
      this.#channel.send({ tell: 'ended' } satisfies WorkerMessage, resolve),
    );
    this.#channel.close();
  }

  #send(message: WorkerMessage): void {
    this.#channel.send(message, () => undefined);
  }

  #hear(message: SupervisorMessage): void {
    if ('stop' in message) this.#stop(`the supervisor got ${message.stop}`);
    else this.#onListening();
  }

  #stop(reason: string): void {
    this.#onListening();
    if (this.#ended) return;
    debug('%s', reason);
    this.#stopReason = reason;
    this.onStop(reason);
  }
}

/** The callbacks get an error when the other side is gone, which `disconnect` tells as well. */
function channelTo(child: ChildProcess): Channel {
  return {
    pid: child.pid ?? 0,
    send: (message, sent) => child.send(message, () => sent()),
    close: () => {
      if (child.connected) child.disconnect();
      child.unref();
    },
  };
}

function channelToParent(): Channel {
  return {
    pid: process.ppid,
    send: (message, sent) => {
      if (process.send === undefined) sent();
      else process.send(message, undefined, undefined, () => sent());
    },
    close: () => {
      if (process.connected) process.disconnect();
    },
  };
}

function needsOnlyTime(error: unknown): boolean {
  if (error instanceof StoreUnreachable) return true;
  const errno = error instanceof FileSystemError ? error.errno : systemErrorCode(error);
  return errno === 'ENOSPC' || errno === 'EDQUOT';
}
