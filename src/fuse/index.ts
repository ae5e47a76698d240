/** Engines that carry kernel requests to a file system, and knowledge of the host's mount table. */
export type { Engine, EngineName, EngineOptions, EngineStatus, MountEngine } from './types.js';
