import zstd from 'zstd-napi/binding.js';
import { limits } from '../../base/index.js';
import { DamagedObject } from '../errors.js';
import type { BlobId, BlobReference, ChunkDelta, PackId } from '../types.js';
import { isPlausibleReference } from './pack.js';

/*
 * A delta, what makes a chunk out of an earlier one: id of that base (16), then a zstd frame (RFC 8878) that states its content
 * size and was made with the base as a dictionary of raw content.
 *
 * A delta index: number of packs N (2), N pack ids (16 each), then entries of 76 bytes: id of the chunk (16), and where the
 * base and the delta lie, each as pack (2: position in the table), offset (4), length (4), counter (4), id (16).
 */

const idBytes = 16;
const countBytes = 2;
const placeBytes = 30;
/** What a delta costs an index; its packs aside. */
export const deltaIndexEntryBytes = idBytes + 2 * placeBytes;

/** As chunks are compressed: more costs time and finds little that is not the base. */
const zstdLevel = 3;

/** What is made with them is synchronous, so that a thread needs one of each. */
const compressor = new zstd.CCtx();
const decompressor = new zstd.DCtx();
let scratch = Buffer.allocUnsafeSlow(0);

/** The plaintext of the delta that makes `chunk` out of a base of the same length; undefined where it would be longer than that. */
export function encodeDelta(
  baseId: BlobId,
  base: Uint8Array,
  chunk: Uint8Array,
  lengthMax: number,
): Uint8Array | undefined {
  if (lengthMax <= idBytes) return undefined;
  if (scratch.length < lengthMax) scratch = Buffer.allocUnsafeSlow(lengthMax);
  scratch.write(baseId, 0, 'hex');
  const frame = scratch.subarray(idBytes, Math.floor(lengthMax));
  try {
    const frameBytes = compressor.compressUsingDict(frame, chunk, base, zstdLevel);
    return new Uint8Array(scratch.subarray(0, idBytes + frameBytes));
  } catch {
    // It does not fit, as where little is like the base; then zstd stops early.
    return undefined;
  }
}

/**
 * The chunk that a delta makes of its base, in memory of its own: something of the base's length, which is the chunk if its id
 * is. Throws `DamagedObject`, which names the object `objectKey`.
 */
export function applyDelta(
  plaintext: Uint8Array,
  baseId: BlobId,
  base: Uint8Array,
  objectKey: string,
): Uint8Array {
  const delta = Buffer.from(plaintext.buffer, plaintext.byteOffset, plaintext.byteLength);
  if (delta.length < idBytes || delta.toString('hex', 0, idBytes) !== baseId)
    throw new DamagedObject(objectKey, 'a delta is of another base than its index says');
  const frame = delta.subarray(idBytes);
  try {
    if (zstd.getFrameContentSize(frame) === base.length) {
      const chunk = new Uint8Array(base.length);
      if (decompressor.decompressUsingDict(chunk, frame, base) === chunk.length) return chunk;
    }
  } catch (error) {
    throw new DamagedObject(objectKey, 'a delta does not apply to its base', { cause: error });
  }
  throw new DamagedObject(objectKey, 'a delta makes something of another length than its base');
}

/** At most `limits.deltaIndexEntries`, in any order, of different chunks. */
export function encodeDeltaIndex(deltas: readonly ChunkDelta[]): Uint8Array {
  if (deltas.length > limits.deltaIndexEntries) throw new RangeError(`${deltas.length} deltas in an index`);
  const packs = new Map<PackId, number>();
  for (const { base, delta } of deltas) {
    for (const { packId } of [base, delta]) if (!packs.has(packId)) packs.set(packId, packs.size);
  }
  const entriesAt = countBytes + packs.size * idBytes;
  const index = Buffer.alloc(entriesAt + deltas.length * deltaIndexEntryBytes);
  index.writeUInt16BE(packs.size, 0);
  for (const [packId, position] of packs) index.write(packId, countBytes + position * idBytes, 'hex');
  let at = entriesAt;
  for (const { chunkId, base, delta } of deltas) {
    at += index.write(chunkId, at, 'hex');
    for (const reference of [base, delta]) {
      at = index.writeUInt16BE(packs.get(reference.packId) ?? 0, at);
      at = index.writeUInt32BE(reference.offsetBytes, at);
      at = index.writeUInt32BE(reference.sealedBytes, at);
      at = index.writeUInt32BE(reference.counter, at);
      at += index.write(reference.id, at, 'hex');
    }
  }
  return index;
}

/** Throws `DamagedObject`, which names the object `objectKey`. */
export function decodeDeltaIndex(plaintext: Uint8Array, objectKey: string): readonly ChunkDelta[] {
  const view = Buffer.from(plaintext.buffer, plaintext.byteOffset, plaintext.byteLength);
  const packCount = view.length < countBytes ? 0 : view.readUInt16BE(0);
  const entriesAt = countBytes + packCount * idBytes;
  const entryCount = (view.length - entriesAt) / deltaIndexEntryBytes;
  if (!Number.isInteger(entryCount) || entryCount < 0 || entryCount > limits.deltaIndexEntries)
    throw new DamagedObject(objectKey, 'an index of deltas has a length that it cannot have');
  const packIds = Array.from(
    { length: packCount },
    (_, position) =>
      view.toString('hex', countBytes + position * idBytes, countBytes + (position + 1) * idBytes) as PackId,
  );
  const referenceAt = (at: number): BlobReference => {
    const packId = packIds[view.readUInt16BE(at)];
    const place = {
      offsetBytes: view.readUInt32BE(at + 2),
      sealedBytes: view.readUInt32BE(at + 6),
      counter: view.readUInt32BE(at + 10),
    };
    if (packId === undefined || !isPlausibleReference(place))
      throw new DamagedObject(objectKey, 'an index of deltas has an impossible entry');
    return { packId, ...place, id: view.toString('hex', at + 14, at + placeBytes) as BlobId };
  };
  return Array.from({ length: entryCount }, (_, position) => {
    const at = entriesAt + position * deltaIndexEntryBytes;
    return {
      chunkId: view.toString('hex', at, at + idBytes) as BlobId,
      base: referenceAt(at + idBytes),
      delta: referenceAt(at + idBytes + placeBytes),
    };
  });
}
