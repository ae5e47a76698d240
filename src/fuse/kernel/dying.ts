import { readFileSync } from 'node:fs';

/** SIGKILL is signal 9; the masks of /proc count from 1. */
const killBit = 1n << 8n;

/**
 * Whether a thread (numbered as in `fuse_in_header.pid`) is being killed. Signals that a program handles are no reason
 * to fail its read: on a local disk they wait, and a page fault that fails kills a guest. Threads of another process
 * name space (0) cannot be told, and count as alive.
 */
export function isDying(thread: number): boolean {
  if (thread === 0) return false;
  let status: string;
  try {
    status = readFileSync(`/proc/${thread}/status`, 'latin1');
  } catch {
    return true;
  }
  const pending = [...status.matchAll(/^(?:SigPnd|ShdPnd):\s*([0-9a-f]+)$/gm)];
  return pending.some(([, mask]) => (BigInt(`0x${mask ?? '0'}`) & killBit) !== 0n);
}
