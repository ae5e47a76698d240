import type { BlobId, BlobKind, BlobReference, PackId } from '../../repo/index.js';

/**
 * One file of the local cache: this header, then exactly the sealed bytes of the pack, then whose it is. All numbers
 * big-endian.
 *
 *     offset  length
 *          0       8  magic, "isrcache"
 *          8       2  format version, 1
 *         10       1  kind: 1 chunk, 2 map-node, 3 manifest
 *         11       1  0
 *         12       4  length of the sealed bytes
 *         16       8  nonce counter within the pack
 *         24      16  pack id
 *         40      16  blob id
 *         56       …  sealed bytes
 *          …      16  repository id; entries of the first versions of isr end before it
 *
 * The header has no checksum: the sealed bytes open only under the pack, counter, id and kind that they were
 * sealed for, so a damaged header is found as surely as damaged data.
 */
export interface EntryHeader {
  readonly kind: BlobKind;
  readonly packId: PackId;
  readonly counter: number;
  readonly id: BlobId;
  readonly sealedBytes: number;
}

export const entryHeaderBytes = 56;
export const entryOwnerBytes = 16;

const magic = Buffer.from('isrcache', 'latin1');
const formatVersion = 1;
const kindNumbers: Readonly<Record<BlobKind, number>> = {
  chunk: 1,
  'map-node': 2,
  manifest: 3,
  delta: 4,
  'delta-index': 5,
};

export function encodeEntryHeader(reference: BlobReference, kind: BlobKind): Uint8Array {
  const bytes = Buffer.alloc(entryHeaderBytes);
  magic.copy(bytes);
  bytes.writeUInt16BE(formatVersion, 8);
  bytes.writeUInt8(kindNumbers[kind], 10);
  bytes.writeUInt32BE(reference.sealedBytes, 12);
  bytes.writeBigUInt64BE(BigInt(reference.counter), 16);
  bytes.write(reference.packId, 24, 'hex');
  bytes.write(reference.id, 40, 'hex');
  return bytes;
}

/** What an entry ends with. */
export function encodeEntryOwner(repositoryId: string): Uint8Array {
  return Buffer.from(repositoryId, 'hex');
}

/** A whole entry as it was read. */
export interface DecodedEntry {
  readonly header: EntryHeader;
  readonly sealed: Uint8Array;
  /** Undefined where the entry does not say. */
  readonly repositoryId: string | undefined;
}

/** Undefined for anything that is not a whole entry. `sealed` is a view of `entry`. */
export function decodeEntry(entry: Uint8Array): DecodedEntry | undefined {
  const header = decodeEntryHeader(entry.subarray(0, entryHeaderBytes));
  if (header === undefined) return undefined;
  const end = entryHeaderBytes + header.sealedBytes;
  if (entry.length !== end && entry.length !== end + entryOwnerBytes) return undefined;
  const owner = Buffer.from(entry.buffer, entry.byteOffset + end, entry.length - end);
  return {
    header,
    sealed: entry.subarray(entryHeaderBytes, end),
    repositoryId: owner.length === 0 ? undefined : owner.toString('hex'),
  };
}

/** Undefined for anything that is not a header of this format version. */
export function decodeEntryHeader(header: Uint8Array): EntryHeader | undefined {
  if (header.length !== entryHeaderBytes) return undefined;
  const bytes = Buffer.from(header.buffer, header.byteOffset, header.length);
  if (!bytes.subarray(0, 8).equals(magic) || bytes.readUInt16BE(8) !== formatVersion) return undefined;
  const kind = kindOfNumber(bytes.readUInt8(10));
  const counter = Number(bytes.readBigUInt64BE(16));
  if (kind === undefined || bytes.readUInt8(11) !== 0 || !Number.isSafeInteger(counter)) return undefined;
  return {
    kind,
    packId: bytes.toString('hex', 24, 40) as PackId,
    counter,
    id: bytes.toString('hex', 40, 56) as BlobId,
    sealedBytes: bytes.readUInt32BE(12),
  };
}

function kindOfNumber(number: number): BlobKind | undefined {
  switch (number) {
    case 1:
      return 'chunk';
    case 2:
      return 'map-node';
    case 3:
      return 'manifest';
    case 4:
      return 'delta';
    case 5:
      return 'delta-index';
    default:
      return undefined;
  }
}
