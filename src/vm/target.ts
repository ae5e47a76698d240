import type { HostHome, VmPaths } from '../host/index.js';

/** Which VM, on which host, from which repository. */
export interface VmTarget {
  readonly home: HostHome;
  readonly repositoryId: string;
  readonly repositoryUrl: string;
  readonly vmName: string;
}

export function pathsOf(target: VmTarget): VmPaths {
  return target.home.vmPaths(target.repositoryId, target.vmName);
}
