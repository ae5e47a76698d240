/**
 * What the supervisor and the worker of a mount tell each other. The supervisor keeps what must outlive a worker: the
 * connection to the kernel and the VM's lock, as descriptors; what was agreed on with the kernel; how to start another
 * worker. The first worker starts the supervisor, every later one is started by it. If the supervisor dies, the worker that
 * serves starts another one.
 */
import type { MountConnection } from '../fuse/index.js';
import type { RepositoryHeader } from '../repo/index.js';
import type { StartMessage } from './launch.js';
import type { NamedProcess } from './record.js';

/** Numbers of the descriptors in the supervisor and in workers that it starts; 3 is the channel between them. */
export const inheritedFd = { connection: 4, lock: 5 } as const;

/** Who is killed for want of memory: the worker after nearly everybody else, its supervisor, which is small, after it. */
export const oomScoreAdj = { worker: -800, supervisor: -900 } as const;

/** A Node program. */
export interface Program {
  readonly execPath: string;
  /** Node's options, then the file. */
  readonly parameters: readonly string[];
}

/** What a supervisor reads from its standard input. */
export interface SuperviseMessage {
  readonly program: Program;
  readonly start: StartMessage;
  readonly mountPath: string;
  readonly connection: MountConnection;
  readonly repository: RepositoryHeader;
  /** What is announced of the mount; a supervisor that gives up says so there. */
  readonly recordPath: string;
  /** Workers that have served so far, the one that starts this supervisor among them. */
  readonly lives: number;
  readonly restarts: Restarts;
}

/** How workers of a mount ended unexpectedly so far. */
export interface Restarts {
  readonly count: number;
  readonly lastReason: string | undefined;
  readonly lastAt: string | undefined;
}

/** The first message to a worker that goes on with a mount. */
export interface GoOnMessage {
  readonly start: StartMessage;
  readonly goOn: {
    readonly mountPath: string;
    readonly connection: MountConnection;
    /** How many workers served the mount before. */
    readonly life: number;
    readonly restarts: Restarts;
    /** What supervisors of earlier programs do not tell. */
    readonly repository?: RepositoryHeader;
    readonly supervisor?: NamedProcess;
  };
}

/** What a supervisor tells later on: that it hears the worker that started it; that the mount is to end. */
export type SupervisorMessage = { readonly listening: true } | { readonly stop: NodeJS.Signals };

/**
 * What a worker tells: that it does its work, so that its death is no part of a crash loop; why it is about to die,
 * where it knows, and whether that is only because it needs something that will come back (a store, room on the disk);
 * that it ends to make room for another program; that workers which follow start otherwise than was said before; that the
 * mount has ended, and all is well.
 */
export type WorkerMessage =
  | { readonly tell: 'progress' }
  | { readonly tell: 'failing'; readonly reason: string; readonly needsOnlyTime: boolean }
  | { readonly tell: 'upgrade'; readonly program: Program }
  | { readonly tell: 'start'; readonly start: StartMessage }
  | { readonly tell: 'ended' };
