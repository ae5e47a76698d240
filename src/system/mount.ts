import { SystemCallError } from './libc.js';
import { linux } from './linux.js';

/** `MS_NOSUID` and `MS_NODEV` of mount(2). */
const withoutSetuidAndDevices = 2 | 4;

/**
 * mount(2), for root: programs on the mount get no other user's rights, and device files there are dead.
 * @throws SystemCallError
 */
export function mountFileSystem(source: string, mountPath: string, type: string, options: string): void {
  const { mount, errno } = linux();
  if (mount(source, mountPath, type, withoutSetuidAndDevices, options) < 0) {
    throw new SystemCallError('mount', errno());
  }
}
