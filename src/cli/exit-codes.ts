import { Cancelled, IsrError, systemErrorCode, type ErrorFacts } from '../base/index.js';

/** What the exit code of a command means; documented in docs/operations.md and never renumbered. */
export const exitCodes = {
  ok: 0,
  /** A bug, or something this table does not know. */
  unexpected: 1,
  /** The command line, a name, a path or a configuration cannot be used. */
  invalidInput: 2,
  /** There is no such repository, VM, version, file or local state. */
  notFound: 3,
  /** Somebody or something is in the way: a lease, a mount, unpublished changes, an existing repository. */
  conflict: 4,
  /** An object is damaged, missing or not what it should be. */
  damaged: 5,
  /** The store does not answer or refuses. */
  store: 6,
  /** The local disk is full, or pins have their share of the cache. */
  noSpace: 7,
  /** The key or the passphrase is missing, wrong or may not do this. */
  key: 8,
  /** The hypervisor did not do what was asked, or the guest died; the message says what state it is in. */
  hypervisor: 9,
  /** Cancelled by Ctrl-C, SIGTERM or SIGHUP. */
  cancelled: 130,
} as const;

export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

const exitCodeOfError: Readonly<Record<string, ExitCode>> = {
  INVALID_INPUT: exitCodes.invalidInput,
  USAGE: exitCodes.invalidInput,
  LIMIT_EXCEEDED: exitCodes.invalidInput,
  INVALID_CONFIGURATION: exitCodes.invalidInput,
  INVALID_VM_NAME: exitCodes.invalidInput,
  HOME_UNUSABLE: exitCodes.invalidInput,
  OLD_VERSION_NEEDS_EPHEMERAL: exitCodes.invalidInput,
  INVALID_MOUNT_POINT: exitCodes.invalidInput,
  UNSUPPORTED_FILE: exitCodes.invalidInput,
  EPHEMERAL_MOUNT: exitCodes.invalidInput,

  REPOSITORY_MISSING: exitCodes.notFound,
  VM_MISSING: exitCodes.notFound,
  VERSION_MISSING: exitCodes.notFound,
  TRACE_MISSING: exitCodes.notFound,
  NOTHING_TO_EXPLAIN: exitCodes.notFound,
  NOT_MOUNTED: exitCodes.notFound,
  SOURCE_UNREADABLE: exitCodes.notFound,
  NO_LOCAL_CHANGES: exitCodes.notFound,
  NO_VM_CONFIG: exitCodes.notFound,
  SAVED_STATE_MISSING: exitCodes.notFound,
  GUEST_NOT_RUNNING: exitCodes.notFound,

  REPOSITORY_EXISTS: exitCodes.conflict,
  LEASE_HELD: exitCodes.conflict,
  LEASE_LOST: exitCodes.conflict,
  ALREADY_MOUNTED: exitCodes.conflict,
  MOUNT_BUSY: exitCodes.conflict,
  VM_BUSY: exitCodes.conflict,
  NOT_SUPERVISED: exitCodes.conflict,
  OVERLAY_BEHIND: exitCodes.conflict,
  SOURCE_CHANGED: exitCodes.conflict,
  FILE_SYSTEM_BUSY: exitCodes.conflict,
  SAVED_STATE_PRESENT: exitCodes.conflict,
  GUEST_RUNNING: exitCodes.conflict,
  GUEST_ALREADY_RUNNING: exitCodes.conflict,
  SUSPEND_UNFINISHED: exitCodes.conflict,
  RESUME_UNFINISHED: exitCodes.conflict,
  UNPUBLISHED_CHANGES: exitCodes.conflict,
  FILE_EXISTS: exitCodes.conflict,
  TARGET_NOT_EMPTY: exitCodes.conflict,
  KEY_CONFLICT: exitCodes.conflict,

  DAMAGED_OBJECT: exitCodes.damaged,
  OBJECT_MISSING: exitCodes.damaged,
  OBJECT_TRUNCATED: exitCodes.damaged,
  OBJECT_CHANGED: exitCodes.damaged,
  UNKNOWN_FORMAT: exitCodes.damaged,
  ROLLED_BACK: exitCodes.damaged,
  HOME_DAMAGED: exitCodes.damaged,
  LOCAL_CACHE_UNUSABLE: exitCodes.damaged,
  OVERLAY_DAMAGED: exitCodes.damaged,
  OVERLAY_FORMAT_UNKNOWN: exitCodes.damaged,
  OVERLAY_MISMATCH: exitCodes.damaged,

  STORE_UNREACHABLE: exitCodes.store,
  STORE_REFUSED: exitCodes.store,
  PUT_IF_ABSENT_MISSING: exitCodes.store,
  SUSPEND_NOT_PUBLISHED: exitCodes.store,

  LOCAL_DISK_FULL: exitCodes.noSpace,
  CACHE_PINS_FULL: exitCodes.noSpace,
  CACHE_CONTENDED: exitCodes.noSpace,
  CACHE_TOO_SMALL: exitCodes.noSpace,
  PACK_NOT_RECORDED: exitCodes.noSpace,

  KEY_MISSING: exitCodes.key,
  WRONG_KEY: exitCodes.key,
  WRONG_PASSPHRASE: exitCodes.key,
  INVALID_KEY_FILE: exitCodes.key,
  READ_ONLY_KEY: exitCodes.key,

  GUEST_CRASHED: exitCodes.hypervisor,
  HYPERVISOR_COMMAND_FAILED: exitCodes.hypervisor,
  HYPERVISOR_MISSING: exitCodes.hypervisor,
  HYPERVISOR_STUCK: exitCodes.hypervisor,
  MONITOR_BUSY: exitCodes.hypervisor,
  MONITOR_CLOSED: exitCodes.hypervisor,
  MONITOR_REFUSED: exitCodes.hypervisor,
  RESUME_FAILED: exitCodes.hypervisor,
  SAVE_FAILED: exitCodes.hypervisor,
  START_FAILED: exitCodes.hypervisor,
  STEP_TIMED_OUT: exitCodes.hypervisor,

  // These mean that the host lacks something or that a process of ours died: nothing of the groups above.
  DAEMON_DIED: exitCodes.unexpected,
  DAEMON_RESTARTED: exitCodes.unexpected,
  DAEMON_SILENT: exitCodes.unexpected,
  UPGRADE_FAILED: exitCodes.unexpected,
  ENGINE_UNAVAILABLE: exitCodes.unexpected,
  FILE_SYSTEM: exitCodes.unexpected,
  EXPORT_FAILED: exitCodes.unexpected,
  MOUNT_FAILED: exitCodes.unexpected,
  UNMOUNT_FAILED: exitCodes.unexpected,

  CANCELLED: exitCodes.cancelled,
};

/** Whether the table knows the code of an error. */
export function hasExitCode(code: string): boolean {
  return Object.hasOwn(exitCodeOfError, code);
}

/** An error as a user sees it: a sentence, what to do, facts, and the exit code. */
export interface ErrorReport {
  readonly code: string;
  readonly message: string;
  readonly remedy: string | undefined;
  readonly facts: ErrorFacts;
  readonly exitCode: ExitCode;
}

/** Translates any error, once, at the edge. */
export function reportError(error: unknown): ErrorReport {
  if (error instanceof IsrError) {
    const { code, message, remedy, facts } = error;
    return { code, message, remedy, facts, exitCode: exitCodeOfError[code] ?? exitCodes.unexpected };
  }
  if (error instanceof Error && error.name === 'AbortError') return reportError(new Cancelled('The command'));
  const systemCode = systemErrorCode(error);
  if (systemCode !== undefined) return reportSystemError(systemCode, error as NodeJS.ErrnoException);
  return {
    code: 'UNEXPECTED',
    message: `Something unexpected happened: ${error instanceof Error ? error.message : String(error)}`,
    remedy: 'This is a bug in isr. Run the command again with DEBUG=isr* in the environment to see where.',
    facts: {},
    exitCode: exitCodes.unexpected,
  };
}

function reportSystemError(systemCode: string, error: NodeJS.ErrnoException): ErrorReport {
  const facts = { errno: systemCode, ...(error.path === undefined ? {} : { path: error.path }) };
  const where = error.path ?? 'a file';
  switch (systemCode) {
    case 'ENOSPC':
    case 'EDQUOT':
      return {
        code: 'LOCAL_DISK_FULL',
        message: `The local disk is full: ${where} could not be written.`,
        remedy: 'Make room, and run the command again.',
        facts,
        exitCode: exitCodes.noSpace,
      };
    case 'ENOENT':
      return {
        code: 'NO_SUCH_FILE',
        message: `There is no ${where}.`,
        remedy: undefined,
        facts,
        exitCode: exitCodes.notFound,
      };
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return {
        code: 'NOT_PERMITTED',
        message: `This user may not use ${where} (${systemCode}).`,
        remedy: 'Check the owner and the permissions.',
        facts,
        exitCode: exitCodes.invalidInput,
      };
    default:
      return {
        code: 'SYSTEM',
        message: `The operating system refused: ${error.message}.`,
        remedy: undefined,
        facts,
        exitCode: exitCodes.unexpected,
      };
  }
}
