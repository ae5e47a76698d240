import { join } from 'node:path';
import type { VmPaths } from '../host/index.js';
import { lockFile, type FileLock } from '../system/index.js';
import { VmBusy } from './errors.js';

/**
 * Makes this process the only one that works on the VM's local state, until the returned function is called or the
 * process ends. The daemon holds it while the VM is mounted. `VmBusy` while another has it.
 */
export function lockVm(paths: VmPaths, vmName: string): () => void {
  return takeVmLock(paths, vmName).release;
}

/** As `lockVm`; undefined while another has it. */
export function tryLockVm(paths: VmPaths): (() => void) | undefined {
  return lockFile(lockPath(paths))?.release;
}

/** As `lockVm`, with a descriptor that other processes can inherit. */
export function takeVmLock(paths: VmPaths, vmName: string): FileLock {
  const lock = lockFile(lockPath(paths));
  if (lock === undefined) throw new VmBusy(vmName);
  return lock;
}

function lockPath(paths: VmPaths): string {
  return join(paths.directory, 'lock');
}
