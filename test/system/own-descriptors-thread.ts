import { readdirSync, readlinkSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { leaveSharedDescriptors } from '../../src/system/index.js';

/* Leaves the descriptors of the process, and tells which sockets it has before and after. */

function sockets(): readonly string[] {
  const directory = '/proc/thread-self/fd';
  return readdirSync(directory).filter((name) => {
    try {
      return readlinkSync(`${directory}/${name}`).startsWith('socket:');
    } catch {
      return false;
    }
  });
}

const before = sockets();
leaveSharedDescriptors();
parentPort?.postMessage({ before, after: sockets() });
