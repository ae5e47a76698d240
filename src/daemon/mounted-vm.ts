import { setTimeout as sleep } from 'node:timers/promises';
import createDebug from 'debug';
import { ResourceStack } from '../base/index.js';
import { untilAborted } from '../fetch/index.js';
import {
  checkMountPoint,
  clearStaleMount,
  MountBusy,
  mountFuseNative,
  mountKernel,
  type Engine,
  type EngineName,
  type MountEngine,
  type TakenOverMount,
} from '../fuse/index.js';
import type { HostHome, VmPaths } from '../host/index.js';
import type { RepositoryHeader } from '../repo/index.js';
import { localDirectoryOf } from '../store/index.js';
import { inheritedLock } from '../system/index.js';
import { ControlServer, type ControlHandlers } from './control-server.js';
import { protectWorker } from './protection.js';
import { removeRecord, writeRecord } from './record.js';
import { VmSession } from './session.js';
import { NotSupervised } from './errors.js';
import { StallKeeper } from './explain/index.js';
import { Fill } from './fill/index.js';
import { ResumedRun } from './replay/index.js';
import { Supervision, type KeptMount } from './supervision.js';
import type { Program } from './supervisor-protocol.js';
import { workerProgram } from './worker-program.js';
import type {
  DaemonStatus,
  MountRequest,
  PublishResult,
  Resuming,
  UnmountResult,
  WithoutStore,
} from './types.js';

const debug = createDebug('isr:daemon');

const engines: Readonly<Record<EngineName, MountEngine>> = {
  'fuse-native': mountFuseNative,
  kernel: mountKernel,
};

/** How long an unmount waits for a program that is just ending (a hypervisor that was told to quit). */
const busyGraceMs = 3000;

const intervalMs = 50;

/** How long `status` waits for what only the store knows. */
const statusTimeoutMs = 2000;

/** How long a worker that makes room waits for control requests under way. */
const farewellMs = 1000;

export interface ServeRequest {
  readonly home: HostHome;
  readonly repositoryUrl: string;
  readonly mount: MountRequest;
  readonly signal?: AbortSignal;
  /** A mount whose last worker died, and what its supervisor kept of it. */
  readonly takeOver?: TakeOver;
}

export interface TakeOver extends TakenOverMount {
  readonly mountPath: string;
  /** Holds the VM's lock. */
  readonly lockFd: number;
  readonly repository?: RepositoryHeader;
  readonly supervision: Supervision;
}

/** A VM whose directory is mounted by this process: session, engine and control socket, with one life. */
export class MountedVm {
  readonly mountPath: string;
  /** Resolves when the mount is gone and everything is closed, whoever asked for it. */
  readonly ended: Promise<void>;
  readonly #session: VmSession;
  readonly #engine: Engine;
  /** Undefined where nobody would replace this process. */
  readonly #supervision: Supervision | undefined;
  readonly #paths: VmPaths;
  readonly #startedAt = new Date();
  readonly #repository: string;
  readonly #resources: ResourceStack;
  #server: ControlServer | undefined;
  #unmounting: Promise<UnmountResult> | undefined;
  /** The guest that was resumed last. */
  #run: ResumedRun | undefined;
  #stalls: StallKeeper | undefined;
  readonly #fill: Fill;
  readonly #end: () => void;

  private constructor(
    session: VmSession,
    engine: Engine,
    supervision: Supervision | undefined,
    mountPath: string,
    resources: ResourceStack,
  ) {
    this.#session = session;
    this.#engine = engine;
    this.#supervision = supervision;
    this.#paths = session.paths;
    this.#repository = session.repository.store.description;
    this.#resources = resources;
    this.mountPath = mountPath;
    this.#fill = this.#makeFill();
    const { promise, resolve } = withResolvers();
    this.ended = promise;
    this.#end = resolve;
  }

  /** Returns when the directory is usable and the control socket answers. Errors: those of `VmSession.open` and of mounting. */
  static async mount(request: ServeRequest): Promise<MountedVm> {
    const resources = new ResourceStack();
    const { takeOver } = request;
    try {
      const session = resources.use(
        await VmSession.open({
          home: request.home,
          repositoryUrl: request.repositoryUrl,
          vmName: request.mount.vmName,
          version: request.mount.version,
          ephemeral: request.mount.ephemeral,
          tiers: request.mount.tiers,
          purpose: 'use',
          mount: {
            life: takeOver?.life ?? 0,
            lock: takeOver === undefined ? undefined : inheritedLock(takeOver.lockFd),
            repository: takeOver?.repository,
          },
          ...(request.signal === undefined ? {} : { signal: request.signal }),
        }),
      );
      const mountPath = takeOver?.mountPath ?? (await findMountPoint(session, request));
      if (takeOver === undefined) await announceStart(session, mountPath, request);
      resources.defer(() => removeRecord(session.paths));
      const engine = resources.use(
        await engines[request.mount.engine](session.fileSystem, {
          mountPath,
          sourceName: `isr:${session.vmName}`,
          allowOther: request.mount.allowOther,
          ...(takeOver === undefined ? {} : { takeOver }),
        }),
      );
      const supervision = await supervise(request, session, engine, mountPath);
      resources.defer(() => supervision?.end());
      const mounted = new MountedVm(session, engine, supervision, mountPath, resources);
      await mounted.#announce();
      session.repository.codec.start();
      if (request.mount.trickle !== undefined) session.startTrickle(request.mount.trickle);
      await mounted.#explain(request.mount.resuming !== undefined, takeOver !== undefined);
      // After a crash the guest runs already.
      if (takeOver === undefined) mounted.#run = mounted.#beginRun(request.mount.resuming);
      if (request.mount.fill !== undefined) mounted.#fill.begin(request.mount.fill);
      return mounted;
    } catch (error) {
      // A mount that goes on is the supervisor's, which tries again.
      if (takeOver === undefined) await resources[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Set where the store was away when it was mounted. */
  get withoutStore(): WithoutStore | undefined {
    return this.#session.withoutStore;
  }

  async status(): Promise<DaemonStatus> {
    const session = this.#session;
    const { origin } = session;
    const signal = AbortSignal.timeout(statusTimeoutMs);
    const [lease, chunks] = await Promise.all([
      session
        .lease(signal)
        .catch((error: unknown) => ({ state: 'unknown' as const, reason: reasonOf(error) })),
      session.residency(signal).catch(() => undefined),
    ]);
    const dirty = session.dirty();
    return {
      vmName: session.vmName,
      repository: this.#repository,
      mountPath: this.mountPath,
      version: origin.kind === 'version' ? origin.commit.version : undefined,
      branch: origin.kind === 'branch' ? origin.branch.name : undefined,
      ephemeral: session.ephemeral,
      startedAt: this.#startedAt.toISOString(),
      daemon: { ...this.#processes(), residentBytes: process.memoryUsage.rss() },
      engine: { name: this.#engine.name, ...this.#engine.status() },
      lease,
      chunks,
      dirtyBytes: dirty.bytes,
      changedFiles: dirty.changedFiles,
      withoutStore: session.withoutStore,
      fetch: session.fetcher.status(),
      replay: this.#run?.replay,
      trickle: session.trickle,
      fill: this.#fill.status(),
    };
  }

  /**
   * Flushes, unmounts, closes. `MountBusy` while programs use the mount, and the mount stays as it is; `lazy` detaches
   * it from under them. Calls while it is under way share one result.
   */
  unmount(options: { readonly lazy: boolean } = { lazy: false }): Promise<UnmountResult> {
    this.#unmounting ??= this.#unmount(options).catch((error: unknown) => {
      this.#unmounting = undefined;
      throw error;
    });
    return this.#unmounting;
  }

  async #unmount(options: { readonly lazy: boolean }): Promise<UnmountResult> {
    await this.#session.whenPublished();
    // A replay uses the mount.
    await this.#run?.end();
    // What cannot be flushed must not be unmounted: the program that wrote it can still react.
    await this.#session.flush();
    if (options.lazy) await this.#engine.unmount({ lazy: true });
    else await this.#unmountWithGrace();
    return this.#finish();
  }

  async #unmountWithGrace(): Promise<void> {
    const deadlineMs = performance.now() + busyGraceMs;
    for (;;) {
      try {
        await this.#engine.unmount();
        return;
      } catch (error) {
        if (!(error instanceof MountBusy) || performance.now() > deadlineMs) throw error;
        await sleep(intervalMs);
      }
    }
  }

  /** Somebody else unmounted. */
  async #endAfterUnmount(): Promise<UnmountResult> {
    await this.#session.whenPublished();
    await this.#run?.end();
    await this.#engine.unmount({ lazy: true });
    return this.#finish();
  }

  /** The mount is gone; the kernel has written back what it had. */
  async #finish(): Promise<UnmountResult> {
    await this.#fill[Symbol.asyncDispose]();
    await this.#stalls?.[Symbol.asyncDispose]();
    try {
      return await this.#session.conclude();
    } finally {
      try {
        await this.#resources[Symbol.asyncDispose]();
      } finally {
        void this.#stopAnswering();
      }
    }
  }

  /** Not waited for by whoever unmounts: the request for it may have come over this very server. */
  async #stopAnswering(): Promise<void> {
    await this.#server?.[Symbol.asyncDispose]();
    this.#end();
  }

  async #announce(): Promise<void> {
    this.#server = await ControlServer.listen(this.#paths.controlSocket, this.#handlers());
    try {
      await this.#announceProcesses();
    } catch (error) {
      await this.#server[Symbol.asyncDispose]();
      throw error;
    }
    void this.#engine.unmounted.then((reason) => {
      debug('unmounted from outside: %s', reason);
      // After `umount -l` the engine still serves programs that have files open.
      this.#unmounting ??= this.#endAfterUnmount();
      this.#unmounting.catch((error: unknown) => debug('closing failed: %o', error));
    });
  }

  async #announceProcesses(): Promise<void> {
    const mount = { mountPath: this.mountPath, ephemeral: this.#session.ephemeral };
    await writeRecord(this.#paths, mount, { supervisor: this.#supervision?.supervisor });
  }

  /** Serves until the mount ends; `onStop` is called when the supervisor wants that. */
  beSupervised(onStop: (reason: string) => void): void {
    this.#supervision?.serve({
      onStop,
      onReplaced: () => this.#announceProcesses(),
      requests: () => {
        const { requests, requestsWaiting: waiting } = this.#engine.status();
        return { answered: requests - waiting, waiting };
      },
    });
  }

  #processes(): Omit<DaemonStatus['daemon'], 'residentBytes'> {
    const worker = {
      ...{ workerPid: process.pid, program: process.argv[1] ?? '' },
      protection: protectWorker(),
    };
    if (this.#supervision === undefined) {
      const unsupervised =
        this.#engine.name === 'kernel'
          ? 'the kernel of this host cannot send requests again (Linux 6.9 or newer can)'
          : `the engine ${this.#engine.name} cannot pass a mount on`;
      return { ...worker, supervisorPid: undefined, unsupervised, restarts: 0, lastRestart: undefined };
    }
    const { supervisor, restarts } = this.#supervision;
    const { count, lastAt: at, lastReason: reason } = restarts;
    const lastRestart = at === undefined || reason === undefined ? undefined : { at, reason };
    return {
      ...worker,
      supervisorPid: supervisor?.pid,
      unsupervised: supervisor === undefined ? 'it died, and another one is about to start' : undefined,
      restarts: count,
      lastRestart,
    };
  }

  /**
   * Ends this process between two requests. What it has begun is answered, or comes again to the next one, as after a
   * crash: there is one way to go on, and it is the one that is tried most.
   */
  async #makeRoomFor(program: Program, supervision: Supervision): Promise<void> {
    // The request for it has come over this server.
    await Promise.race([this.#server?.[Symbol.asyncDispose](), sleep(farewellMs)]);
    while (!(await supervision.makeRoomFor(program))) await sleep(intervalMs);
    process.exit(0);
  }

  /** Begins to record what programs wait for. */
  async #explain(isResume: boolean, goesOn = false): Promise<void> {
    const { origin, vmName, fetcher, fileSystem } = this.#session;
    const options = {
      ...{ paths: this.#paths, vmName },
      version: origin.kind === 'version' ? origin.commit.version : undefined,
      planFor: (path: string, chunkIndex: number) => {
        const unplanned = this.#stalls?.isResume === true ? 'noPrefetch' : 'noResume';
        return this.#run?.planFor(path, chunkIndex) ?? unplanned;
      },
      isForeseen: (path: string, chunkIndex: number) => this.#run?.isForeseen(path, chunkIndex) === true,
      onStall: (path: string, chunkIndex: number) => this.#run?.stalled(path, chunkIndex),
      linkUse: () => fetcher.linkUse(),
    };
    await this.#stalls?.[Symbol.asyncDispose]();
    this.#stalls = goesOn ? await StallKeeper.goOn(options) : StallKeeper.begin({ ...options, isResume });
    fileSystem.watchStalls(this.#stalls.listener);
  }

  /** Undefined for a branch: it has no next resume. */
  #beginRun(resuming: Resuming | undefined): ResumedRun | undefined {
    const session = this.#session;
    const { origin, history, fetcher, fileSystem } = session;
    if (origin.kind === 'branch' || resuming === undefined) return undefined;
    return new ResumedRun({
      ...{ history, fetcher, fileSystem, ...resuming },
      version: origin.commit.version,
      chunkBytes: session.repository.header.chunkBytes,
      readManifest: (signal) => session.readManifest(signal),
      engine: this.#engine,
      mountPath: this.mountPath,
    });
  }

  #makeFill(): Fill {
    const session = this.#session;
    const { home, vmName } = session;
    return new Fill({
      ...{ vmName, cachePath: home.cachePath },
      version: () => session.openVersion(),
      limitBytes: () => home.localCacheBytesNow(),
      replay: {
        isUnderWay: () => this.#run?.isReplaying === true,
        whenOver: (signal) => this.#whenReplayed(signal),
      },
    });
  }

  /** Also of another resume that begins meanwhile. */
  async #whenReplayed(signal: AbortSignal): Promise<void> {
    while (this.#run?.isReplaying === true && !signal.aborted) {
      const over = this.#run.whenReplayed().then(() => true);
      if (!(await untilAborted(over, signal, 'Waiting for the replay').catch(() => false))) return;
    }
  }

  async #publish(options: Parameters<VmSession['publish']>[0]): Promise<PublishResult> {
    // Versions are laid out as the last resume says.
    await this.#run?.end();
    // Another version may take the place of the one that is filled.
    await this.#fill.pause();
    try {
      return await this.#session.publish(options);
    } finally {
      this.#fill.goOn();
    }
  }

  #handlers(): ControlHandlers {
    const session = this.#session;
    return {
      status: () => this.status(),
      explain: () => {
        if (this.#stalls === undefined) throw new Error('the mount is not complete yet');
        return Promise.resolve(this.#stalls.explanation());
      },
      flush: async () => {
        await session.flush();
        return null;
      },
      publish: ({ releaseLease }, call) => this.#publish({ releaseLease, ...call }),
      resuming: async (resuming) => {
        await this.#run?.halt();
        void this.#run?.end();
        this.#run = this.#beginRun(resuming);
        await this.#explain(true);
        return null;
      },
      warm: (request, call) => session.openVersion().warm(request, call),
      planWarming: (scope, call) => session.openVersion().planWarming(scope, call),
      fill: async (options) => {
        this.#fill.begin(options);
        await this.#supervision?.keepRequest({ fill: options });
        return null;
      },
      upgrade: async ({ program }) => {
        const { unsupervised } = this.#processes();
        if (this.#supervision === undefined) throw new NotSupervised(session.vmName, unsupervised ?? '');
        await session.whenPublished();
        await session.flush();
        await this.#stalls?.write();
        void this.#makeRoomFor(program, this.#supervision);
        return null;
      },
      unmount: () => this.unmount(),
    };
  }
}

/** Whoever replaces this process when it dies, where that is possible. */
async function supervise(
  request: ServeRequest,
  session: VmSession,
  engine: Engine,
  mountPath: string,
): Promise<Supervision | undefined> {
  const { connection } = engine;
  if (connection === undefined) return undefined;
  const { mount, agreement, fd } = connection;
  const kept: KeptMount = {
    mount: {
      program: workerProgram(session.vmName),
      start: { homePath: request.home.path, repositoryUrl: request.repositoryUrl, mount: request.mount },
      mountPath,
      connection: { mount, agreement },
      repository: session.repository.header,
      recordPath: session.paths.daemonRecord,
      lives: (request.takeOver?.life ?? 0) + 1,
    },
    descriptors: { connection: fd, lock: session.lockFd },
  };
  if (request.takeOver === undefined) return Supervision.begin(kept);
  request.takeOver.supervision.keep(kept);
  return request.takeOver.supervision;
}

/** What a process that died there left is in nobody's way. */
async function findMountPoint(session: VmSession, request: ServeRequest): Promise<string> {
  const mountPath = request.mount.mountPath ?? session.mountPath;
  await clearStaleMount(mountPath);
  return checkMountPoint(mountPath, localPaths(request));
}

/** From here on there may be a mount. */
async function announceStart(session: VmSession, mountPath: string, { mount }: ServeRequest): Promise<void> {
  await writeRecord(session.paths, { mountPath, ephemeral: mount.ephemeral }, 'starting');
}

/** What the daemon itself uses on this host: under its own mount it would wait for itself. */
function localPaths(request: ServeRequest): readonly string[] {
  const storeDirectory = localDirectoryOf(request.repositoryUrl);
  return storeDirectory === undefined ? [request.home.path] : [request.home.path, storeDirectory];
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function withResolvers(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
