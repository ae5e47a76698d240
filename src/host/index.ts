/** This host: its identity, configuration, keys, and where its state files are. */
export type { Configuration, HostHome, VmPaths } from './types.js';
