import { limits } from '../../base/index.js';
import { DamagedObject } from '../errors.js';
import type { BlobId, BlobReference, ChunkDelta, PackId } from '../types.js';
import { isPlausibleReference } from './pack.js';

/*
 * A delta, what makes a chunk out of an earlier one: id of that base (16), number of pages P (2), P page indexes ascending
 * (2 each), P pages.
 *
 * A delta index: number of packs N (2), N pack ids (16 each), then entries of 76 bytes: id of the chunk (16), and where the
 * base and the delta lie, each as pack (2: position in the table), offset (4), length (4), counter (4), id (16).
 */

const idBytes = 16;
const countBytes = 2;
const pageIndexBytes = 2;
const placeBytes = 30;
const entryBytes = idBytes + 2 * placeBytes;

/** What deltas count in: the pages of a guest, and of the overlay. */
export const deltaPageBytes = 4096;

export interface Delta {
  /** The chunk that it changes. */
  readonly baseId: BlobId;
  /** Indexes within the chunk, ascending. */
  readonly pages: readonly number[];
  /** Their content, one after the other. */
  readonly content: Uint8Array;
}

/** `pages`: ascending indexes; their content is copied out of `chunk`. */
export function encodeDelta(baseId: BlobId, pages: readonly number[], chunk: Uint8Array): Uint8Array {
  const pagesAt = idBytes + countBytes + pages.length * pageIndexBytes;
  const delta = Buffer.alloc(pagesAt + pages.length * deltaPageBytes);
  delta.write(baseId, 0, 'hex');
  delta.writeUInt16BE(pages.length, idBytes);
  pages.forEach((page, position) => {
    delta.writeUInt16BE(page, idBytes + countBytes + position * pageIndexBytes);
    const content = chunk.subarray(page * deltaPageBytes, (page + 1) * deltaPageBytes);
    delta.set(content, pagesAt + position * deltaPageBytes);
  });
  return delta;
}

/** Of chunks of `chunkBytes`. Keeps `plaintext`. Throws `DamagedObject`, which names the object `objectKey`. */
export function decodeDelta(plaintext: Uint8Array, chunkBytes: number, objectKey: string): Delta {
  const view = Buffer.from(plaintext.buffer, plaintext.byteOffset, plaintext.byteLength);
  const indexesAt = idBytes + countBytes;
  const count = view.length < indexesAt ? 0 : view.readUInt16BE(idBytes);
  const contentAt = indexesAt + count * pageIndexBytes;
  if (count === 0 || view.length !== contentAt + count * deltaPageBytes)
    throw new DamagedObject(objectKey, 'a delta has a length that it cannot have');
  const pages = Array.from({ length: count }, (_, position) =>
    view.readUInt16BE(indexesAt + position * pageIndexBytes),
  );
  const isPossible = (page: number, position: number): boolean =>
    page > (pages[position - 1] ?? -1) && (page + 1) * deltaPageBytes <= chunkBytes;
  if (!pages.every(isPossible)) throw new DamagedObject(objectKey, 'a delta names impossible pages');
  const baseId = view.toString('hex', 0, idBytes) as BlobId;
  return { baseId, pages, content: view.subarray(contentAt) };
}

/** The chunk that a delta makes of its base, in memory of its own. */
export function applyDelta({ pages, content }: Delta, base: Uint8Array): Uint8Array {
  const chunk = new Uint8Array(base);
  pages.forEach((page, position) => {
    const at = position * deltaPageBytes;
    chunk.set(content.subarray(at, at + deltaPageBytes), page * deltaPageBytes);
  });
  return chunk;
}

/** At most `limits.deltaIndexEntries`, in any order, of different chunks. */
export function encodeDeltaIndex(deltas: readonly ChunkDelta[]): Uint8Array {
  if (deltas.length > limits.deltaIndexEntries) throw new RangeError(`${deltas.length} deltas in an index`);
  const packs = new Map<PackId, number>();
  for (const { base, delta } of deltas) {
    for (const { packId } of [base, delta]) if (!packs.has(packId)) packs.set(packId, packs.size);
  }
  const entriesAt = countBytes + packs.size * idBytes;
  const index = Buffer.alloc(entriesAt + deltas.length * entryBytes);
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
  const entryCount = (view.length - entriesAt) / entryBytes;
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
    const at = entriesAt + position * entryBytes;
    return {
      chunkId: view.toString('hex', at, at + idBytes) as BlobId,
      base: referenceAt(at + idBytes),
      delta: referenceAt(at + idBytes + placeBytes),
    };
  });
}
