import { IsrError, type ErrorFacts } from '../../base/index.js';

interface Details {
  readonly facts?: ErrorFacts;
  readonly remedy?: string;
  readonly cause?: unknown;
}

/** The hypervisor's program, or one of a `command` adapter, is not installed or cannot be run. */
export class HypervisorMissing extends IsrError {
  override readonly code = 'HYPERVISOR_MISSING';
}

/** A cold boot would throw away a suspended session. */
export class SavedStatePresent extends IsrError {
  override readonly code = 'SAVED_STATE_PRESENT';
}

/** There is no saved device state to resume from. */
export class SavedStateMissing extends IsrError {
  override readonly code = 'SAVED_STATE_MISSING';
}

/** The hypervisor ended or refused while booting; no guest runs. */
export class StartFailed extends IsrError {
  override readonly code = 'START_FAILED';
}

/** The hypervisor could not continue the saved session; no guest runs and the saved session is untouched. */
export class ResumeFailed extends IsrError {
  override readonly code = 'RESUME_FAILED';
}

/** What became of the guest when its state could not be saved. */
export type GuestAfterFailure = 'running' | 'paused' | 'lost';

/** The state was not saved; `guest` says what became of the guest. An older saved state is untouched. */
export class SaveFailed extends IsrError {
  override readonly code = 'SAVE_FAILED';
  readonly guest: GuestAfterFailure;
  constructor(message: string, guest: GuestAfterFailure, details: Details) {
    super(message, { ...details, facts: { ...details.facts, guest } });
    this.guest = guest;
  }
}

/** The hypervisor did not end, even when killed. */
export class HypervisorStuck extends IsrError {
  override readonly code = 'HYPERVISOR_STUCK';
}

/** A step took longer than `[timeout_seconds]` in isr.toml allows. */
export class StepTimedOut extends IsrError {
  override readonly code = 'STEP_TIMED_OUT';
}

/** QEMU answered a QMP command with an error. */
export class MonitorRefused extends IsrError {
  override readonly code = 'MONITOR_REFUSED';
}

/** The QMP connection ended, or is about to, or what came over it is not QMP. */
export class MonitorClosed extends IsrError {
  override readonly code = 'MONITOR_CLOSED';
}

/** QEMU runs but does not answer: its monitor serves one program at a time, or it waits for the kernel. */
export class MonitorBusy extends IsrError {
  override readonly code = 'MONITOR_BUSY';
}

/** A configured command of the `command` adapter failed. */
export class HypervisorCommandFailed extends IsrError {
  override readonly code = 'HYPERVISOR_COMMAND_FAILED';
}
