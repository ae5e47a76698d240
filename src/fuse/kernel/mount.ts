import createDebug from 'debug';
import { limits } from '../../base/index.js';
import type { FileSystem } from '../../fs/index.js';
import { EngineUnavailable, MountBusy, MountFailed } from '../errors.js';
import { detach, syncMount } from '../fusermount.js';
import { findMount, readMountTable, type MountEntry } from '../mount-table.js';
import type {
  Engine,
  EngineCapabilities,
  EngineOptions,
  EngineStatus,
  MountConnection,
  MountEngine,
  TakenOverMount,
} from '../types.js';
import { Connection, type ConnectionListener } from './connection.js';
import type { Agreement } from './init.js';
import { mountAsThisUser, type Mounter } from './mounting.js';
import { liftDirtyLimit } from './write-back.js';

const debug = createDebug('isr:fuse');

const mountTableRetryMs = 1_000;

export const kernelCapabilities: EngineCapabilities = {
  allocate: true,
  seekHoles: true,
  renameModes: true,
  separateTimes: true,
  timeResolutionNs: 1n,
  callerIdentity: true,
  inodeIdentity: true,
};

/**
 * Mounts and speaks the kernel's FUSE protocol itself, Linux 5.4 or newer. The process must not touch the mount.
 *
 * @throws EngineUnavailable, MountFailed, InvalidInput for a source name with other characters than allowed
 */
export const mountKernel: MountEngine = (fileSystem, options) =>
  mountKernelThrough(mountAsThisUser, fileSystem, options);

/** As `mountKernel`, with a way of mounting. */
export async function mountKernelThrough(
  mounter: Mounter,
  fileSystem: FileSystem,
  options: EngineOptions,
): Promise<Engine> {
  if (process.platform !== 'linux') {
    throw new EngineUnavailable('The engine kernel exists on Linux only.', {
      remedy: 'Use the engine fuse-native.',
    });
  }
  const { takeOver } = options;
  const engine = new KernelEngine(fileSystem, takeOver?.fd ?? (await mounter(options)), options);
  try {
    if (takeOver === undefined) await engine.begin();
    else await engine.goOn(takeOver);
    return engine;
  } catch (error) {
    await engine.unmount({ lazy: true });
    throw error;
  }
}

class KernelEngine implements Engine {
  readonly name = 'kernel';
  readonly unmounted: Promise<string>;

  readonly #connection: Connection;
  readonly #mountPath: string;
  readonly #fd: number;
  #mount: MountEntry | undefined;
  #agreement: Agreement | undefined;
  #dirtyLimitLifted = false;
  #onUnmounted: (reason: string) => void = () => undefined;
  #unmounting: Promise<void> | undefined;
  #stopped = false;

  constructor(fileSystem: FileSystem, fd: number, options: EngineOptions) {
    const { mountPath, threads = limits.kernelServingThreads, takeOver } = options;
    this.#fd = fd;
    this.#mountPath = mountPath;
    this.unmounted = new Promise((resolve) => (this.#onUnmounted = resolve));
    const listener: ConnectionListener = {
      onDisconnected: (reason) => {
        if (!this.#isUnmounting()) this.#onUnmounted(`${mountPath} ${reason}`);
      },
      onMountTable: () => void this.#checkMounted(),
    };
    const life = takeOver?.life ?? 0;
    this.#connection = new Connection(fileSystem, fd, { threads, life }, listener);
  }

  /** Resolves when programs can use the mount. */
  async begin(): Promise<void> {
    this.#mount = await findMount(this.#mountPath);
    const agreement = await Promise.race([this.#connection.requests.agreed, this.unmounted]);
    if (typeof agreement === 'string') throw new MountFailed(`${agreement}, before it was ready.`);
    if (agreement === undefined) {
      throw new EngineUnavailable('The kernel of this host is too old for the engine kernel.', {
        remedy: 'Use Linux 5.4 or newer, or the engine fuse-native.',
      });
    }
    debug('protocol 7.%d, flags %s', agreement.minor, agreement.flags.toString(16));
    this.#agreement = agreement;
    if (this.#mount !== undefined) this.#dirtyLimitLifted = await liftDirtyLimit(this.#mount.device);
  }

  /** Serves a mount whose process has died: what that had read and not answered comes again. */
  async goOn({ mount, agreement, life }: TakenOverMount): Promise<void> {
    this.#mount = mount;
    this.#agreement = agreement;
    if (!this.#connection.askAgain()) {
      throw new MountFailed(`The kernel does not send the requests of ${this.#mountPath} again.`);
    }
    debug('going on with %s, life %d', this.#mountPath, life);
    // Somebody may have unmounted it while nobody watched.
    await this.#checkMounted();
    if (mount !== undefined) this.#dirtyLimitLifted = await liftDirtyLimit(mount.device);
  }

  get connection(): (MountConnection & { readonly fd: number }) | undefined {
    if (this.#agreement?.canResend !== true) return undefined;
    return { fd: this.#fd, mount: this.#mount, agreement: this.#agreement };
  }

  replayFor(processId: number | undefined): void {
    this.#connection.requests.replayFor(processId);
  }

  status(): EngineStatus {
    return { ...this.#connection.status(), dirtyLimitLifted: this.#dirtyLimitLifted };
  }

  /** Without `lazy`, one attempt; a failed one leaves the mount working. */
  async unmount(options: { readonly lazy?: boolean } = {}): Promise<void> {
    // A lazy unmount must get through where an attempt under way fails.
    while (this.#unmounting !== undefined) {
      if (options.lazy !== true) return this.#unmounting;
      await this.#unmounting.catch(() => undefined);
    }
    if (this.#stopped) return;
    this.#unmounting = this.#unmountOnce(options.lazy ?? false).finally(() => (this.#unmounting = undefined));
    return this.#unmounting;
  }

  /** Unmounts, lazily where somebody still uses the mount. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.unmount();
    } catch (error) {
      if (!(error instanceof MountBusy)) throw error;
      debug('detaching although busy: %s', error.message);
      await this.unmount({ lazy: true });
    }
  }

  async #unmountOnce(lazy: boolean): Promise<void> {
    if (await this.#isMounted()) {
      // In another process, since the kernel may want its dirty pages written before it lets the mount go.
      if (lazy) await syncMount(this.#mountPath);
      await detach(this.#mountPath, { lazy });
    }
    this.#stopped = true;
    await this.#connection.close();
  }

  async #isMounted(): Promise<boolean> {
    const mounts = await readMountTable();
    return mounts.some(
      ({ mountId, device }) => mountId === this.#mount?.mountId && device === this.#mount.device,
    );
  }

  #isUnmounting(): boolean {
    return this.#unmounting !== undefined || this.#stopped;
  }

  async #checkMounted(): Promise<void> {
    if (this.#mount === undefined || this.#isUnmounting()) return;
    try {
      if ((await this.#isMounted()) || this.#isUnmounting()) return;
    } catch (error) {
      // Where no file can be opened, nothing is known of it yet.
      debug('the mount table cannot be read: %o', error);
      setTimeout(() => void this.#checkMounted(), mountTableRetryMs).unref();
      return;
    }
    this.#onUnmounted(`${this.#mountPath} was unmounted by somebody else`);
  }
}
