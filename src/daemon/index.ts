/** The process behind a mount: start, control socket, status, shutdown. */
export type {
  DaemonClient,
  DaemonStatus,
  MountRequest,
  PublishResult,
  UnmountResult,
  WarmRequest,
  WarmResult,
} from './types.js';
