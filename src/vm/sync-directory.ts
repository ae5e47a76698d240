import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * Has the kernel write back what it holds of every regular file below a mounted directory (pages that the hypervisor
 * dirtied through mappings), and flushes it. Runs in the command, never in the daemon: a daemon that touched its own
 * mount would wait for itself.
 */
export async function syncDirectory(path: string): Promise<void> {
  for (const entry of await readdir(path, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile()) continue;
    const file = await open(join(entry.parentPath, entry.name), 'r');
    try {
      await file.sync();
    } finally {
      await file.close();
    }
  }
}
