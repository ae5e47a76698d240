/** What Node.js lacks of the operating system: holes in files, and telling processes apart. */
export { lockFile } from './file-lock.js';
export { SystemCallError } from './libc.js';
export { bootId, isProcessAlive, processStartTime } from './process.js';
export { allocate, nextData, nextHole, punchHole, zeroRange } from './sparse.js';
