/** The engine `fuse-native`. */
export { fuseNativeCapabilities, mountFuseNative } from './mount.js';
