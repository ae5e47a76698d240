/** The process behind a mount: start, control socket, status, shutdown. */
export {
  AlreadyMounted,
  DaemonDied,
  DaemonRestarted,
  DaemonSilent,
  EphemeralMount,
  NoLocalChanges,
  NotMounted,
  NotSupervised,
  OldVersionNeedsEphemeral,
  OverlayBehind,
  RemoteError,
  UpgradeFailed,
  VmBusy,
} from './errors.js';
export { readStallReport, type Explanation, type StallCause } from './explain/index.js';
export { connectDaemon, mountVm } from './launch.js';
export { findDaemon, settleDaemon, type DaemonRecord } from './record.js';
export { serveMount } from './serve.js';
export { rememberHead } from './known-head.js';
export { openRepository, VmSession, type SessionRequest } from './session.js';
export { openVersion, type OpenVersion } from './open-version.js';
export { dropLocalChanges } from './local-state.js';
export { hasPublishBegun, packRecordPath } from './pack-record.js';
export { lockVm } from './vm-lock.js';
export type {
  DaemonClient,
  DaemonStatus,
  MountRequest,
  PublishResult,
  Resuming,
  UnmountResult,
  WithoutStore,
} from './types.js';
