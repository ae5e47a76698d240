import { join } from 'node:path';

/** Files of a running QEMU in its run directory. */
export interface RunPaths {
  readonly monitorSocket: string;
  readonly stateSocket: string;
  readonly pidFile: string;
  readonly log: string;
}

export function runPaths(runDirectory: string): RunPaths {
  return {
    monitorSocket: join(runDirectory, 'qmp.sock'),
    stateSocket: join(runDirectory, 'state.sock'),
    pidFile: join(runDirectory, 'qemu.pid'),
    log: join(runDirectory, 'qemu.log'),
  };
}
