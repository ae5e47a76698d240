import { spawn, type ChildProcess } from 'node:child_process';
import { mkdir, open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { systemErrorCode } from '../../base/index.js';
import { fillPlaceholders, type CommandConfig } from '../vm-config.js';
import { abortError, stepDeadline } from './deadline.js';
import { HypervisorCommandFailed, HypervisorMissing } from './errors.js';
import { logTail } from './log-tail.js';
import type { GuestState, Hypervisor, HypervisorContext } from './types.js';

type Step = 'start' | 'resume' | 'suspend' | 'kill' | 'inspect';

const guestStates = ['absent', 'running', 'paused', 'resuming'] as const;

/** Longest answer of an `inspect` command: one word. */
const answerBytesMax = 4096;

/**
 * Any hypervisor, through the user's own commands. Each runs in the VM's directory without a shell, with `ISR_VM`,
 * `ISR_DIRECTORY` and `ISR_RUN_DIRECTORY` in its environment, and means success by exit code 0.
 *
 * `start` and `resume` return when the guest runs (the hypervisor goes on in a session of its own); `suspend` returns
 * when the state is saved and the hypervisor has ended, or fails with the guest running on; `inspect` prints one of
 * `absent`, `running`, `paused`, `resuming`.
 */
export class CommandHypervisor implements Hypervisor {
  readonly kind = 'command';
  readonly #config: CommandConfig;

  constructor(config: CommandConfig) {
    this.#config = config;
  }

  async start(context: HypervisorContext): Promise<void> {
    await context.guestMayRun?.();
    await this.#run('start', context);
  }

  async resume(context: HypervisorContext): Promise<void> {
    await context.guestMayRun?.();
    await this.#run('resume', context);
  }

  async suspend(context: HypervisorContext): Promise<void> {
    await this.#run('suspend', context);
    await context.guestIsSaved?.();
  }

  /** What the state is, and whether a boot minds it, is the commands' own affair. */
  async forgetSavedState(): Promise<void> {
    // Nothing to do.
  }

  async kill(context: HypervisorContext): Promise<void> {
    await this.#run('kill', context);
  }

  async inspect(context: HypervisorContext): Promise<GuestState> {
    const answer = (await this.#run('inspect', context)).trim();
    const state = guestStates.find((word) => word === answer);
    if (state === undefined) {
      throw new HypervisorCommandFailed(
        `The inspect command of "${context.vmName}" printed "${answer.slice(0, 40)}" instead of one of ${guestStates.join(', ')}.`,
        { facts: { vmName: context.vmName, step: 'inspect' }, remedy: 'Correct it in isr.toml.' },
      );
    }
    return state === 'absent' ? { state } : { state, pid: undefined };
  }

  /** Runs a step's command and returns what it printed, for `inspect`; the others print into the log. */
  async #run(step: Step, context: HypervisorContext): Promise<string> {
    const deadline = stepDeadline(this.#config.timeoutSeconds[step], context.signal);
    const logPath = join(context.runDirectory, 'command.log');
    await mkdir(context.runDirectory, { recursive: true, mode: 0o700 });
    await stat(context.directory);
    const log = await open(logPath, 'w', 0o600);
    try {
      const [program, ...rest] = this.#config[step].map((word) => filled(word, context));
      const child = spawn(program ?? '', rest, {
        cwd: context.directory,
        env: environment(context),
        // A group of its own: a command that takes too long is ended with all that it started.
        detached: true,
        stdio: ['ignore', step === 'inspect' ? 'pipe' : log.fd, log.fd],
      });
      const output = readAnswer(child);
      const result = await finished(child, deadline, `The ${step} command of "${context.vmName}"`);
      if (result !== 'exit code 0') {
        const lines = await logTail(logPath);
        const said = lines.length === 0 ? '' : `: ${lines.at(-1) ?? ''}`;
        throw new HypervisorCommandFailed(
          `The ${step} command of "${context.vmName}" ended with ${result}${said}.`,
          {
            facts: { vmName: context.vmName, step, log: lines.join('\n') },
            remedy: `What it printed is in ${logPath}.`,
          },
        );
      }
      return output();
    } finally {
      await log.close();
    }
  }
}

function filled(word: string, context: HypervisorContext): string {
  return fillPlaceholders(word, {
    directory: context.directory,
    run: context.runDirectory,
    name: context.vmName,
  });
}

function environment(context: HypervisorContext): NodeJS.ProcessEnv {
  return {
    ...process.env,
    ISR_VM: context.vmName,
    ISR_DIRECTORY: context.directory,
    ISR_RUN_DIRECTORY: context.runDirectory,
  };
}

function readAnswer(child: ChildProcess): () => string {
  let answer = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    answer = (answer + text).slice(0, answerBytesMax);
  });
  return () => answer;
}

/** Waits for a command; `exit code N` or `signal S`. One that takes too long, or is cancelled, is killed. */
function finished(child: ChildProcess, deadline: AbortSignal, what: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      if (child.pid !== undefined) killGroup(child.pid);
      reject(abortError(deadline, what));
    };
    deadline.addEventListener('abort', abort, { once: true });
    child.once('error', (cause) => {
      deadline.removeEventListener('abort', abort);
      const code = systemErrorCode(cause);
      reject(code === 'ENOENT' || code === 'EACCES' ? missing(child.spawnfile, what, cause) : cause);
    });
    // With a pipe, its end: an answer may arrive after the exit. Without, the exit: a hypervisor left behind is no end.
    child.once(child.stdout === null ? 'exit' : 'close', (code, signal) => {
      deadline.removeEventListener('abort', abort);
      resolve(code === null ? `signal ${String(signal)}` : `exit code ${String(code)}`);
    });
    if (deadline.aborted) abort();
  });
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    if (systemErrorCode(error) !== 'ESRCH') throw error;
  }
}

function missing(program: string, what: string, cause: Error): HypervisorMissing {
  return new HypervisorMissing(`${what} cannot run "${program}", which is not installed.`, {
    facts: { program },
    remedy: 'Install it, or correct isr.toml.',
    cause,
  });
}
