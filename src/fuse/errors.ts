import { IsrError } from '../base/index.js';

/** The path cannot be mounted on: relative, missing, not a directory, not empty, overlapping our own files. */
export class InvalidMountPoint extends IsrError {
  override readonly code = 'INVALID_MOUNT_POINT';

  constructor(mountPath: string, problem: string, remedy?: string) {
    super(`Cannot mount at ${JSON.stringify(mountPath)}: ${problem}.`, {
      facts: { mountPath },
      ...(remedy === undefined ? {} : { remedy }),
    });
  }
}

/** Somebody uses the path: it is a mount already, or an unmount found open files. */
export class MountBusy extends IsrError {
  override readonly code = 'MOUNT_BUSY';

  constructor(mountPath: string, usedBy: string, remedy: string) {
    super(`${mountPath} is in use: ${usedBy}.`, { facts: { mountPath, usedBy }, remedy });
  }
}

/** The engine's library or the fusermount program is not installed on this host. */
export class EngineUnavailable extends IsrError {
  override readonly code = 'ENGINE_UNAVAILABLE';
}

/** The kernel or fusermount refused to mount. */
export class MountFailed extends IsrError {
  override readonly code = 'MOUNT_FAILED';
}

/** Unmounting failed for another reason than being busy. */
export class UnmountFailed extends IsrError {
  override readonly code = 'UNMOUNT_FAILED';
}
