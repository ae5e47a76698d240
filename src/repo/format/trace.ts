import { limits } from '../../base/index.js';
import { DamagedObject } from '../errors.js';
import type { Trace, TraceEntry, VersionNumber } from '../types.js';
import { BadFrame, Compression } from './compression.js';
import { isChunkSize } from './manifest.js';
import { NumberReader, NumberWriter } from './numbers.js';

/*
 * The payload of a trace: schema (1), then a frame (see compression.ts) of
 *
 *   version, recorded at, chunkBytes, resumes              numbers
 *   files: count, then each: length of the path, path      in the order in which the entries first use them
 *   entries: count
 *   runs of entries of one file: file, length              until all entries are accounted for
 *   chunk indexes                                          signed, from the one before of the same file (at first 0)
 *   times in ms                                            signed, from the one before (at first 0)
 *   seenIn                                                 a byte each
 *
 * One column after the other, because equal things beside each other compress: about 2 bytes an entry.
 */

const schemaNumber = 1;
const frameLengthAt = 2;

/** What a trace has before it is compressed, at most: guards memory. */
const plainBytesMax = 2 * limits.traceBytesMax;

const pathBytesMax = 4095;
const timeMsMax = 0xffff_ffff;
const chunkIndexMax = limits.fileBytesMax / limits.chunkBytesMin - 1;

/** A trace beyond the limits is a programming error: `mergeTraces` and the recorder keep them. */
export function encodeTrace(trace: Trace): Uint8Array {
  const { entries } = trace;
  const body = new NumberWriter();
  const files = new Map<string, number>();
  for (const { path } of entries) if (!files.has(path)) files.set(path, files.size);
  const head = [trace.version, trace.recordedAt.getTime(), trace.chunkBytes, trace.resumes];
  for (const number of [...head, files.size]) body.number(number);
  for (const path of files.keys()) body.bytes(Buffer.from(path, 'utf8'));
  body.number(entries.length);
  writeRuns(body, entries, files);
  const lastIndexes = new Map<string, number>();
  for (const { path, chunkIndex } of entries) {
    body.signed(chunkIndex - (lastIndexes.get(path) ?? 0));
    lastIndexes.set(path, chunkIndex);
  }
  let lastMs = 0;
  for (const { atMs } of entries) {
    body.signed(atMs - lastMs);
    lastMs = atMs;
  }
  for (const { seenIn } of entries) body.byte(seenIn);
  return Buffer.concat([Buffer.of(schemaNumber), ...new Compression().frame(body.finish())]);
}

function writeRuns(
  body: NumberWriter,
  entries: readonly TraceEntry[],
  files: ReadonlyMap<string, number>,
): void {
  for (let first = 0, end = 0; first < entries.length; first = end) {
    const path = entries[first]?.path;
    while (end < entries.length && entries[end]?.path === path) end += 1;
    body.number(files.get(path ?? '') ?? 0);
    body.number(end - first);
  }
}

/** `objectKey` names the object in errors (`DamagedObject`). */
export function decodeTrace(payload: Uint8Array, objectKey: string): Trace {
  try {
    return readBody(unframe(payload));
  } catch (error) {
    if (error instanceof RangeError || error instanceof BadFrame) {
      throw new DamagedObject(objectKey, `the trace is not valid: ${error.message}`, { cause: error });
    }
    throw error;
  }
}

function unframe(payload: Uint8Array): NumberReader {
  const view = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
  if (view.length < frameLengthAt + 4) throw new RangeError('it is too short');
  if (view[0] !== schemaNumber) throw new RangeError(`its schema is ${view[0] ?? 'missing'}`);
  const claimedBytes = view.readUInt32BE(frameLengthAt);
  if (claimedBytes > plainBytesMax) throw new RangeError(`it claims to hold ${claimedBytes} bytes`);
  return new NumberReader(new Compression().unframe(view.subarray(1)));
}

function readBody(body: NumberReader): Trace {
  const version = body.number(1, Number.MAX_SAFE_INTEGER) as VersionNumber;
  const recordedAt = new Date(body.number(0, 8.64e15));
  const chunkBytes = body.number(limits.chunkBytesMin, limits.chunkBytesMax);
  if (!isChunkSize(chunkBytes)) throw new RangeError(`${chunkBytes} is no size of chunks`);
  const resumes = body.number(1, Number.MAX_SAFE_INTEGER);
  const files = readPaths(body);
  const entryCount = body.number(files.length, limits.traceTouches);
  const fileOf = readRuns(body, files.length, entryCount);
  const indexes = readIndexes(body, fileOf, files.length);
  const times = readTimes(body, entryCount);
  const entries = Array.from(fileOf, (file, position): TraceEntry => ({
    path: at(files, file),
    chunkIndex: at(indexes, position),
    atMs: at(times, position),
    seenIn: body.byte(1),
  }));
  body.expectEnd();
  return { version, recordedAt, chunkBytes, resumes, entries };
}

function readPaths(body: NumberReader): readonly string[] {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  const paths = new Set<string>();
  const count = body.number(0, limits.traceFiles);
  for (let file = 0; file < count; file += 1) {
    const bytes = body.bytes(pathBytesMax);
    let path;
    try {
      path = decoder.decode(bytes);
    } catch {
      throw new RangeError('a path is not UTF-8');
    }
    const names = path.split('/');
    if (path.includes('\0') || names.some((name) => name === '' || name === '.' || name === '..')) {
      throw new RangeError('a path cannot be one');
    }
    paths.add(path);
  }
  if (paths.size !== count) throw new RangeError('it names a file twice');
  return [...paths];
}

/** The file of each entry. */
function readRuns(body: NumberReader, fileCount: number, entryCount: number): Uint16Array {
  const fileOf = new Uint16Array(entryCount);
  let filesSeen = 0;
  let lastFile = -1;
  for (let first = 0; first < entryCount;) {
    const file = body.number(0, Math.min(filesSeen, fileCount - 1));
    if (file === lastFile) throw new RangeError('a run of entries goes on as another one');
    if (file === filesSeen) filesSeen += 1;
    const length = body.number(1, entryCount - first);
    fileOf.fill(file, first, first + length);
    first += length;
    lastFile = file;
  }
  if (filesSeen !== fileCount) throw new RangeError('it names a file without touches');
  return fileOf;
}

function readIndexes(body: NumberReader, fileOf: Uint16Array, fileCount: number): readonly number[] {
  const last = new Array<number>(fileCount).fill(0);
  const touched = Array.from(last, () => new Set<number>());
  return Array.from(fileOf, (file) => {
    const index = at(last, file) + body.signed();
    if (index < 0 || index > chunkIndexMax) throw new RangeError(`no file has a chunk ${index}`);
    last[file] = index;
    const chunks = at(touched, file);
    if (chunks.size === chunks.add(index).size) throw new RangeError('it names a chunk twice');
    return index;
  });
}

function readTimes(body: NumberReader, entryCount: number): readonly number[] {
  let last = 0;
  return Array.from({ length: entryCount }, () => {
    last += body.signed();
    if (last < 0 || last > timeMsMax) throw new RangeError(`no touch is after ${last} ms`);
    return last;
  });
}

function at<T>(items: readonly T[], position: number): T {
  const item = items[position];
  if (item === undefined) throw new RangeError(`there is no ${position}`);
  return item;
}
