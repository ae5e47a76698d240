import createDebug from 'debug';
import { MountedVm, type ServeRequest } from './mounted-vm.js';

const debug = createDebug('isr:daemon');

/**
 * Mounts a VM and serves it in this process until it is unmounted. SIGTERM and SIGINT unmount: in order if nobody
 * uses the mount, else lazily, so that no stale mount stays behind. `onReady` is called once it is usable.
 */
export async function serveMount(
  request: ServeRequest,
  onReady: (mounted: MountedVm) => void,
): Promise<void> {
  const mounted = await MountedVm.mount(request);
  const stop = (signal: NodeJS.Signals): void => {
    debug('%s: unmounting', signal);
    mounted
      .unmount()
      .catch(() => mounted.unmount({ lazy: true }))
      .catch((error: unknown) => debug('unmounting failed: %o', error));
  };
  process.on('SIGTERM', stop).on('SIGINT', stop);
  try {
    onReady(mounted);
    await mounted.ended;
  } finally {
    process.off('SIGTERM', stop).off('SIGINT', stop);
  }
}
