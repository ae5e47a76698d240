/** The engine `kernel`. */
export { kernelCapabilities, mountKernel } from './mount.js';
