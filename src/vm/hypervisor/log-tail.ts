import { open } from 'node:fs/promises';
import { limits } from '../../base/index.js';

/** The last lines of a log, for an error; empty when there is none. Reads a bounded piece from its end. */
export async function logTail(path: string): Promise<readonly string[]> {
  try {
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      const length = Math.min(size, limits.hypervisorLogTailBytes);
      const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, size - length);
      const lines = buffer.toString('utf8', 0, bytesRead).split('\n');
      return lines.filter((line) => line.trim() !== '').slice(-limits.hypervisorLogTailLines);
    } finally {
      await file.close();
    }
  } catch {
    // The log only explains an error that is being reported already.
    return [];
  }
}
