import type { VmPaths } from '../host/index.js';
import { dropOverlay } from './inode-numbers.js';
import { PackRecord } from './pack-record.js';

/** Removes a VM's overlay and what speaks of it. The caller holds the VM's lock. */
export async function dropLocalChanges(paths: VmPaths): Promise<void> {
  await dropOverlay(paths, paths.overlay);
  await new PackRecord(paths).remove();
}
