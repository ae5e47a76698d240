/** This host: its identity, configuration, keys, and where its state files are. */
export { HomeDamaged, HomeUnusable, InvalidConfiguration, KeyConflict, KeyMissing } from './errors.js';
export { replaceFile } from './atomic-file.js';
export { openHostHome } from './home.js';
export { readSeen, writeSeen } from './seen-record.js';
export type { Configuration, HostHome, VmPaths } from './types.js';
