import { limits } from '../../base/index.js';
import { DamagedObject } from '../errors.js';
import type { BlobId, BlobKind, BlobReference, PackId } from '../types.js';
import { packKey } from './object-keys.js';
import { firstBlobCounter, sealOverheadBytes, type Sealer } from './sealer.js';
import { formatVersion } from './version.js';

/*
 * A pack object: header, sealed blobs, sealed index, trailer.
 *
 *   header   magic (8), format version (4), pack id (16)
 *   blobs    anywhere between header and index
 *   index    sealed like a blob, kind `pack-index`, counter 0, id all zero: one entry a blob, in order of offset
 *   trailer  length of the sealed index (4), magic (8)
 */

const headerMagic = Buffer.from('isr-pack', 'latin1');
const trailerMagic = Buffer.from('isr-tail', 'latin1');
const packIdBytes = 16;
const entryBytes = 1 + 16 + 4 + 4 + 4;

const kindCodes: Readonly<Record<BlobKind, number>> = {
  chunk: 1,
  'map-node': 2,
  manifest: 3,
  delta: 5,
  'delta-index': 6,
};
const kindsByCode = new Map<number, BlobKind>([
  [1, 'chunk'],
  [2, 'map-node'],
  [3, 'manifest'],
  [5, 'delta'],
  [6, 'delta-index'],
]);

const indexCounter = 0;
const indexId = '0'.repeat(32) as BlobId;

/** Where the first blob of a pack begins. */
export const packHeaderBytes = headerMagic.length + 4 + packIdBytes;
export const packTrailerBytes = 4 + trailerMagic.length;

/** Offsets are 32 bits. */
export const packBytesMax = 0xffff_ffff;

export interface PackIndexEntry {
  readonly kind: BlobKind;
  readonly reference: BlobReference;
}

export function encodePackHeader(packId: PackId): Uint8Array {
  const header = Buffer.alloc(packHeaderBytes);
  headerMagic.copy(header);
  header.writeUInt32BE(formatVersion, headerMagic.length);
  header.write(packId, headerMagic.length + 4, 'hex');
  return header;
}

/** Throws `DamagedObject` unless these are the first `packHeaderBytes` of this pack. */
export function checkPackHeader(header: Uint8Array, packId: PackId): void {
  if (!Buffer.from(encodePackHeader(packId)).equals(header)) {
    throw new DamagedObject(packKey(packId), 'it does not begin like a pack of this id and format version');
  }
}

/** What follows the last blob: the sealed index and the trailer. `entries` are in order of offset. */
export function encodePackEnding(
  sealer: Sealer,
  packId: PackId,
  entries: readonly PackIndexEntry[],
): Uint8Array {
  const index = Buffer.alloc(entries.length * entryBytes);
  entries.forEach(({ kind, reference }, position) => {
    let at = position * entryBytes;
    at = index.writeUInt8(kindCodes[kind], at);
    at += index.write(reference.id, at, 'hex');
    at = index.writeUInt32BE(reference.counter, at);
    at = index.writeUInt32BE(reference.offsetBytes, at);
    index.writeUInt32BE(reference.sealedBytes, at);
  });
  const sealedIndex = sealer.seal(index, 'pack-index', packId, indexCounter, indexId);
  const trailer = Buffer.alloc(packTrailerBytes);
  trailer.writeUInt32BE(sealedIndex.length);
  trailerMagic.copy(trailer, 4);
  return Buffer.concat([sealedIndex, trailer]);
}

/** Where the sealed index lies, from the last `packTrailerBytes` of a pack object of `packBytes`. Not yet authenticated. */
export function decodePackTrailer(
  trailer: Uint8Array,
  packId: PackId,
  packBytes: number,
): { readonly offsetBytes: number; readonly lengthBytes: number } {
  const view = Buffer.from(trailer.buffer, trailer.byteOffset, trailer.byteLength);
  if (view.length !== packTrailerBytes || !view.subarray(4).equals(trailerMagic)) {
    throw new DamagedObject(packKey(packId), 'it does not end like a pack');
  }
  const lengthBytes = view.readUInt32BE(0);
  const offsetBytes = packBytes - packTrailerBytes - lengthBytes;
  if (
    lengthBytes < sealOverheadBytes ||
    lengthBytes > limits.blobBytesMax ||
    offsetBytes < packHeaderBytes ||
    packBytes > packBytesMax
  ) {
    throw new DamagedObject(packKey(packId), `its index cannot be ${lengthBytes} of ${packBytes} bytes`);
  }
  return { offsetBytes, lengthBytes };
}

/**
 * The blobs of a pack, from its sealed index as `decodePackTrailer` located it, in order of offset; they fill the
 * space between header and index exactly. Throws `DamagedObject`.
 */
export function openPackIndex(
  sealer: Sealer,
  packId: PackId,
  sealedIndex: Uint8Array,
  indexOffsetBytes: number,
): readonly PackIndexEntry[] {
  const index = sealer.open(
    sealedIndex,
    { packId, counter: indexCounter, id: indexId, sealedBytes: sealedIndex.length },
    'pack-index',
  );
  const view = Buffer.from(index.buffer, index.byteOffset, index.byteLength);
  if (view.length % entryBytes !== 0)
    throw new DamagedObject(packKey(packId), 'its index ends within an entry');
  const entries: PackIndexEntry[] = [];
  let expectedOffset = packHeaderBytes;
  for (let at = 0; at < view.length; at += entryBytes) {
    const entry = decodeEntry(view.subarray(at, at + entryBytes), packId);
    if (entry.reference.offsetBytes !== expectedOffset) {
      throw new DamagedObject(packKey(packId), 'its index leaves gaps between blobs or overlaps them');
    }
    expectedOffset += entry.reference.sealedBytes;
    entries.push(entry);
  }
  if (expectedOffset !== indexOffsetBytes) {
    throw new DamagedObject(packKey(packId), 'its length is not what its index says');
  }
  return entries;
}

function decodeEntry(entry: Buffer, packId: PackId): PackIndexEntry {
  const kind = kindsByCode.get(entry.readUInt8(0));
  const reference: BlobReference = {
    packId,
    id: entry.toString('hex', 1, 17) as BlobId,
    counter: entry.readUInt32BE(17),
    offsetBytes: entry.readUInt32BE(21),
    sealedBytes: entry.readUInt32BE(25),
  };
  if (kind === undefined) throw new DamagedObject(packKey(packId), 'its index names an unknown kind of blob');
  if (!isPlausibleReference(reference)) {
    throw new DamagedObject(packKey(packId), 'its index holds an impossible entry');
  }
  return { kind, reference };
}

/** Whether a reference can be one that `publish` wrote: bounds that keep a hostile one from costing memory. */
export function isPlausibleReference({
  offsetBytes,
  sealedBytes,
  counter,
}: Pick<BlobReference, 'offsetBytes' | 'sealedBytes' | 'counter'>): boolean {
  return (
    counter >= firstBlobCounter &&
    offsetBytes >= packHeaderBytes &&
    sealedBytes >= sealOverheadBytes &&
    sealedBytes <= limits.blobBytesMax + sealOverheadBytes &&
    offsetBytes + sealedBytes <= packBytesMax
  );
}
