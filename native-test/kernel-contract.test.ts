import t from 'tap';
import { kernelCapabilities, mountKernel } from '../src/fuse/index.js';
import { ModelFileSystem } from '../test/support/model-file-system.js';
import { mountContract } from './support/mount-contract.js';

const model = new ModelFileSystem();

await mountContract(t, {
  mountEngine: mountKernel,
  capabilities: kernelCapabilities,
  makeFileSystem: async () => model,
});

t.equal(model.openHandles, 0, 'every handle was released');
