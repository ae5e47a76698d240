/**
 * The puller's program: has the kernel read ranges of a mount into its page cache. A process of its own, because the one
 * that serves a mount must not wait for it; the kernel pulls, because that never overwrites a page that the guest has
 * changed. Ends with the process that started it.
 */
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { readAhead } from '../../system/index.js';
import type { PulledMessage, PulledRange, PullMessage } from './puller-protocol.js';

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;

/** A replay goes back and forth between the memory image and a few disks. */
const openFilesMax = 16;

const descriptors = new Map<string, number>();
const oneByte = Buffer.alloc(1);

process.on('message', ({ pull }: PullMessage) => {
  pull.forEach(begin);
  pull.forEach(wait);
  process.send?.('pulled' satisfies PulledMessage);
});

// At once: an orderly end would wait for a mount that nobody serves.
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));

function begin({ path, offsetBytes, lengthBytes }: PulledRange): void {
  const fd = descriptorOf(path);
  if (fd !== undefined) readAhead(fd, offsetBytes, lengthBytes);
}

/** What cannot be read is for the guest to find out. */
function wait({ path, offsetBytes, lengthBytes }: PulledRange): void {
  const fd = descriptors.get(path);
  if (fd === undefined) return;
  try {
    readSync(fd, oneByte, 0, 1, offsetBytes + lengthBytes - 1);
  } catch {
    return;
  }
}

/** This thread opens it: the mount knows a replay by the process that opens a file. */
function descriptorOf(path: string): number | undefined {
  const known = descriptors.get(path);
  if (known !== undefined) return known;
  try {
    if (descriptors.size >= openFilesMax) closeOldest();
    const fd = openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    descriptors.set(path, fd);
    return fd;
  } catch {
    return undefined;
  }
}

function closeOldest(): void {
  for (const [path, fd] of descriptors) {
    descriptors.delete(path);
    closeSync(fd);
    return;
  }
}
