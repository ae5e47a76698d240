import createDebug from 'debug';
import { access, constants } from 'node:fs/promises';
import { InvalidInput } from '../../base/index.js';
import { MountBusy, MountFailed } from '../errors.js';
import { detach, syncMount } from '../fusermount.js';
import { findMount, readMountTable, type MountEntry } from '../mount-table.js';
import type { Engine, EngineCapabilities, EngineOptions, EngineStatus, MountEngine } from '../types.js';
import { allocateAddonMemory, loadAddon, type Addon } from './addon.js';
import { Requests } from './requests.js';

const debug = createDebug('isr:fuse');

/** /proc/self/mountinfo cannot be watched from Node, and an unmount by somebody else is rare. */
const watchIntervalMilliseconds = 1_000;

/** Names change through the mount only, where the kernel sees it. */
const nameTimeoutSeconds = 86_400;

export const fuseNativeCapabilities: EngineCapabilities = {
  allocate: false,
  seekHoles: false,
  renameModes: false,
  separateTimes: false,
  timeResolutionNs: 1_000_000n,
  callerIdentity: false,
  inodeIdentity: false,
};

/**
 * Mounts through fuse-native: libfuse 2 and its threads, with all requests on the main thread's event loop. The process
 * must not touch the mount itself.
 *
 * @throws EngineUnavailable, MountFailed, InvalidInput for a source name with other characters than allowed
 */
export const mountFuseNative: MountEngine = async (fileSystem, options) => {
  const addon = loadAddon();
  const optionText = `-o${mountOptions(options).join(',')}`;
  const requests = new Requests(addon, fileSystem);
  const memory = allocateAddonMemory(addon.sizeof_fuse_thread_t);
  try {
    addon.fuse_native_mount(
      options.mountPath,
      optionText,
      memory,
      {},
      requests.allocateThread,
      requests.handlers,
      requests.implemented,
    );
  } catch (cause) {
    throw await explainedFailure(options, cause);
  }
  await requests.initialized;
  return new FuseNativeEngine(addon, requests, memory, options.mountPath, await findMount(options.mountPath));
};

/**
 * Left out on purpose is auto_unmount: after a crash, programs would go on in the empty directory below the mount, and
 * what they write there would be lost. A dead mount answers ENOTCONN until the next start clears it.
 */
function mountOptions({ sourceName, allowOther }: EngineOptions): readonly string[] {
  if (!/^[A-Za-z0-9._:-]{1,255}$/.test(sourceName)) {
    throw new InvalidInput(`${JSON.stringify(sourceName)} cannot name a mount.`);
  }
  return [
    `fsname=${sourceName}`,
    'subtype=isr',
    'default_permissions',
    ...(allowOther ? ['allow_other'] : []),
    'use_ino',
    'big_writes',
    'max_read=131072',
    `entry_timeout=${nameTimeoutSeconds}`,
    `negative_timeout=${nameTimeoutSeconds}`,
    // libfuse 2 shows each hard link as an inode of its own: what changes through one must be asked for through
    // the others, so attributes are never cached, and pages only until a file is opened that has changed.
    'attr_timeout=0',
    'auto_cache',
  ];
}

async function explainedFailure(options: EngineOptions, cause: unknown): Promise<MountFailed> {
  const remedy = await access('/dev/fuse', constants.R_OK | constants.W_OK).then(
    () =>
      options.allowOther && process.getuid?.() !== 0
        ? 'Put the line user_allow_other into /etc/fuse.conf, or mount for yourself only.'
        : 'See the message of fusermount or libfuse above.',
    () => 'Load the kernel module fuse, and give this user access to /dev/fuse.',
  );
  return new MountFailed(`The kernel refused to mount at ${options.mountPath}.`, {
    cause,
    remedy,
    facts: { mountPath: options.mountPath },
  });
}

class FuseNativeEngine implements Engine {
  readonly name = 'fuse-native';
  readonly unmounted: Promise<string>;

  readonly #addon: Addon;
  readonly #requests: Requests;
  readonly #memory: Buffer;
  readonly #mountPath: string;
  readonly #mount: MountEntry | undefined;
  readonly #watch: NodeJS.Timeout;
  #onUnmounted: (reason: string) => void = () => undefined;
  #unmounting: Promise<void> | undefined;
  #stopped = false;

  constructor(
    addon: Addon,
    requests: Requests,
    memory: Buffer,
    mountPath: string,
    mount: MountEntry | undefined,
  ) {
    this.#addon = addon;
    this.#requests = requests;
    this.#memory = memory;
    this.#mountPath = mountPath;
    this.#mount = mount;
    this.unmounted = new Promise((resolve) => (this.#onUnmounted = resolve));
    this.#watch = setInterval(() => void this.#checkMounted(), watchIntervalMilliseconds).unref();
  }

  status(): EngineStatus {
    return this.#requests.status();
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
      if (lazy) await syncMount(this.#mountPath);
      await detach(this.#mountPath, { lazy });
    }
    this.#stopped = true;
    clearInterval(this.#watch);
    await this.#requests.stop();
    this.#addon.fuse_native_unmount(this.#mountPath, this.#memory);
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
    if ((await this.#isMounted()) || this.#isUnmounting()) return;
    clearInterval(this.#watch);
    this.#onUnmounted(`${this.#mountPath} was unmounted by somebody else`);
  }
}
