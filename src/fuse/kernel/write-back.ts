import createDebug from 'debug';
import { writeFile } from 'node:fs/promises';
import { systemErrorCode } from '../../base/index.js';

const debug = createDebug('isr:fuse');

/**
 * Dirty pages of a FUSE mount may take up 1 % of memory before those who make more are slowed down, since a file system
 * that is a program may be broken. Ours holds a guest's RAM: 1 GiB was dirtied in 5.3 s with that limit, 0.65 s without.
 */
const settings = { strict_limit: '0', max_ratio: '100' } as const;

/**
 * Lifts the limit for the mount with a device number, as in `MountEntry.device`. Only root may, and the mount works
 * without. Answers whether it is lifted.
 */
export async function liftDirtyLimit(device: string): Promise<boolean> {
  try {
    for (const [name, value] of Object.entries(settings)) {
      await writeFile(`/sys/class/bdi/${device}/${name}`, value);
    }
    return true;
  } catch (error) {
    debug('the limit of dirty pages stays: %s', systemErrorCode(error) ?? error);
    return false;
  }
}
