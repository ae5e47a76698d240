import createDebug from 'debug';
import { limits } from '../base/index.js';
import { movePin, versionBlobs, type Fetcher } from '../fetch/index.js';
import type { HostHome } from '../host/index.js';
import type { Commit, Manifest } from '../repo/index.js';

const debug = createDebug('isr:daemon:pin');

/**
 * A pin of a VM's newest version moves to the one that was just published. Where that fails (it would be too large, its map
 * is not all here), the pin stays with the version before.
 */
export async function followWithPin(
  commit: Commit,
  manifest: Manifest,
  {
    home,
    repositoryId,
    fetcher,
  }: { readonly home: HostHome; readonly repositoryId: string; readonly fetcher: Fetcher },
): Promise<void> {
  const signal = AbortSignal.timeout(limits.pinMoveMs);
  try {
    await movePin({
      ...{ cachePath: home.cachePath, limitBytes: home.localCacheBytesNow(), signal },
      name: { repositoryId, vmName: commit.vmName, version: undefined },
      ofVersion: String(commit.version),
      blobs: versionBlobs({ manifest, reference: commit.manifest }, fetcher, {
        ...{ fetchClass: 'background', signal },
      }),
    });
  } catch (error) {
    debug('the pin of %s does not follow to version %d: %o', commit.vmName, commit.version, error);
  }
}
