import t from 'tap';
import { join } from 'node:path';
import { openOverlay } from '../src/fs/index.js';
import { kernelCapabilities, mountKernel } from '../src/fuse/index.js';
import { FakeVersion, manifestOf } from '../test/fs/support/fake-version.js';
import { mountContract } from './support/mount-contract.js';

/** The whole way, from a program to the overlay's files. */
await mountContract(t, {
  mountEngine: mountKernel,
  capabilities: kernelCapabilities,
  makeFileSystem: async (t) => {
    const fileSystem = await openOverlay({
      directory: join(t.testdir({}), 'overlay'),
      base: { manifest: manifestOf({}), identity: 'empty' },
      openFile: new FakeVersion().openFile,
    });
    t.teardown(() => fileSystem.close());
    return fileSystem;
  },
});
