import { normalize } from 'node:path';
import { InvalidInput, limits, parseByteSize } from '../base/index.js';
import type { EngineName } from '../fuse/index.js';
import { checkVmName, isChunkSize } from '../repo/index.js';

/** Half-open range of bytes. */
export interface ByteSpan {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** Checked here already, so that a bad name is refused before anything is opened. */
export const parseVmName = checkVmName;

const engineNames: readonly EngineName[] = ['fuse-native', 'kernel'];

export function parseEngine(text: string): EngineName {
  const engine = engineNames.find((name) => name === text);
  if (engine !== undefined) return engine;
  throw new InvalidInput(`There is no engine named ${text}.`, {
    remedy: `Engines are: ${engineNames.join(', ')}.`,
  });
}

/** A power of two within the format's limits, as `128K`. */
export function parseChunkSize(text: string): number {
  const bytes = parseByteSize(text);
  if (bytes === undefined || !isChunkSize(bytes)) {
    throw new InvalidInput(`${text} is not a chunk size.`, {
      remedy: `Give a power of two from ${limits.chunkBytesMin / 1024}K to ${limits.chunkBytesMax / 1024}K.`,
    });
  }
  return bytes;
}

/** `A-B`: from byte A up to, not including, byte B. */
export function parseRange(text: string): ByteSpan {
  const [first, last, ...rest] = text.split('-');
  const offsetBytes = parseByteSize(first ?? '');
  const endBytes = parseByteSize(last ?? '');
  if (rest.length > 0 || offsetBytes === undefined || endBytes === undefined || endBytes <= offsetBytes) {
    throw new InvalidInput(`${text} is not a range.`, {
      remedy: 'Write FIRST-END in bytes or with units, as 0-64M; END itself is not in the range.',
    });
  }
  return { offsetBytes, lengthBytes: endBytes - offsetBytes };
}

const durationUnits: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
};

/** Milliseconds of a time as people write it: `30s`, `500ms`, `1.5m`, `2h`. */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|min|h)$/.exec(text);
  const durationMs = Number(match?.[1]) * (durationUnits[match?.[2] ?? ''] ?? Number.NaN);
  if (durationMs > 0 && durationMs <= durationMsMax) return durationMs;
  throw new InvalidInput(`${text} is not a time.`, {
    remedy: 'Write a number and a unit, as 500ms, 30s, 5m or 2h.',
  });
}

/** What a timer can wait for. */
const durationMsMax = 2 ** 31 - 1;

/** The fixed path of a VM: the same text on every host, so it must say the place in one way only. */
export function parseMountPath(text: string): string {
  const problem = problemOfMountPath(text);
  if (problem === undefined) return text;
  throw new InvalidInput(`${JSON.stringify(text)} cannot be the path of a VM: ${problem}.`, {
    remedy: 'Give an absolute path without ".", ".." and doubled slashes, as /vms/web.',
  });
}

function problemOfMountPath(path: string): string | undefined {
  if (!path.startsWith('/')) return 'it is not absolute';
  if (path === '/') return 'it is the root of the file system';
  // eslint-disable-next-line no-control-regex -- they would garble the mount table and every message
  if (/[\0-\x1f\x7f]/.test(path)) return 'it has control characters in it';
  if (normalize(path) !== path || path.endsWith('/')) return 'it is not in its shortest form';
  if (Buffer.byteLength(path) > 1024) return 'it is longer than 1024 bytes';
  return undefined;
}
