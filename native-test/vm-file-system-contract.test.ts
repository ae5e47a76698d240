import t from 'tap';
import { openOverlay, rootInode } from '../src/fs/index.js';
import { fuseNativeCapabilities, mountFuseNative } from '../src/fuse/index.js';
import type { Manifest, ManifestInode } from '../src/repo/index.js';
import { mountContract } from './support/mount-contract.js';

/** The version that all overlays of this test change: an empty directory. */
function emptyManifest(): Manifest {
  const root: ManifestInode = {
    number: rootInode,
    kind: 'directory',
    entries: new Map(),
    permissions: 0o755,
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    accessTimeNs: 0n,
    modifyTimeNs: 0n,
    changeTimeNs: 0n,
    extendedAttributes: new Map(),
  };
  return { inodes: new Map([[rootInode, root]]) };
}

await mountContract(t, {
  mountEngine: mountFuseNative,
  capabilities: fuseNativeCapabilities,
  makeFileSystem: async (t) => {
    const fileSystem = await openOverlay({
      directory: t.testdir({}),
      base: { manifest: emptyManifest(), identity: 'empty' },
      openFile: () => {
        throw new Error('an empty version has no files');
      },
    });
    t.teardown(() => fileSystem[Symbol.asyncDispose]());
    return fileSystem;
  },
});
