/**
 * Runs a VM whose state files lie in a mounted directory. One adapter a hypervisor; `isr.toml` in the VM's directory
 * picks and configures it, so that any host can resume the VM with nothing else.
 *
 * Every method is one step of a sequence in `vm/`; when it throws, its error says what state the guest is in.
 */
export interface Hypervisor {
  readonly kind: string;
  /** Cold boot. Returns when the guest runs. */
  start(context: HypervisorContext): Promise<void>;
  /** Resumes from the saved state. Returns when the guest runs. */
  resume(context: HypervisorContext): Promise<void>;
  /**
   * Pauses the guest, saves its device state into the directory, calls `guestIsSaved`, ends the hypervisor. If saving
   * fails, or what is called, the guest runs on as before and the error says so.
   */
  suspend(context: HypervisorContext): Promise<void>;
  /** Lets a guest run that is paused in its hypervisor. Absent where the hypervisor cannot be asked that. */
  unpause?(context: HypervisorContext): Promise<void>;
  /** Removes a saved state that memory and disks have moved on from, so that a boot does not take it for a session. */
  forgetSavedState(context: HypervisorContext): Promise<void>;
  /** Ends the hypervisor without saving. */
  kill(context: HypervisorContext): Promise<void>;
  inspect(context: HypervisorContext): Promise<GuestState>;
}

export type GuestState =
  | { readonly state: 'absent' }
  | { readonly state: 'running' | 'paused' | 'resuming'; readonly pid: number | undefined };

export interface HypervisorContext {
  readonly vmName: string;
  /** The mounted VM directory: working directory of the hypervisor. */
  readonly directory: string;
  /** Host-local directory for sockets and console logs; survives the command, not published. */
  readonly runDirectory: string;
  readonly signal?: AbortSignal;
  /**
   * Called before the guest can run, each time it was certain not to: from then on memory and disks move on from any
   * saved state. Waited for; if it rejects, the guest does not run.
   */
  readonly guestMayRun?: () => Promise<void>;
  /** Called by `suspend` when the saved state is complete, before the hypervisor is ended. Waited for. */
  readonly guestIsSaved?: () => Promise<void>;
}
