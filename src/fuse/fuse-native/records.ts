import type { Attributes, FileSystemUsage } from '../../fs/index.js';

const blockBytes = 4096;
const uint32Range = 2 ** 32;
const nanosecondsPerMillisecond = 1_000_000n;

/** The addon's `populate_stat`: 32-bit words, times in whole milliseconds since 1970. */
export const attributesRecordLength = 18;

export function attributesRecord(attributes: Attributes): Uint32Array {
  const words = new Uint32Array(attributesRecordLength);
  words[0] = attributes.mode;
  words[1] = attributes.uid;
  words[2] = attributes.gid;
  putUint64(words, 3, attributes.sizeBytes);
  words[6] = attributes.linkCount;
  words[7] = attributes.inode;
  words[9] = blockBytes;
  putUint64(words, 10, attributes.blocks);
  putUint64(words, 12, millisecondsOf(attributes.accessTimeNs));
  putUint64(words, 14, millisecondsOf(attributes.modifyTimeNs));
  putUint64(words, 16, millisecondsOf(attributes.changeTimeNs));
  return words;
}

/** The addon's `populate_statvfs`. Blocks are counted in 32 bits, so they grow with the file system. */
export const usageRecordLength = 11;

export function usageRecord(usage: FileSystemUsage, fileNameBytesMax: number): Uint32Array {
  let unitBytes = blockBytes;
  while (usage.totalBytes / unitBytes >= uint32Range) unitBytes *= 2;
  const words = new Uint32Array(usageRecordLength);
  words[0] = blockBytes;
  words[1] = unitBytes;
  words[2] = Math.floor(usage.totalBytes / unitBytes);
  words[3] = Math.floor(usage.freeBytes / unitBytes);
  words[4] = Math.floor(usage.availableBytes / unitBytes);
  words[5] = usage.inodes + usage.freeInodes;
  words[6] = words[7] = usage.freeInodes;
  words[10] = fileNameBytesMax;
  return words;
}

export function joinUint64(low: number, high: number): number {
  return high * uint32Range + low;
}

function putUint64(words: Uint32Array, index: number, value: number): void {
  words[index] = value % uint32Range;
  words[index + 1] = Math.floor(value / uint32Range);
}

/** The addon reads times as unsigned: nothing before 1970 can be shown. */
function millisecondsOf(nanoseconds: bigint): number {
  return nanoseconds < 0n ? 0 : Number(nanoseconds / nanosecondsPerMillisecond);
}
