import { mountFuseNative } from '../../src/fuse/fuse-native/index.js';
import { ModelFileSystem } from '../../test/support/model-file-system.js';

/** A daemon that a test can kill: serves an empty model file system at the path given to it, until its end. */
const [mountPath] = process.argv.slice(2);
if (mountPath === undefined) throw new Error('usage: serve-model MOUNT_PATH');
await mountFuseNative(new ModelFileSystem(), { mountPath, sourceName: 'isr:killed', allowOther: false });
process.stdout.write('mounted\n');
