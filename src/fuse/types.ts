import type { FileSystem } from '../fs/index.js';
import type { MountEntry } from './mount-table.js';

export interface EngineOptions {
  /** Existing directory, absolute, without symbolic links in it. */
  readonly mountPath: string;
  /** Shown in /proc/mounts: `isr:VM`. Characters `[A-Za-z0-9._:-]` only. */
  readonly sourceName: string;
  /** Other users of the host may use the mount (the hypervisor runs as one). */
  readonly allowOther: boolean;
  /** Threads that answer reads of local data at once; engines without such threads ignore it. */
  readonly threads?: number;
  /** Go on with this mount instead of making one. The engine `kernel` can. */
  readonly takeOver?: TakenOverMount;
}

/** What another process needs to serve a mount when this one has died. Plain data. */
export interface MountConnection {
  /** The mount as the mount table shows it. */
  readonly mount: MountEntry | undefined;
  /** What was agreed on with the kernel. */
  readonly agreement: {
    readonly minor: number;
    readonly flags: number;
    readonly canResend: boolean;
  };
}

/** A mount that other processes served before. */
export interface TakenOverMount extends MountConnection {
  /** The connection's descriptor. The engine owns it. */
  readonly fd: number;
  /** How many processes served it before. */
  readonly life: number;
}

/**
 * Carries kernel requests to a file system. Every request is answered exactly once; a failure inside becomes an errno.
 */
export interface Engine extends AsyncDisposable {
  readonly name: EngineName;

  /** Resolves when somebody else unmounted us, with the reason. */
  readonly unmounted: Promise<string>;

  /**
   * Unmounts: `EBUSY` (`MountBusy`) while files are open or a process stands in it, unless `lazy`.
   * After it resolves no request is under way. Idempotent.
   */
  unmount(options?: { readonly lazy?: boolean }): Promise<void>;

  status(): EngineStatus;

  /**
   * What this process opens from now on is read for a replay: whole, and for nobody who waits. Engines that cannot tell
   * who opens a file lack it.
   */
  replayFor?(processId: number | undefined): void;

  /** What another process needs to go on with the mount; undefined where the engine or the kernel cannot. */
  readonly connection?: (MountConnection & { readonly fd: number }) | undefined;
}

export type EngineName = 'fuse-native' | 'kernel';

/** The engine to use where nobody says which. */
export const defaultEngine: EngineName = process.platform === 'linux' ? 'kernel' : 'fuse-native';

export interface EngineStatus {
  readonly requests: number;
  readonly requestsWaiting: number;
  /** Requests that an earlier process of the mount had taken and not answered, where an engine can have them sent again. */
  readonly requestsResent?: number;
  /** Read-ahead that was refused because its data is not local. */
  readonly refusedAhead: number;
  /** Requests answered with an errno that says something is wrong (EIO, ENOSPC); ENOENT and the like are not counted. */
  readonly errors: number;
  /**
   * Threads that served requests so far. Where an engine has a fixed set this stays small; in fuse-native each one
   * ever started makes every later request a little slower, so a count in the thousands asks for a new mount.
   */
  readonly threadsStarted?: number;
  /** Inodes that the kernel knows and has not forgotten, where an engine counts them. */
  readonly inodesReferenced?: number;
  /** Since when changed pages of mappings wait for room on the local disk, where an engine lets them wait. */
  readonly waitingForSpaceSince?: string;
  /** Whether the kernel lets this mount have more dirty pages than 1 % of memory, where an engine can ask for it (as root). */
  readonly dirtyLimitLifted?: boolean;
}

export type MountEngine = (fileSystem: FileSystem, options: EngineOptions) => Promise<Engine>;

/** What programs that use a mount can rely on, as data: what is missing is answered as a kernel without it would. */
export interface EngineCapabilities {
  /** fallocate(2); otherwise `EOPNOTSUPP`. */
  readonly allocate: boolean;
  /** `SEEK_HOLE` finds holes; otherwise files look as if they were all data. */
  readonly seekHoles: boolean;
  /** `RENAME_NOREPLACE` and `RENAME_EXCHANGE`; otherwise `EINVAL`. */
  readonly renameModes: boolean;
  /** utimensat(2) can set one of the two times; otherwise such a call changes nothing. */
  readonly separateTimes: boolean;
  readonly timeResolutionNs: bigint;
  /**
   * All names of an inode are one inode to the kernel, which outlives them while it is used: otherwise locks and fifos
   * of hard links do not meet, and a directory that was removed tells nothing any more.
   */
  readonly inodeIdentity: boolean;
  /** New files belong to the process that makes them; otherwise to the owner of their directory. */
  readonly callerIdentity: boolean;
}
