import { setTimeout as sleep } from 'node:timers/promises';
import { FileSystemBusy, type VmFileSystem } from '../fs/index.js';

/** For what was closed already, and for no program that goes on writing. */
const releaseTimeoutMs = 1_000;
const intervalMs = 20;

/**
 * Freezes a file system when no file is open for writing. The kernel tells of a file that was closed later than the program
 * that closed it goes on, so that is waited for a moment.
 *
 * @throws FileSystemBusy
 */
export async function freezeWhenClosed(fileSystem: Pick<VmFileSystem, 'freeze'>): Promise<void> {
  const deadlineMs = performance.now() + releaseTimeoutMs;
  for (;;) {
    try {
      fileSystem.freeze();
      return;
    } catch (error) {
      if (!(error instanceof FileSystemBusy) || performance.now() > deadlineMs) throw error;
    }
    await sleep(intervalMs);
  }
}
