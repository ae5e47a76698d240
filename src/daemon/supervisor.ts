/**
 * The supervisor's program, started by a worker of a mount. It holds what must outlive a worker, and starts
 * the next one when a worker dies. It lives as long as the mount and should take next to no memory, so it imports
 * nothing but a little of Node.
 */
import { execFile, spawn, type ChildProcess, type Serializable } from 'node:child_process';
import { readFileSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { RestartPolicy } from './restart-policy.js';
import { stopSignals } from './stop-signals.js';
import {
  inheritedFd,
  oomScoreAdj,
  type GoOnMessage,
  type Program,
  type Restarts,
  type SuperviseMessage,
  type SupervisorMessage,
  type WorkerMessage,
} from './supervisor-protocol.js';

/** After a worker could not begin for want of something that will come back. */
const patienceMs = 1_000;

/** Why no process can be started for a while: of fork(2), and of the channel to it. */
const shortages: ReadonlySet<string> = new Set(['EAGAIN', 'ENOMEM', 'EMFILE', 'ENFILE']);

/** A worker that lived so long has made progress, whatever it said. */
const progressAfterMs = 10_000;

/** Between two looks at a worker that is dying. */
const deathIntervalMs = 50;

class Supervisor {
  #mount: SuperviseMessage;
  readonly #policy = new RestartPolicy();
  #program: Program;
  /** Serves again if the one that replaced it cannot. */
  #previousProgram: Program | undefined;
  #upgrading = false;
  /** Workers that have served so far. */
  #lives: number;
  #restarts: Restarts;
  /** Undefined until the worker that started this process is dead. */
  #child: ChildProcess | undefined;
  #startedAtMs = performance.now();
  #progressed = false;
  #failure: Extract<WorkerMessage, { tell: 'failing' }> | undefined;
  #ended = false;
  #stopping: NodeJS.Signals | undefined;
  /** Why no worker can be started now. */
  #shortage: string | undefined;

  constructor(mount: SuperviseMessage) {
    this.#mount = mount;
    this.#program = mount.program;
    this.#lives = mount.lives;
    this.#restarts = mount.restarts;
  }

  begin(): void {
    for (const signal of stopSignals) process.on(signal, () => this.#stop(signal));
    process.on('message', (message) => this.#hear(message as WorkerMessage));
    if (!process.connected) {
      this.#onDeath('was killed');
      return;
    }
    process.on('disconnect', () => this.#onDeath('was killed'));
    this.#tell({ listening: true } satisfies SupervisorMessage);
  }

  #hear(message: WorkerMessage): void {
    switch (message.tell) {
      case 'progress':
        this.#progressed = true;
        this.#previousProgram = undefined;
        break;
      case 'failing':
        this.#failure = message;
        break;
      case 'upgrade':
        this.#previousProgram = this.#program;
        this.#program = message.program;
        this.#upgrading = true;
        break;
      case 'start':
        this.#mount = { ...this.#mount, start: message.start };
        break;
      case 'ended':
        this.#ended = true;
    }
  }

  #stop(signal: NodeJS.Signals): void {
    this.#stopping = signal;
    this.#tell({ stop: signal } satisfies SupervisorMessage);
  }

  #tell(message: Serializable): void {
    const ignore = (): void => undefined;
    if (this.#child !== undefined) this.#child.send(message, ignore);
    else process.send?.(message, undefined, undefined, ignore);
  }

  #onDeath(how: string): void {
    if (this.#ended) process.exit(0);
    if (this.#child === undefined && this.#isStarting()) {
      log('the worker died before anybody was told of the mount, which is taken away');
      this.#takeMountAway(() => rmSync(this.#mount.recordPath, { force: true }));
      return;
    }
    if (this.#upgrading) {
      this.#upgrading = false;
      log(`another program takes over: ${this.#program.parameters.join(' ')}`);
      this.#startWorker();
      return;
    }
    const reason = this.#failure === undefined ? how : `${how}: ${this.#failure.reason}`;
    const { count } = this.#restarts;
    this.#restarts = { count: count + 1, lastReason: reason, lastAt: new Date().toISOString() };
    const progressed = this.#progressed || performance.now() - this.#startedAtMs > progressAfterMs;
    log(`the worker ${reason}`);
    if (this.#failure?.needsOnlyTime === true) {
      this.#startWorkerIn(patienceMs);
      return;
    }
    if (!progressed && this.#previousProgram !== undefined) {
      log('the program before takes over again');
      this.#program = this.#previousProgram;
      this.#previousProgram = undefined;
    }
    const verdict = this.#policy.died(progressed);
    if ('giveUp' in verdict) this.#giveUp(`${verdict.giveUp}; the last ${reason}`);
    else this.#startWorkerIn(verdict.restartInMs);
  }

  #startWorkerIn(pauseMs: number): void {
    if (pauseMs === 0) this.#startWorker();
    else setTimeout(() => this.#startWorker(), pauseMs);
  }

  #startWorker(): void {
    const { execPath, parameters } = this.#program;
    const { connection, lock } = inheritedFd;
    this.#startedAtMs = performance.now();
    this.#progressed = false;
    this.#failure = undefined;
    let child: ChildProcess;
    try {
      child = spawn(execPath, parameters, {
        cwd: '/',
        stdio: ['ignore', 'inherit', 'inherit', 'ipc', connection, lock],
      });
    } catch (error) {
      this.#couldNotStart(error as NodeJS.ErrnoException);
      return;
    }
    child.on('error', (error) => {
      if (child.pid === undefined) this.#couldNotStart(error);
    });
    if (child.pid === undefined) return;
    this.#child = child;
    this.#shortage = undefined;
    log(`starting worker ${child.pid}`);
    let dead = false;
    const die = (how: string): void => {
      if (!dead) this.#onDeath(how);
      dead = true;
    };
    child.once('exit', (code, signal) => {
      die(signal === null ? `ended with exit code ${code ?? '?'}` : `was killed by ${signal}`);
    });
    child.once('disconnect', () => whenDead(child, () => die('was killed')));
    child.on('message', (message) => this.#hear(message as WorkerMessage));
    const { start, mountPath } = this.#mount;
    const goOn = {
      mountPath,
      connection: this.#mount.connection,
      life: this.#lives,
      restarts: this.#restarts,
      repository: this.#mount.repository,
      supervisor: thisProcess(),
    };
    this.#lives += 1;
    this.#tell({ start, goOn } satisfies GoOnMessage);
    if (this.#stopping !== undefined) this.#stop(this.#stopping);
  }

  /** What is short on this host may come back; a program that is missing may not. */
  #couldNotStart(error: NodeJS.ErrnoException): void {
    if (!shortages.has(error.code ?? '')) {
      this.#onDeath(`could not be started (${error.message})`);
      return;
    }
    if (this.#shortage !== error.message) log(`no worker can be started: ${error.message}`);
    this.#shortage = error.message;
    this.#startWorkerIn(patienceMs);
  }

  /** Whether the first worker was still making the mount. */
  #isStarting(): boolean {
    try {
      const record = JSON.parse(readFileSync(this.#mount.recordPath, 'utf8')) as { starting?: boolean };
      return record.starting === true;
    } catch {
      return false;
    }
  }

  /** Nobody serves the mount any more: it is taken away, the overlay stays, and the record says why. */
  #giveUp(reason: string): void {
    log(`giving up: ${reason}`);
    try {
      const { recordPath } = this.#mount;
      const record = JSON.parse(readFileSync(recordPath, 'utf8')) as object;
      writeFileSync(`${recordPath}.new`, JSON.stringify({ ...record, gaveUp: reason }), { mode: 0o600 });
      renameSync(`${recordPath}.new`, recordPath);
    } catch (error) {
      log(`the record of the daemon could not be written: ${String(error)}`);
    }
    this.#takeMountAway();
  }

  /** What fails here is left to the next command: the mount is dead when this process is. */
  #takeMountAway(then: () => void = () => undefined): void {
    execFile('fusermount3', ['-uz', '--', this.#mount.mountPath], (error) => {
      if (error === null) then();
      else log(`unmounting failed: ${error.message}`);
      process.exit(1);
    });
  }
}

/**
 * For a worker whose channel was closed. `exit` comes when the last of its threads is gone, and that one may wait in the kernel
 * for an answer which only the next worker can give; all that could still serve is gone with the channel.
 */
function whenDead(child: ChildProcess, callback: () => void): void {
  const look = (): void => {
    const hasExited = child.exitCode !== null || child.signalCode !== null;
    if (hasExited || child.pid === undefined) return;
    if (isZombie(child.pid)) callback();
    else setTimeout(look, deathIntervalMs);
  };
  // Nearly always `exit` comes at once, and tells how it died.
  setTimeout(look, deathIntervalMs);
}

/** State and what else follows the name in /proc/PID/stat. */
function isZombie(pid: number): boolean {
  try {
    return /\) [ZX] [^)]*$/.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false;
  }
}

/** As the record names it. */
function thisProcess(): { readonly pid: number; readonly startTime: number } {
  const stat = readFileSync('/proc/self/stat', 'latin1');
  const [, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return { pid: process.pid, startTime: Number(fields[18]) };
}

/** A log that cannot be written, as on a full disk, must end nobody: as a stream it would. */
function log(text: string): void {
  try {
    writeSync(2, `${new Date().toISOString()} supervisor: ${text}\n`);
  } catch {
    // Nobody can be told.
  }
}

try {
  writeFileSync('/proc/self/oom_score_adj', String(oomScoreAdj.supervisor));
} catch {
  // Only root may: then it is as its worker was.
}
process.title = `isr supervisor: ${process.argv[2] ?? ''}`;
// Not over the channel: what lies there is lost if the worker dies before this process listens.
const supervisor = new Supervisor(JSON.parse(readFileSync(0, 'utf8')) as SuperviseMessage);
supervisor.begin();
