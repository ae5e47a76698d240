import { IsrError } from '../base/index.js';

/** The VM's directory does not say how it runs. */
export class NoVmConfig extends IsrError {
  override readonly code = 'NO_VM_CONFIG';
  constructor(vmName: string, path: string) {
    super(`${vmName} has no isr.toml, so isr does not know how to run it.`, {
      facts: { vm: vmName, path },
      remedy: `Write ${path} (see docs/hypervisors.md), or run the hypervisor yourself on the mounted directory.`,
    });
  }
}

/** The guest runs, so this command would change it under its feet. */
export class GuestRunning extends IsrError {
  override readonly code = 'GUEST_RUNNING';
  constructor(vmName: string) {
    super(`${vmName} is running on this host.`, {
      facts: { vm: vmName },
      remedy: `Suspend it with: isr suspend ${vmName}`,
    });
  }
}

/**
 * The hypervisor ended without saving the guest: memory on this host no longer belongs to the saved device state.
 * Neither resuming nor publishing it would give a machine that works.
 */
export class GuestCrashed extends IsrError {
  override readonly code = 'GUEST_CRASHED';
  constructor(vmName: string) {
    super(
      `The hypervisor of ${vmName} ended without saving the guest, so its memory on this host cannot be resumed.`,
      {
        facts: { vm: vmName },
        remedy:
          `Boot it from its disks as they are now with: isr start ${vmName}; ` +
          `or go back to the last published version with: isr discard ${vmName}`,
      },
    );
  }
}

/** There is no guest to suspend. */
export class GuestNotRunning extends IsrError {
  override readonly code = 'GUEST_NOT_RUNNING';
  constructor(vmName: string) {
    super(`${vmName} is not running on this host, so there is nothing to suspend.`, {
      facts: { vm: vmName },
      remedy: `Unmount it with: isr umount ${vmName}; or run it with: isr resume ${vmName}`,
    });
  }
}

/** An earlier resume loaded the guest, or began to, and did not let it run. */
export class ResumeUnfinished extends IsrError {
  override readonly code = 'RESUME_UNFINISHED';
  constructor(vmName: string) {
    super(`${vmName} was being resumed when that was interrupted; it has not run yet.`, {
      facts: { vm: vmName },
      remedy: `Go on with: isr resume ${vmName}`,
    });
  }
}

/** An earlier suspend saved the guest but did not come to its end. */
export class SuspendUnfinished extends IsrError {
  override readonly code = 'SUSPEND_UNFINISHED';
  constructor(vmName: string) {
    super(`${vmName} is being suspended: its state is saved on this host but not published yet.`, {
      facts: { vm: vmName },
      remedy: `Finish that with: isr suspend ${vmName}`,
    });
  }
}

/** The guest's state is safe on this host, but could not be published. */
export class SuspendNotPublished extends IsrError {
  override readonly code = 'SUSPEND_NOT_PUBLISHED';
  constructor(vmName: string, cause: unknown) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const hindrance = cause instanceof IsrError ? cause.remedy : undefined;
    super(`${vmName} is suspended and safe on this host, but it was not published: ${reason}`, {
      facts: { vm: vmName },
      remedy: `${hindrance === undefined ? '' : `${hindrance} `}Publish it later with: isr suspend ${vmName}`,
      cause,
    });
  }
}
