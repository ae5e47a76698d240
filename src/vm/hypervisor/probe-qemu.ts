import { runPaths } from './paths.js';
import { queryStatus } from './qemu-monitor.js';
import { QemuProcess } from './qemu-process.js';
import { QmpClient } from './qmp.js';

/** How long a QEMU may take to say how it is: `isr status` must not wait for one that waits itself. */
const answerMs = 1000;

/**
 * What the QEMU of a run directory does, found without its configuration and without touching the VM's directory;
 * `unknown` where it does not answer in time.
 */
export async function probeQemu(runDirectory: string): Promise<'absent' | 'running' | 'paused' | 'unknown'> {
  const qemu = await QemuProcess.find(runDirectory);
  if (qemu === undefined) return 'absent';
  const signal = AbortSignal.timeout(answerMs);
  try {
    const client = await QmpClient.connect(runPaths(runDirectory).monitorSocket, { signal });
    try {
      return (await queryStatus(client, signal)).running ? 'running' : 'paused';
    } finally {
      await client[Symbol.asyncDispose]();
    }
  } catch {
    return qemu.hasEnded() ? 'absent' : 'unknown';
  }
}
