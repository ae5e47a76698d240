/** Suspend and resume as sequences of steps, over a daemon's mount and a hypervisor's adapter. */
export {
  GuestCrashed,
  GuestNotRunning,
  GuestRunning,
  NoVmConfig,
  ResumeUnfinished,
  SuspendNotPublished,
  SuspendUnfinished,
} from './errors.js';
export { openHypervisor, type Hypervisor, type HypervisorContext } from './hypervisor/index.js';
export type { GuestRecord } from './guest-record.js';
export { discardVm, publishVm, readLocalChanges, type LocalChanges } from './local-changes.js';
export {
  resumeVm,
  startVm,
  suspendVm,
  type RunOptions,
  type RunResult,
  type SequenceOptions,
  type SuspendResult,
} from './sequences.js';
export { inspectVm, type LocalVm, type Situation, type SituationCode } from './situation.js';
export type { VmTarget } from './target.js';
export { parseVmConfig, type VmConfig } from './vm-config.js';
export { whenOnline } from './when-online.js';
