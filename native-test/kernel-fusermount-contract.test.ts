import t from 'tap';
import { kernelCapabilities } from '../src/fuse/index.js';
import { mountKernelThrough } from '../src/fuse/kernel/mount.js';
import { mountThroughFusermount } from '../src/fuse/kernel/mounting.js';
import { ModelFileSystem } from '../test/support/model-file-system.js';
import { mountContract } from './support/mount-contract.js';

const model = new ModelFileSystem();

await mountContract(t, {
  mountEngine: (fileSystem, options) => mountKernelThrough(mountThroughFusermount, fileSystem, options),
  capabilities: kernelCapabilities,
  makeFileSystem: async () => model,
});

t.equal(model.openHandles, 0, 'every handle was released');
