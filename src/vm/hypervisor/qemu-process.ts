import { spawn, type ChildProcess } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { mkdir, open, readFile, stat } from 'node:fs/promises';
import { systemErrorCode } from '../../base/index.js';
import { isProcessAlive, processStartTime } from '../../system/index.js';
import { HypervisorMissing, HypervisorStuck, MonitorClosed } from './errors.js';
import { runPaths } from './paths.js';
import { waitUntil } from './retry.js';

/** One QEMU process on this host, by whomever it was started. It outlives this program. */
export class QemuProcess {
  readonly pid: number;
  readonly #startTime: number | undefined;

  constructor(pid: number) {
    this.pid = pid;
    this.#startTime = processStartTime(pid);
  }

  /**
   * The QEMU of a run directory; undefined when none runs. Its own lock file names it, and its command line proves that
   * the number was not given to another process since.
   */
  static async find(runDirectory: string): Promise<QemuProcess | undefined> {
    const { pidFile } = runPaths(runDirectory);
    try {
      const pid = Number.parseInt(await readFile(pidFile, 'utf8'), 10);
      if (!(pid > 0)) return undefined;
      const qemu = new QemuProcess(pid);
      const commandLine = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0');
      return commandLine.includes(pidFile) && !qemu.hasEnded() ? qemu : undefined;
    } catch (error) {
      if (['ENOENT', 'ESRCH'].includes(systemErrorCode(error) ?? '')) return undefined;
      throw error;
    }
  }

  /** Whether it is gone with all its threads: the last one to leave gives back its memory and files. */
  hasEnded(): boolean {
    if (isProcessAlive(this.pid, this.#startTime)) return false;
    try {
      return readdirSync(`/proc/${this.pid}/task`).length <= 1;
    } catch {
      return true;
    }
  }

  /** Waits until it has ended; false when the signal fired first. */
  ended(signal: AbortSignal): Promise<boolean> {
    return waitUntil(() => this.hasEnded(), signal);
  }

  /** Ends it without saving: asks (its disks are flushed), and insists after half the time. `HypervisorStuck`. */
  async terminate(timeoutSeconds: number): Promise<void> {
    this.#signal('SIGTERM');
    const half = timeoutSeconds / 2;
    if (!(await this.ended(AbortSignal.timeout(half * 1000)))) await this.kill(half);
  }

  /** Ends it at once. `HypervisorStuck`. */
  async kill(timeoutSeconds: number): Promise<void> {
    this.#signal('SIGKILL');
    if (await this.ended(AbortSignal.timeout(timeoutSeconds * 1000))) return;
    throw new HypervisorStuck(`QEMU (process ${this.pid}) does not end, even when killed.`, {
      facts: { pid: this.pid },
      remedy: 'It waits for the kernel, most likely for a file of its directory: see isr status.',
    });
  }

  #signal(signal: 'SIGTERM' | 'SIGKILL'): void {
    if (this.hasEnded()) return;
    try {
      process.kill(this.pid, signal);
    } catch (error) {
      if (systemErrorCode(error) !== 'ESRCH') throw error;
    }
  }
}

/** A QEMU that this program has just started. */
export interface LaunchedQemu {
  readonly process: QemuProcess;
  /** Fires when it ends while this program still looks. */
  readonly died: AbortSignal;
}

/**
 * Starts QEMU so that it survives this program, with the VM's directory as working directory and its messages in the run
 * directory's log. `HypervisorMissing` where the program is not there.
 */
export async function launchQemu(options: {
  readonly binary: string;
  readonly arguments: readonly string[];
  readonly directory: string;
  readonly runDirectory: string;
}): Promise<LaunchedQemu> {
  const paths = runPaths(options.runDirectory);
  await mkdir(options.runDirectory, { recursive: true, mode: 0o700 });
  await stat(options.directory);
  const log = await open(paths.log, 'w', 0o600);
  try {
    const child = spawn(options.binary, options.arguments, {
      cwd: options.directory,
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
    });
    const pid = await spawned(child, options.binary);
    const died = new AbortController();
    child.once('exit', () => died.abort(new MonitorClosed('QEMU ended.')));
    child.unref();
    return { process: new QemuProcess(pid), died: died.signal };
  } finally {
    await log.close();
  }
}

function spawned(child: ChildProcess, binary: string): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once('error', (cause) => reject(missing(binary, cause)));
    child.once('spawn', () => {
      if (child.pid !== undefined) resolve(child.pid);
    });
  });
}

function missing(binary: string, cause: Error): Error {
  if (!['ENOENT', 'EACCES'].includes(systemErrorCode(cause) ?? '')) return cause;
  return new HypervisorMissing(`The hypervisor "${binary}" is not installed, or cannot be run.`, {
    facts: { binary },
    remedy: `Install it (Debian: sudo apt-get install ${debianPackage(binary)}), or name another in isr.toml.`,
    cause,
  });
}

function debianPackage(binary: string): string {
  const target = /qemu-system-(\w+)$/.exec(binary)?.[1] ?? 'x86_64';
  if (target === 'x86_64' || target === 'i386') return 'qemu-system-x86';
  return target === 'aarch64' || target === 'arm' ? 'qemu-system-arm' : 'qemu-system';
}
