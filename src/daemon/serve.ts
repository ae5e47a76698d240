import createDebug from 'debug';
import { MountedVm, type ServeRequest } from './mounted-vm.js';
import { stopSignals } from './stop-signals.js';

const debug = createDebug('isr:daemon');

/**
 * Mounts a VM and serves it in this process until it is unmounted. SIGTERM, SIGINT and SIGHUP unmount: in order if
 * nobody uses the mount, else lazily, so that no stale mount stays behind. The same when a supervisor is gone. `onReady` is called once it is usable.
 */
export async function serveMount(
  request: ServeRequest,
  onReady: (mounted: MountedVm) => void,
): Promise<void> {
  const mounted = await MountedVm.mount(request);
  const stop = (reason: string): void => {
    debug('%s: unmounting', reason);
    mounted
      .unmount()
      .catch(() => mounted.unmount({ lazy: true }))
      .catch((error: unknown) => debug('unmounting failed: %o', error));
  };
  for (const signal of stopSignals) process.on(signal, stop);
  mounted.beSupervised(stop);
  try {
    onReady(mounted);
    await mounted.ended;
  } finally {
    for (const signal of stopSignals) process.off(signal, stop);
  }
}
