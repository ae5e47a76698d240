import t from 'tap';
import { fuseNativeCapabilities, mountFuseNative } from '../src/fuse/fuse-native/index.js';
import { ModelFileSystem } from '../test/support/model-file-system.js';
import { mountContract } from './support/mount-contract.js';

const model = new ModelFileSystem();

await mountContract(t, {
  mountEngine: mountFuseNative,
  capabilities: fuseNativeCapabilities,
  makeFileSystem: async () => model,
});

t.equal(model.openHandles, 0, 'every handle was released');
