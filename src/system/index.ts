/** What Node.js lacks of the operating system: holes in files, exact metadata, and telling processes apart. */
export { lockFile } from './file-lock.js';
export { makeFifo, setTimes, setUserAttribute, userAttributes } from './file-metadata.js';
export { SystemCallError } from './libc.js';
export { bootId, isProcessAlive, processStartTime } from './process.js';
export { allocate, nextData, nextHole, punchHole, zeroRange } from './sparse.js';
