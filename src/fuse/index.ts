/** Engines that carry kernel requests to a file system, and knowledge of the host's mount table. */
export { EngineUnavailable, InvalidMountPoint, MountBusy, MountFailed, UnmountFailed } from './errors.js';
export { fuseNativeCapabilities, mountFuseNative } from './fuse-native/index.js';
export { kernelCapabilities, mountKernel } from './kernel/index.js';
export { checkMountPoint } from './mount-point.js';
export {
  clearStaleMount,
  endSilentMount,
  findMount,
  isStaleMount,
  mountType,
  parseMountTable,
  readMountTable,
  type MountEntry,
} from './mount-table.js';
export { findMountUsers, type MountUser } from './mount-users.js';
export { defaultEngine } from './types.js';
export type {
  Engine,
  EngineCapabilities,
  EngineName,
  EngineOptions,
  EngineStatus,
  MountConnection,
  MountEngine,
  TakenOverMount,
} from './types.js';
