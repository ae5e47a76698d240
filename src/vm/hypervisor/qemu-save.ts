import { setTimeout as sleep } from 'node:timers/promises';
import { Cancelled } from '../../base/index.js';
import { abortError } from './deadline.js';
import { SaveFailed, type GuestAfterFailure } from './errors.js';
import { logTail } from './log-tail.js';
import type { RunPaths } from './paths.js';
import { migrationOutcome, prepareMigration, queryMigration, queryStatus } from './qemu-monitor.js';
import type { QemuProcess } from './qemu-process.js';
import type { QmpClient } from './qmp.js';
import { removeLeftovers, removeSavedState, StateReceiver } from './state-channel.js';

/** How long a guest that could not be saved may take to run again. */
const recoverySeconds = 10;

/** Memory that is not shared is part of the state; a pipe inside one host needs no throttle (QEMU's default is 128 MiB/s). */
const bandwidthBytesPerSecond = 2 ** 40;

export interface SaveRequest {
  readonly vmName: string;
  readonly qemu: QemuProcess;
  readonly client: QmpClient;
  readonly paths: RunPaths;
  readonly statePath: string;
  readonly signal: AbortSignal;
  /** Called when the state is complete, the guest still there and paused; part of saving it. */
  readonly onSaved: (() => Promise<void>) | undefined;
  /** Called before the guest is let run again. */
  readonly beforeRunning: (() => Promise<void>) | undefined;
}

/**
 * Pauses the guest and saves its device state. Afterwards the guest is still there, paused; its older saved state, if
 * any, was replaced in one step. If that fails the guest runs on, and `SaveFailed` (or `Cancelled`) says so.
 */
export async function saveGuest(request: SaveRequest): Promise<void> {
  const { client, signal } = request;
  const running = await prepareToStop(request);
  let receiver: StateReceiver | undefined;
  try {
    receiver = await StateReceiver.listen(request.paths.stateSocket, request.statePath, signal);
    if (running) await client.execute('stop', {}, { signal });
    await transfer(request, receiver);
    await receiver.keep();
    await removeLeftovers(request.statePath);
    await request.onSaved?.();
  } catch (error) {
    throw await recover({ ...request, kept: receiver?.isKept === true }, running, receiver?.failure ?? error);
  } finally {
    await receiver?.[Symbol.asyncDispose]();
  }
}

/**
 * Whether the guest runs, or did before an earlier save. After one that nobody brought to its end QEMU refuses another,
 * and its disks are closed, until the guest is let run.
 */
async function prepareToStop(request: SaveRequest): Promise<boolean> {
  const { client, signal } = request;
  const { running, status } = await queryStatus(client, signal);
  if (status !== 'postmigrate') return running;
  await request.beforeRunning?.();
  await client.execute('cont', {}, { signal });
  return true;
}

async function transfer(request: SaveRequest, receiver: StateReceiver): Promise<void> {
  const { client, signal } = request;
  await prepareMigration(client, signal);
  await client.execute('migrate-set-parameters', { 'max-bandwidth': bandwidthBytesPerSecond }, { signal });
  const outcome = migrationOutcome(client, signal);
  await client.execute('migrate', { uri: `unix:${request.paths.stateSocket}` }, { signal });
  // Whichever comes first: QEMU's report, or that its bytes cannot be written.
  await Promise.race([outcome, receiver.received.then(() => outcome)]);
  if ((await outcome) === 'completed') return receiver.received;
  const { error } = await queryMigration(client, signal);
  throw new Error(error ?? 'QEMU gave up without a reason');
}

/** Lets a guest that could not be saved run on as before; returns the error that says what became of it. */
async function recover(
  request: SaveRequest & { readonly kept: boolean },
  wasRunning: boolean,
  cause: unknown,
): Promise<Error> {
  const guest = await continueGuest(request, wasRunning);
  if (request.signal.aborted && guest === (wasRunning ? 'running' : 'paused')) {
    const error = abortError(request.signal, `Suspending "${request.vmName}"`);
    if (error instanceof Cancelled) return error;
  }
  return saveFailed(request, guest, wasRunning, cause, await logTail(request.paths.log));
}

async function continueGuest(
  request: SaveRequest & { readonly kept: boolean },
  wasRunning: boolean,
): Promise<GuestAfterFailure> {
  const { client, qemu } = request;
  // Not the caller's signal: it may be the reason why we are here.
  const signal = AbortSignal.timeout(recoverySeconds * 1000);
  try {
    await client.execute('migrate_cancel', {}, { signal });
    while ((await queryMigration(client, signal)).underWay) await sleep(5);
    if (wasRunning) await unpauseGuest({ ...request, isStateOutdated: request.kept }, signal);
    return (await queryStatus(client, signal)).running ? 'running' : 'paused';
  } catch {
    return qemu.hasEnded() ? 'lost' : 'paused';
  }
}

/** Lets a paused guest run. A saved state that no longer fits it from then on goes first. */
export async function unpauseGuest(
  request: Pick<SaveRequest, 'beforeRunning' | 'client' | 'statePath'> & {
    readonly isStateOutdated: boolean;
  },
  signal: AbortSignal,
): Promise<void> {
  await request.beforeRunning?.();
  if (request.isStateOutdated) await removeSavedState(request.statePath);
  await request.client.execute('cont', {}, { signal });
}

function saveFailed(
  request: SaveRequest,
  guest: GuestAfterFailure,
  wasRunning: boolean,
  cause: unknown,
  log: readonly string[],
): SaveFailed {
  const { vmName, qemu, paths } = request;
  const reason = cause instanceof Error ? cause.message.replace(/\.$/, '') : String(cause);
  const facts = { vmName, pid: qemu.pid, log: log.join('\n') };
  switch (guest) {
    case 'running':
      return new SaveFailed(`"${vmName}" could not be saved and runs on: ${reason}.`, guest, {
        facts,
        remedy: 'Remove the cause and suspend it again; nothing is lost.',
        cause,
      });
    case 'paused':
      return new SaveFailed(
        `"${vmName}" could not be saved and is paused in QEMU (process ${qemu.pid}): ${reason}.`,
        guest,
        {
          facts,
          remedy: wasRunning
            ? `Remove the cause and suspend it again, or let it run on with {"execute":"cont"} on ${paths.monitorSocket}.`
            : 'It was paused before. Remove the cause and suspend it again.',
          cause,
        },
      );
    case 'lost':
      return new SaveFailed(
        `QEMU ended while "${vmName}" was being saved, and its session since the last suspend is lost: ${log.at(-1) ?? reason}.`,
        guest,
        { facts, remedy: `What QEMU said is in ${paths.log}.`, cause },
      );
  }
}
