import { access, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Cancelled, systemErrorCode } from '../../base/index.js';
import { GuestCrashed, GuestNotRunning, GuestRunning } from '../errors.js';
import type { QemuConfig } from '../vm-config.js';
import { abortError, stepDeadline } from './deadline.js';
import {
  MonitorBusy,
  MonitorClosed,
  MonitorRefused,
  ResumeFailed,
  SavedStateMissing,
  SavedStatePresent,
  StartFailed,
  StepTimedOut,
} from './errors.js';
import { logTail } from './log-tail.js';
import { runPaths } from './paths.js';
import { qemuArguments } from './qemu-arguments.js';
import { migrationOutcome, prepareMigration, queryStatus } from './qemu-monitor.js';
import { launchQemu, QemuProcess } from './qemu-process.js';
import { saveGuest, unpauseGuest } from './qemu-save.js';
import { QmpClient } from './qmp.js';
import { isNobodyListening, retryWhileAbsent } from './retry.js';
import { asideName, removeLeftovers, removeSavedState, StateSender } from './state-channel.js';
import type { GuestState, Hypervisor, HypervisorContext } from './types.js';

/** How long a QEMU that broke off may take to write into its log why. */
const lastWordsMs = 1000;

/**
 * Unmodified QEMU over QMP. The guest's memory is a file of the VM's directory that QEMU maps; the saved state holds the
 * devices only, and memory is read as the guest touches it (QEMU's migration capability `x-ignore-shared`).
 */
export class QemuHypervisor implements Hypervisor {
  readonly kind = 'qemu';
  readonly #config: QemuConfig;

  constructor(config: QemuConfig) {
    this.#config = config;
  }

  async start(context: HypervisorContext): Promise<void> {
    await requireAbsent(context);
    await this.#requireNoSavedState(context);
    await removeLeftovers(this.#statePath(context));
    await context.guestMayRun?.();
    await this.#run(context, 'start', async (client, signal) => {
      const { running, status } = await queryStatus(client, signal);
      if (!running) throw new Error(`the guest is "${status}" instead of running`);
    });
  }

  async resume(context: HypervisorContext): Promise<void> {
    await requireAbsent(context);
    const { stateSocket } = runPaths(context.runDirectory);
    const state = await this.#openSavedState(context);
    try {
      await this.#run(context, 'resume', async (client, signal) => {
        await prepareMigration(client, signal);
        const outcome = migrationOutcome(client, signal);
        await client.execute('migrate-incoming', { uri: `unix:${stateSocket}` }, { signal });
        await state.sendTo(stateSocket, signal);
        if ((await outcome) !== 'completed') throw new MonitorClosed('QEMU refused the saved state.');
        await context.guestMayRun?.();
        await this.#continueSession(client, context, signal);
      });
    } finally {
      await state[Symbol.asyncDispose]();
    }
  }

  async suspend(context: HypervisorContext): Promise<void> {
    const qemu = await QemuProcess.find(context.runDirectory);
    if (qemu === undefined) throw new GuestNotRunning(context.vmName);
    const signal = stepDeadline(this.#config.timeoutSeconds.suspend, context.signal);
    const client = await this.#connect(context, qemu, signal);
    try {
      await saveGuest({
        vmName: context.vmName,
        qemu,
        client,
        paths: runPaths(context.runDirectory),
        statePath: this.#statePath(context),
        signal,
        onSaved: context.guestIsSaved,
        beforeRunning: context.guestMayRun,
      });
      await quit(client, qemu, this.#config.timeoutSeconds.kill);
    } finally {
      await client[Symbol.asyncDispose]();
    }
  }

  async unpause(context: HypervisorContext): Promise<void> {
    const qemu = await QemuProcess.find(context.runDirectory);
    if (qemu === undefined) throw new GuestNotRunning(context.vmName);
    const signal = stepDeadline(this.#config.timeoutSeconds.resume, context.signal);
    const client = await this.#connect(context, qemu, signal);
    try {
      const statePath = this.#statePath(context);
      const isStateOutdated = this.#config.memory.shared;
      await unpauseGuest({ client, statePath, beforeRunning: context.guestMayRun, isStateOutdated }, signal);
    } finally {
      await client[Symbol.asyncDispose]();
    }
  }

  async forgetSavedState(context: HypervisorContext): Promise<void> {
    await removeSavedState(this.#statePath(context));
  }

  async kill(context: HypervisorContext): Promise<void> {
    const qemu = await QemuProcess.find(context.runDirectory);
    await qemu?.terminate(this.#config.timeoutSeconds.kill);
  }

  async inspect(context: HypervisorContext): Promise<GuestState> {
    const qemu = await QemuProcess.find(context.runDirectory);
    if (qemu === undefined) return { state: 'absent' };
    const signal = stepDeadline(this.#config.timeoutSeconds.inspect, context.signal);
    try {
      const client = await this.#connect(context, qemu, signal);
      try {
        const { running, status } = await queryStatus(client, signal);
        return { state: guestState(running, status), pid: qemu.pid };
      } finally {
        await client[Symbol.asyncDispose]();
      }
    } catch (error) {
      if (qemu.hasEnded()) return { state: 'absent' };
      throw error;
    }
  }

  /** Launches QEMU and does a step's work with its monitor; if that fails, no QEMU is left. */
  async #run(
    context: HypervisorContext,
    step: 'start' | 'resume',
    work: (client: QmpClient, signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const { directory, runDirectory } = context;
    const { process: qemu, died } = await launchQemu({
      binary: this.#config.binary,
      arguments: qemuArguments(this.#config, context, step),
      directory,
      runDirectory,
    });
    const deadline = stepDeadline(this.#config.timeoutSeconds[step], context.signal);
    const signal = AbortSignal.any([died, deadline]);
    try {
      const { monitorSocket } = runPaths(runDirectory);
      const client = await retryWhileAbsent(() => QmpClient.connect(monitorSocket, { signal }), signal);
      try {
        // Another command may have been faster: then its QEMU holds the lock file, and ours is about to end.
        if ((await QemuProcess.find(runDirectory))?.pid !== qemu.pid) throw new GuestRunning(context.vmName);
        await work(client, signal);
      } finally {
        await client[Symbol.asyncDispose]();
      }
    } catch (cause) {
      // What an abort breaks fails in many ways, and the abort is the reason; but it cannot mend a guest that had run.
      const aborted = signal.aborted && !(cause instanceof GuestCrashed);
      const error = aborted ? abortError(signal, `The ${step} of "${context.vmName}"`) : cause;
      if (error instanceof MonitorClosed) await qemu.ended(AbortSignal.timeout(lastWordsMs));
      await qemu.kill(this.#config.timeoutSeconds.kill);
      if ([Cancelled, GuestCrashed, GuestRunning].some((type) => error instanceof type)) throw error;
      throw await runFailure(step, context, error);
    }
  }

  /**
   * Lets the loaded guest go on. From then on a shared memory file no longer fits the saved state, which must not be
   * resumed again: it steps aside first and is removed after, so that it is never found beside memory that moved on.
   */
  async #continueSession(client: QmpClient, context: HypervisorContext, signal: AbortSignal): Promise<void> {
    const path = this.#statePath(context);
    const aside = asideName(path);
    const { shared } = this.#config.memory;
    if (shared) await rename(path, aside);
    try {
      await client.execute('cont', {}, { signal });
    } catch (error) {
      if (!shared) throw error;
      // Only a refusal proves that the guest has not written to its memory.
      if (!(error instanceof MonitorRefused)) throw new GuestCrashed(context.vmName);
      await rename(aside, path);
      throw error;
    }
    if (shared) await rm(aside);
  }

  async #connect(context: HypervisorContext, qemu: QemuProcess, signal: AbortSignal): Promise<QmpClient> {
    const { monitorSocket } = runPaths(context.runDirectory);
    const inTime = AbortSignal.any([signal, AbortSignal.timeout(this.#config.timeoutSeconds.inspect * 1000)]);
    try {
      return await QmpClient.connect(monitorSocket, { signal: inTime });
    } catch (error) {
      if (!(error instanceof StepTimedOut) && !isNobodyListening(error)) throw error;
      throw new MonitorBusy(`QEMU (process ${qemu.pid}) of "${context.vmName}" does not answer.`, {
        facts: { vmName: context.vmName, pid: qemu.pid, socket: monitorSocket },
        remedy: `End other programs that use ${monitorSocket}, or wait: it may be waiting for its memory.`,
        cause: error,
      });
    }
  }

  #statePath(context: HypervisorContext): string {
    return join(context.directory, this.#config.stateFile);
  }

  async #openSavedState(context: HypervisorContext): Promise<StateSender> {
    try {
      return await StateSender.open(this.#statePath(context));
    } catch (error) {
      if (systemErrorCode(error) !== 'ENOENT') throw error;
      throw new SavedStateMissing(`"${context.vmName}" has no saved session to resume.`, {
        facts: { vmName: context.vmName, file: this.#config.stateFile },
        remedy: 'Boot it with isr start, or go back to its last version with isr discard.',
        cause: error,
      });
    }
  }

  async #requireNoSavedState(context: HypervisorContext): Promise<void> {
    try {
      await access(this.#statePath(context));
    } catch (error) {
      if (systemErrorCode(error) === 'ENOENT') return;
      throw error;
    }
    throw new SavedStatePresent(`"${context.vmName}" has a suspended session, which a boot would destroy.`, {
      facts: { vmName: context.vmName, file: this.#config.stateFile },
      remedy: `Continue it with isr resume; to give it up, remove ${this.#statePath(context)} and start again.`,
    });
  }
}

async function requireAbsent(context: HypervisorContext): Promise<void> {
  if ((await QemuProcess.find(context.runDirectory)) !== undefined) throw new GuestRunning(context.vmName);
}

/** Ends a QEMU whose guest is saved: nothing can be lost any more. */
async function quit(client: QmpClient, qemu: QemuProcess, timeoutSeconds: number): Promise<void> {
  const signal = AbortSignal.timeout((timeoutSeconds * 1000) / 2);
  try {
    await client.execute('quit', {}, { signal });
  } catch (error) {
    if (!(error instanceof MonitorClosed) && !(error instanceof StepTimedOut)) throw error;
  }
  if (!(await qemu.ended(signal))) await qemu.kill(timeoutSeconds / 2);
}

function guestState(running: boolean, status: string): 'running' | 'paused' | 'resuming' {
  if (running) return 'running';
  return status === 'inmigrate' ? 'resuming' : 'paused';
}

async function runFailure(
  step: 'start' | 'resume',
  context: HypervisorContext,
  cause: unknown,
): Promise<StartFailed | ResumeFailed> {
  const { log } = runPaths(context.runDirectory);
  const lines = await logTail(log);
  const message = cause instanceof Error ? cause.message : String(cause);
  // Where QEMU broke off, its last words say why.
  const reason = (cause instanceof MonitorClosed ? lines.at(-1) : undefined) ?? message;
  const options = { facts: { vmName: context.vmName, log: lines.join('\n') }, cause };
  const sentence = `${reason.replace(/\.$/, '')}.`;
  if (step === 'start') {
    return new StartFailed(`QEMU could not boot "${context.vmName}": ${sentence}`, {
      ...options,
      remedy: `Correct isr.toml; all that QEMU said is in ${log}.`,
    });
  }
  return new ResumeFailed(`QEMU could not resume "${context.vmName}": ${sentence}`, {
    ...options,
    remedy:
      'The saved session is unchanged. It needs the machine and arguments that saved it, and the same or a newer QEMU; ' +
      `all that QEMU said is in ${log}.`,
  });
}
