import type { ProgressListener } from '../base/index.js';
import type { FetchStatus } from '../fetch/index.js';
import type { FillOptions, FillStatus } from './fill/index.js';
import type { TrickleOptions, TrickleStatus } from './trickle/index.js';
import type { Protection } from '../system/index.js';
import type { Explanation } from './explain/index.js';
import type { ReplayStatus } from './replay/index.js';
import type { EngineName, EngineStatus } from '../fuse/index.js';
import type { LeaseState } from '../repo/index.js';
import type { WarmPlan, WarmRequest, WarmResult, WarmScope } from '../warm/index.js';

export interface MountRequest {
  readonly vmName: string;
  /** Undefined: the path that the version says. */
  readonly mountPath: string | undefined;
  /** A version number or a branch name; undefined: the newest. Anything but the newest needs `ephemeral`. */
  readonly version: string | undefined;
  /** No lease; changes are thrown away at unmount. */
  readonly ephemeral: boolean;
  readonly engine: EngineName;
  readonly allowOther: boolean;
  /** Lookaside places, asked before those of the configuration. */
  readonly tiers?: readonly string[];
  /** A guest is resumed from it next: see `DaemonClient.resuming`. */
  readonly resuming?: Resuming;
  /** Store changes that have been quiet ahead of the next publish; undefined: do not. */
  readonly trickle?: TrickleOptions | undefined;
  /** Bring all of the version onto this host in the background; undefined: do not. */
  readonly fill?: FillOptions | undefined;
}

export interface Resuming {
  /** Bring what earlier resumes touched before the guest asks for it. */
  readonly prefetch: boolean;
}

/** A mount that began while the store was away. */
export interface WithoutStore {
  /** When this host saw the VM's log last. ISO 8601. */
  readonly seenAt: string;
  /** What the store said, or what did not answer. */
  readonly reason: string;
  /** Whether the lease was taken since: `lost` if another host was faster, `none` where none is wanted. */
  readonly lease: 'waiting' | 'held' | 'lost' | 'none';
}

export interface DaemonStatus {
  readonly vmName: string;
  readonly repository: string;
  readonly mountPath: string;
  /** Undefined for a branch. */
  readonly version: number | undefined;
  readonly branch: string | undefined;
  readonly ephemeral: boolean;
  readonly startedAt: string;
  readonly daemon: {
    readonly workerPid: number;
    /** The file that it runs. */
    readonly program: string;
    readonly residentBytes: number;
    /** Undefined where nobody would replace a worker that dies: see `unsupervised`. */
    readonly supervisorPid: number | undefined;
    readonly unsupervised: string | undefined;
    /** What this host permits against a shortage of memory. */
    readonly protection: Protection;
    /** Workers of this mount that died and were replaced, and what became of the last one. */
    readonly restarts: number;
    readonly lastRestart: { readonly at: string; readonly reason: string } | undefined;
  };
  readonly engine: { readonly name: EngineName } & EngineStatus;
  readonly lease: LeaseState | { readonly state: 'unknown'; readonly reason: string };
  /** Chunks of the base version that are not zero; undefined when the store did not tell in time. */
  readonly chunks: { readonly total: number; readonly local: number } | undefined;
  /** Bytes in the overlay that no version has, whole pages. */
  readonly dirtyBytes: number;
  readonly changedFiles: number;
  /** Undefined where the store answered when it was mounted. */
  readonly withoutStore: WithoutStore | undefined;
  readonly fetch: FetchStatus;
  /** Undefined unless a resume here had a trace to replay. */
  readonly replay: ReplayStatus | undefined;
  /** Undefined unless changes are stored ahead of the next publish. */
  readonly trickle: TrickleStatus | undefined;
  /** Undefined unless all of the version is brought onto this host in the background. */
  readonly fill: FillStatus | undefined;
}

export interface PublishResult {
  readonly outcome: 'published' | 'unchanged' | 'branched';
  readonly version: number | undefined;
  readonly branch: string | undefined;
  readonly dirtyBytes: number;
  readonly storedBytes: number;
  readonly seconds: number;
}

export interface UnmountResult {
  /** Unpublished changes that stay on this host. */
  readonly dirtyBytes: number;
  readonly changedFiles: number;
}

/** Talks to the daemon of one mounted VM over its control socket. */
export interface DaemonClient {
  readonly mountPath: string;
  /** Its changes are thrown away at unmount. */
  readonly ephemeral: boolean;
  status(): Promise<DaemonStatus>;
  /** What programs waited for since a guest was resumed last, or else since the mount. */
  explain(): Promise<Explanation>;
  /** Makes everything acknowledged flushed. */
  flush(): Promise<void>;
  /** Publishes the overlay as the next version. `releaseLease`: give the lease back in the same commit. */
  publish(options: {
    readonly releaseLease: boolean;
    readonly signal?: AbortSignal;
    readonly onProgress?: ProgressListener;
  }): Promise<PublishResult>;
  warm(
    request: WarmRequest,
    options: { readonly signal?: AbortSignal; readonly onProgress?: ProgressListener },
  ): Promise<WarmResult>;
  /** What `warm` would do, and what a resume would take. */
  planWarming(scope: WarmScope, options: { readonly signal?: AbortSignal }): Promise<WarmPlan>;
  /**
   * A guest is about to be resumed: what it touches is recorded from now on, for the next time. Returns at once.
   */
  resuming(options: Resuming): Promise<void>;
  /**
   * All of the version is brought onto this host in the background from now on, also by workers that follow; where that was asked
   * for before, it begins anew. Returns at once.
   */
  fill(options: FillOptions): Promise<void>;
  /**
   * Has the program that this process belongs to serve the mount from now on, which programs that use it do not
   * notice. `NotSupervised`, `UpgradeFailed`.
   */
  upgrade(): Promise<void>;
  /** Flushes, unmounts, ends the daemon. `MountBusy` while somebody uses the mount. */
  unmount(): Promise<UnmountResult>;
}
