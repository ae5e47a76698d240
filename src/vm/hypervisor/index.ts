/** Hypervisors behind one interface. `openHypervisor` picks the adapter that a VM's configuration asks for. */
export {
  HypervisorCommandFailed,
  HypervisorMissing,
  HypervisorStuck,
  MonitorBusy,
  MonitorClosed,
  MonitorRefused,
  ResumeFailed,
  SavedStateMissing,
  SavedStatePresent,
  SaveFailed,
  StartFailed,
  StepTimedOut,
  type GuestAfterFailure,
} from './errors.js';
export { openHypervisor } from './open-hypervisor.js';
export { probeQemu } from './probe-qemu.js';
export type { GuestState, Hypervisor, HypervisorContext } from './types.js';
