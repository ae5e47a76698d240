import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import createDebug from 'debug';
import { IsrError, systemErrorCode, type ProgressListener } from '../base/index.js';
import {
  AlreadyMounted,
  connectDaemon,
  EphemeralMount,
  mountVm,
  NotMounted,
  type DaemonClient,
  type MountRequest,
  type PublishResult,
  type Resuming,
  type WithoutStore,
} from '../daemon/index.js';
import type { VmPaths } from '../host/index.js';
import {
  GuestCrashed,
  GuestRunning,
  NoVmConfig,
  ResumeUnfinished,
  SuspendNotPublished,
  SuspendUnfinished,
} from './errors.js';
import { readGuestEntry, writeGuestRecord, type GuestDetails, type GuestRecord } from './guest-record.js';
import {
  openHypervisor,
  type GuestState,
  type Hypervisor,
  type HypervisorContext,
} from './hypervisor/index.js';
import { discardVm, publishVm, readLocalChanges } from './local-changes.js';
import { saveGuest } from './saving.js';
import { pathsOf, type VmTarget } from './target.js';
import { parseVmConfig } from './vm-config.js';

const debug = createDebug('isr:vm');

export interface SequenceOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: ProgressListener;
  /** Called when a step begins, with a few words for people. */
  readonly onStep?: (step: string) => void;
}

export type RunOptions = SequenceOptions &
  Omit<MountRequest, 'vmName'> & {
    /** For a resume: bring what earlier resumes touched before the guest asks for it. Default: yes. */
    readonly prefetch?: boolean;
    /** Called when the VM was mounted although the store is away. */
    readonly onWithoutStore?: (about: WithoutStore) => void;
  };

export interface RunResult {
  readonly mountPath: string;
  /** For console logs and sockets of the hypervisor. */
  readonly runDirectory: string;
  /** From the start of the sequence until the guest runs. */
  readonly seconds: number;
}

export interface SuspendResult {
  readonly publish: PublishResult;
  /** Until the guest was saved and its hypervisor had ended. */
  readonly saveSeconds: number;
  readonly seconds: number;
}

/** Boots a VM from its disks, mounting it first if it is not. Returns when the guest runs. */
export function startVm(target: VmTarget, options: RunOptions): Promise<RunResult> {
  return run(target, options, 'booting', (hypervisor, context) => hypervisor.start(context));
}

/**
 * Resumes a suspended VM, mounting it first if it is not: its state arrives as the guest touches it. Returns when the
 * guest runs. If that fails, the VM is as it was before. Goes on where an earlier attempt stopped, and lets a guest run
 * that is paused. `GuestCrashed` when its memory has moved on from its saved state.
 */
export async function resumeVm(target: VmTarget, options: RunOptions): Promise<RunResult> {
  const { guest } = await readGuestEntry(pathsOf(target));
  if (guest === 'ran' && !options.ephemeral && (await isGuestAbsent(target)))
    throw new GuestCrashed(target.vmName);
  return run(target, options, 'resuming', (hypervisor, context) => hypervisor.resume(context));
}

/**
 * Saves the guest, ends its hypervisor, publishes what changed, gives the lease back and unmounts. Goes on where an
 * earlier attempt stopped. After a failure the guest either runs as before or is saved on this host; the error says which.
 */
export async function suspendVm(target: VmTarget, options: SequenceOptions): Promise<SuspendResult> {
  const startedMs = performance.now();
  const { vmName } = target;
  const paths = pathsOf(target);
  const client = await connectDaemon(paths, vmName);
  if (client?.ephemeral === true) throw new EphemeralMount(vmName);
  if (client === undefined) {
    await requireSaved(paths, vmName);
    options.onStep?.('publishing what changed');
    return finished(await publishSaved(() => publishVm(target, options), vmName), 0, startedMs);
  }
  options.onStep?.('saving the guest');
  const hypervisor = await readHypervisor(vmName, client.mountPath);
  const context = hypervisorContext(vmName, client.mountPath, paths, options.signal);
  await saveGuest({ paths, client, hypervisor, context });
  const saveSeconds = (performance.now() - startedMs) / 1000;
  options.onStep?.('publishing what changed');
  const publish = await publishSaved(() => client.publish({ releaseLease: true, ...options }), vmName);
  options.onStep?.('unmounting');
  await client.unmount();
  if (publish.outcome !== 'branched') await writeGuestRecord(paths, 'fresh');
  return finished(publish, saveSeconds, startedMs);
}

/** Without a mount only a guest that is saved can be published. What was not flushed when its daemon died is lost. */
async function requireSaved(paths: VmPaths, vmName: string): Promise<void> {
  const { guest } = await readGuestEntry(paths);
  switch (guest) {
    case 'saved':
      return;
    case 'resuming':
      throw new ResumeUnfinished(vmName);
    case 'stopped':
    case 'ran':
      await writeGuestRecord(paths, 'ran');
      throw new GuestCrashed(vmName);
    case 'fresh':
      throw new NotMounted(vmName);
  }
}

function finished(publish: PublishResult, saveSeconds: number, startedMs: number): SuspendResult {
  return { publish, saveSeconds, seconds: (performance.now() - startedMs) / 1000 };
}

async function publishSaved(publish: () => Promise<PublishResult>, vmName: string): Promise<PublishResult> {
  try {
    return await publish();
  } catch (error) {
    throw new SuspendNotPublished(vmName, error);
  }
}

type Step = 'booting' | 'resuming';

async function run(
  target: VmTarget,
  options: RunOptions,
  step: Step,
  action: (hypervisor: Hypervisor, context: HypervisorContext) => Promise<void>,
): Promise<RunResult> {
  const startedMs = performance.now();
  const { vmName } = target;
  const paths = await target.home.makeVmPaths(target.repositoryId, vmName);
  const { guest: before } = await readGuestEntry(paths);
  if ((before === 'saved' || before === 'stopped') && !options.ephemeral)
    await requireResumable(target, before, step);
  const hadChanges = (await readLocalChanges(target)).changedFiles > 0;
  const mounted = await ensureMounted(target, options, paths, step);
  const record = new RunJournal(paths, before, step, options.ephemeral);
  try {
    // Before all else: the hypervisor takes a while to start. With a mount of ours it began already.
    if (step === 'resuming' && !mounted.byUs) await mounted.client.resuming(resumingWith(options));
    const hypervisor = await readHypervisor(vmName, mounted.mountPath);
    record.hypervisor = hypervisor.kind;
    const context: HypervisorContext = {
      ...hypervisorContext(vmName, mounted.mountPath, paths, options.signal),
      guestMayRun: () => record.mayRun(),
    };
    const isPaused = await clearTheWay(hypervisor, context, { before, step, isOrphan: mounted.byUs });
    if (options.fill !== undefined && !mounted.byUs)
      await mounted.client.fill(options.fill).catch((error: unknown) => {
        // A daemon from before there were fills: the guest runs without.
        debug('%s is not filled: %o', vmName, error);
      });
    options.onStep?.(step);
    if (isPaused && hypervisor.unpause !== undefined) await hypervisor.unpause(context);
    else {
      if (step === 'resuming') await record.begin();
      else if (before === 'ran' && !options.ephemeral) await hypervisor.forgetSavedState(context);
      await action(hypervisor, context);
    }
    await record.done();
  } catch (error) {
    // Unless the adapter says that the guest ran, it never did: what was true before is true again.
    const ran = error instanceof GuestCrashed || error instanceof GuestRunning;
    if (!ran) await record.undo();
    if (mounted.byUs) await undoMount(target, mounted.client, options.ephemeral || hadChanges);
    throw error;
  }
  return {
    mountPath: mounted.mountPath,
    runDirectory: paths.run,
    seconds: (performance.now() - startedMs) / 1000,
  };
}

/**
 * A guest that is saved here and not published can go on from there: the next suspend publishes all of it. Not where a publish
 * may have made a version that nobody heard of: another host may be using that.
 */
async function requireResumable(target: VmTarget, before: GuestRecord, step: Step): Promise<void> {
  const { mayBePublished } = await readLocalChanges(target);
  if (before !== 'saved' || step !== 'resuming' || mayBePublished) throw new SuspendUnfinished(target.vmName);
}

/** The records of one start or resume; an ephemeral one makes none. */
class RunJournal {
  hypervisor: string | undefined;
  readonly #paths: VmPaths;
  readonly #before: GuestRecord;
  readonly #step: 'start' | 'resume';
  readonly #ephemeral: boolean;
  #wrote = false;

  constructor(paths: VmPaths, before: GuestRecord, step: Step, ephemeral: boolean) {
    this.#paths = paths;
    // A resume that never let the guest run has changed nothing.
    this.#before = before === 'resuming' ? 'fresh' : before;
    this.#step = step === 'resuming' ? 'resume' : 'start';
    this.#ephemeral = ephemeral;
  }

  begin(): Promise<void> {
    return this.#write('resuming', { step: this.#step });
  }

  mayRun(): Promise<void> {
    return this.#write('ran', { step: this.#step });
  }

  done(): Promise<void> {
    return this.#write('ran');
  }

  async undo(): Promise<void> {
    if (this.#wrote) await this.#write(this.#before);
  }

  async #write(guest: GuestRecord, details: GuestDetails = {}): Promise<void> {
    if (this.#ephemeral) return;
    this.#wrote = true;
    await writeGuestRecord(this.#paths, guest, { ...details, hypervisor: this.hypervisor });
  }
}

/**
 * Ends a hypervisor that an interrupted resume left with a guest that has not run, or that outlived its mount. Answers
 * whether there is a paused guest that only needs to be let run. `GuestRunning` for every other.
 */
async function clearTheWay(
  hypervisor: Hypervisor,
  context: HypervisorContext,
  {
    before,
    step,
    isOrphan,
  }: { readonly before: GuestRecord; readonly step: Step; readonly isOrphan: boolean },
): Promise<boolean> {
  const { state } = await inspect(hypervisor, context, isOrphan);
  if (state === 'absent') return false;
  if (isOrphan || (before === 'resuming' && state !== 'running')) {
    await hypervisor.kill(context);
    return false;
  }
  const canGoOn = step === 'resuming' && state === 'paused' && before === 'ran';
  if (canGoOn && hypervisor.unpause !== undefined) return true;
  throw new GuestRunning(context.vmName);
}

/** A hypervisor whose mount is gone may not answer any more, but it is there. */
async function inspect(
  hypervisor: Hypervisor,
  context: HypervisorContext,
  isOrphan: boolean,
): Promise<GuestState> {
  try {
    return await hypervisor.inspect(context);
  } catch (error) {
    if (isOrphan && error instanceof IsrError) return { state: 'paused', pid: undefined };
    throw error;
  }
}

/** After a failed start: unmounts, and drops what the attempt wrote unless there were changes before it. */
async function undoMount(target: VmTarget, client: DaemonClient, keepChanges: boolean): Promise<void> {
  try {
    await client.unmount();
    if (!keepChanges) await discardVm(target);
  } catch (error) {
    debug('%s stays mounted after a failed start: %o', target.vmName, error);
  }
}

/** What was asked for must be what is mounted: a throw-away run on a real overlay would change the VM. */
function requireSameMount(vmName: string, mounted: DaemonClient, options: RunOptions): void {
  const isSame =
    mounted.ephemeral === options.ephemeral &&
    options.version === undefined &&
    (options.mountPath === undefined || options.mountPath === mounted.mountPath);
  if (!isSame) throw new AlreadyMounted(vmName, mounted.mountPath);
}

/** Whether no hypervisor runs the VM here: it cannot without a mount. */
async function isGuestAbsent(target: VmTarget): Promise<boolean> {
  const paths = pathsOf(target);
  const client = await connectDaemon(paths, target.vmName);
  if (client === undefined) return true;
  const hypervisor = await readHypervisor(target.vmName, client.mountPath);
  const guest = await hypervisor.inspect(
    hypervisorContext(target.vmName, client.mountPath, paths, undefined),
  );
  return guest.state === 'absent';
}

async function ensureMounted(
  target: VmTarget,
  options: RunOptions,
  paths: VmPaths,
  step: Step,
): Promise<{ readonly client: DaemonClient; readonly mountPath: string; readonly byUs: boolean }> {
  const running = await connectDaemon(paths, target.vmName);
  if (running !== undefined) {
    requireSameMount(target.vmName, running, options);
    return { client: running, mountPath: running.mountPath, byUs: false };
  }
  options.onStep?.('mounting');
  const { version, mountPath, ephemeral, engine, allowOther, tiers = [], trickle, fill } = options;
  const client = await mountVm({
    ...target,
    mount: {
      ...{ vmName: target.vmName, version, mountPath, ephemeral, engine, allowOther, tiers, trickle, fill },
      ...(step === 'resuming' ? { resuming: resumingWith(options) } : {}),
    },
    ...(options.signal === undefined ? {} : { signal: options.signal }),
    onWithoutStore: options.onWithoutStore,
  });
  return { client, mountPath: client.mountPath, byUs: true };
}

function resumingWith({ prefetch = true }: RunOptions): Resuming {
  return { prefetch };
}

async function readHypervisor(vmName: string, mountPath: string): Promise<Hypervisor> {
  const path = join(mountPath, 'isr.toml');
  try {
    return openHypervisor(parseVmConfig(await readFile(path, 'utf8'), path));
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') throw new NoVmConfig(vmName, path);
    throw error;
  }
}

function hypervisorContext(
  vmName: string,
  directory: string,
  paths: VmPaths,
  signal: AbortSignal | undefined,
): HypervisorContext {
  return { vmName, directory, runDirectory: paths.run, ...(signal === undefined ? {} : { signal }) };
}
