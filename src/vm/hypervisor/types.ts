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
   * Pauses the guest, saves its device state into the directory, ends the hypervisor. If saving fails, the guest
   * runs on as before and the error says so.
   */
  suspend(context: HypervisorContext): Promise<void>;
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
}
