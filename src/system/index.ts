/**
 * What Node.js lacks of the operating system: holes in files, exact metadata, telling processes apart, and raw
 * descriptors with mounts on Linux.
 */
export { readDescriptor, setNonBlocking, waitForData, writeDescriptor } from './descriptor.js';
export { inheritedLock, lockFile, type FileLock } from './file-lock.js';
export { makeFifo, setTimes, setUserAttribute, userAttributes } from './file-metadata.js';
export { SystemCallError } from './libc.js';
export { mountFileSystem } from './mount.js';
export { readAhead } from './page-cache.js';
export { bootId, isProcessAlive, processStartTime } from './process.js';
export { leaveSharedDescriptors } from './own-descriptors.js';
export { protectFromMemoryPressure, withIoFlusher, type Protection } from './protection.js';
export { receiveDescriptor, socketPair } from './socket-pair.js';
export { allocate, nextData, nextHole, punchHole, zeroRange } from './sparse.js';
export { unforkedMemory, type UnforkedMemory } from './unforked-memory.js';
export { waitFor, WaitSet, WakeDescriptor } from './wait-set.js';
