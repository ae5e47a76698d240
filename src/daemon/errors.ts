import { IsrError, type ErrorFacts } from '../base/index.js';

/** No daemon answers for this VM. */
export class NotMounted extends IsrError {
  override readonly code = 'NOT_MOUNTED';
  constructor(vmName: string) {
    super(`${vmName} is not mounted on this host.`, {
      facts: { vm: vmName },
      remedy: `Mount it with: isr mount ${vmName}`,
    });
  }
}

/** The VM has a live daemon already. */
export class AlreadyMounted extends IsrError {
  override readonly code = 'ALREADY_MOUNTED';
  constructor(vmName: string, mountPath: string) {
    super(`${vmName} is already mounted on this host at ${mountPath}.`, {
      facts: { vm: vmName, mountPath },
      remedy: `Use it there, or unmount it first with: isr umount ${vmName}`,
    });
  }
}

/** Another isr command works on this VM's local state right now. */
export class VmBusy extends IsrError {
  override readonly code = 'VM_BUSY';
  constructor(vmName: string) {
    super(`Another isr command is working on ${vmName} on this host.`, {
      facts: { vm: vmName },
      remedy: 'Wait until it has finished and try again.',
    });
  }
}

/** Unpublished changes on this host were made from a version that is no longer the newest. */
export class OverlayBehind extends IsrError {
  override readonly code = 'OVERLAY_BEHIND';
  constructor(vmName: string, baseVersion: number, newestVersion: number) {
    super(
      `${vmName} has unpublished changes on this host that were made from version ${baseVersion}, but version ${newestVersion} exists.`,
      {
        facts: { vm: vmName, baseVersion, newestVersion },
        remedy: `Keep them as a branch with: isr publish ${vmName}; or drop them with: isr discard ${vmName}`,
      },
    );
  }
}

/** A version that is not the newest can only be mounted without a lease. */
export class OldVersionNeedsEphemeral extends IsrError {
  override readonly code = 'OLD_VERSION_NEEDS_EPHEMERAL';
  constructor(vmName: string, wanted: string) {
    super(`${wanted} is not the newest version of ${vmName}, so nothing can be published from it.`, {
      facts: { vm: vmName, version: wanted },
      remedy: `Mount it with --ephemeral to look at it, or take its files out with: isr export ${vmName} DIR --version ${wanted}`,
    });
  }
}

/** An ephemeral mount has no lease and never publishes. */
export class EphemeralMount extends IsrError {
  override readonly code = 'EPHEMERAL_MOUNT';
  constructor(vmName: string) {
    super(`${vmName} is mounted with --ephemeral: its changes are thrown away and cannot be published.`, {
      facts: { vm: vmName },
      remedy: `Copy what you need out of the mount before: isr umount ${vmName}`,
    });
  }
}

/** There is nothing on this host to publish or discard. */
export class NoLocalChanges extends IsrError {
  override readonly code = 'NO_LOCAL_CHANGES';
  constructor(vmName: string) {
    super(`${vmName} has no unpublished changes on this host.`, { facts: { vm: vmName } });
  }
}

/** The daemon ended before it was ready; its own error could not be had. */
export class DaemonDied extends IsrError {
  override readonly code = 'DAEMON_DIED';
  constructor(vmName: string, logPath: string, logTail: string) {
    super(`The daemon of ${vmName} ended before the mount was ready.`, {
      facts: { vm: vmName, logTail },
      remedy: `Its log is ${logPath}.`,
    });
  }
}

/** The daemon's worker died while it did what was asked of it, and another has taken its place. */
export class DaemonRestarted extends IsrError {
  override readonly code = 'DAEMON_RESTARTED';
  constructor(vmName: string, method: string) {
    super(`The daemon of ${vmName} died during ${method} and was started again; what it was doing is lost.`, {
      facts: { vm: vmName, method },
      remedy: 'The mount goes on, and nothing that was acknowledged is lost. Run the command again.',
    });
  }
}

/** A daemon is there, and does not take requests: it is overloaded, stopped, or has no descriptor for one. */
export class DaemonSilent extends IsrError {
  override readonly code = 'DAEMON_SILENT';
  constructor(vmName: string) {
    super(`The daemon of ${vmName} runs and does not answer.`, {
      facts: { vm: vmName },
      remedy: 'Try again. Its daemon.log may say why.',
    });
  }
}

/** Nobody could start another worker for this mount. */
export class NotSupervised extends IsrError {
  override readonly code = 'NOT_SUPERVISED';
  constructor(vmName: string, reason: string) {
    super(`The daemon of ${vmName} cannot be replaced while it is mounted: ${reason}.`, {
      facts: { vm: vmName, reason },
      remedy: `Unmount it with \`isr umount ${vmName}\`, and mount it again.`,
    });
  }
}

/** The program that was to take over could not; the one before serves again. */
export class UpgradeFailed extends IsrError {
  override readonly code = 'UPGRADE_FAILED';
  constructor(vmName: string, program: string) {
    super(`${program} could not take over ${vmName}; the program before goes on.`, {
      facts: { vm: vmName, program },
      remedy: 'Its daemon.log says why. The mount was not interrupted.',
    });
  }
}

/** An operating error that happened in the daemon, as it was there. */
export class RemoteError extends IsrError {
  override readonly code: string;
  constructor(wire: WireError) {
    super(wire.message, {
      facts: wire.facts,
      ...(wire.remedy === undefined ? {} : { remedy: wire.remedy }),
    });
    this.code = wire.code;
  }
}

/** An error as it crosses the control socket or the start-up channel. */
export interface WireError {
  readonly code: string;
  readonly message: string;
  readonly remedy?: string;
  readonly facts: ErrorFacts;
}

export function toWire(error: unknown): WireError {
  if (error instanceof IsrError) {
    return {
      code: error.code,
      message: error.message,
      facts: error.facts,
      ...(error.remedy === undefined ? {} : { remedy: error.remedy }),
    };
  }
  return { code: 'UNEXPECTED', message: error instanceof Error ? error.message : String(error), facts: {} };
}
