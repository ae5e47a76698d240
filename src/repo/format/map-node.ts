import { limits } from '../../base/index.js';
import { DamagedObject } from '../errors.js';
import type { BlobId, BlobReference, MapEntry, PackId } from '../types.js';
import { isPlausibleReference } from './pack.js';

/*
 * A map node: number of packs P (2), P pack ids (16 each) in order of first use, then 512 entries of 30 bytes:
 *
 *   pack     (2)  0: all zero, and so is the rest of the entry; else 1 + position in the table of packs
 *   offset   (4)  of the sealed blob in the pack
 *   length   (4)  of the sealed blob
 *   counter  (4)
 *   id      (16)
 */

const countBytes = 2;
const packIdBytes = 16;
const entryBytes = 30;
const zeroEntries = Buffer.alloc(limits.mapNodeEntries * entryBytes);

/**
 * One node of a chunk map, held as its encoded bytes: a node stands for 64 MiB of file, and few of its entries are
 * ever asked for.
 */
export class MapNode {
  readonly #packIds: readonly PackId[];
  readonly #entries: Buffer;

  private constructor(packIds: readonly PackId[], entries: Buffer) {
    this.#packIds = packIds;
    this.#entries = entries;
  }

  /**
   * Checks every entry once, so that `entry` cannot fail. `objectKey` names the object in errors (`DamagedObject`).
   * Keeps `plaintext`.
   */
  static decode(plaintext: Uint8Array, objectKey: string): MapNode {
    const view = Buffer.from(plaintext.buffer, plaintext.byteOffset, plaintext.byteLength);
    const packCount = view.length < countBytes ? undefined : view.readUInt16BE(0);
    if (
      packCount === undefined ||
      packCount > limits.mapNodeEntries ||
      view.length !== countBytes + packCount * packIdBytes + limits.mapNodeEntries * entryBytes
    ) {
      throw new DamagedObject(objectKey, 'a chunk-map node has a length that it cannot have');
    }
    const entriesAt = countBytes + packCount * packIdBytes;
    const packIds: PackId[] = [];
    for (let at = countBytes; at < entriesAt; at += packIdBytes) {
      packIds.push(view.toString('hex', at, at + packIdBytes) as PackId);
    }
    const node = new MapNode(packIds, view.subarray(entriesAt));
    node.#check(objectKey);
    return node;
  }

  /** Bytes of memory that the node keeps alive, for caches. */
  get memoryBytes(): number {
    return this.#entries.length + this.#packIds.length * 64;
  }

  /** `index` is 0 to `limits.mapNodeEntries` - 1. */
  entry(index: number): MapEntry {
    const at = index * entryBytes;
    const pack = this.#entries.readUInt16BE(at);
    const packId = this.#packIds[pack - 1];
    if (packId === undefined) return 'zero';
    return {
      packId,
      ...placeOf(this.#entries, at),
      id: this.#entries.toString('hex', at + 14, at + entryBytes) as BlobId,
    };
  }

  isZero(index: number): boolean {
    return this.#entries.readUInt16BE(index * entryBytes) === 0;
  }

  /** A resume decodes its first nodes in code that is not compiled yet: no entry is made, and zero ones are compared in runs. */
  #check(objectKey: string): void {
    const entries = this.#entries;
    const end = limits.mapNodeEntries;
    let packsSeen = 0;
    for (let index = 0; index < end; index += 1) {
      const at = index * entryBytes;
      const pack = entries.readUInt16BE(at);
      let isPossible: boolean;
      if (pack === 0) {
        while (index + 1 < end && entries.readUInt16BE((index + 1) * entryBytes) === 0) index += 1;
        const runEnd = (index + 1) * entryBytes;
        isPossible = entries.compare(zeroEntries, 0, runEnd - at, at, runEnd) === 0;
      } else {
        if (pack === packsSeen + 1) packsSeen = pack;
        isPossible = pack <= packsSeen && isPlausibleReference(placeOf(entries, at));
      }
      if (!isPossible) {
        throw new DamagedObject(objectKey, `entry ${index} of a chunk-map node is impossible`);
      }
    }
    if (packsSeen !== this.#packIds.length) {
      throw new DamagedObject(objectKey, 'a chunk-map node names packs that it does not use');
    }
  }
}

/** What an entry says of where its blob lies. */
function placeOf(
  entries: Buffer,
  at: number,
): Pick<BlobReference, 'offsetBytes' | 'sealedBytes' | 'counter'> {
  return {
    offsetBytes: entries.readUInt32BE(at + 2),
    sealedBytes: entries.readUInt32BE(at + 6),
    counter: entries.readUInt32BE(at + 10),
  };
}

/** At most `limits.mapNodeEntries` entries; missing ones at the end are zero. Equal entries give equal bytes. */
export function encodeMapNode(entries: readonly MapEntry[]): Uint8Array {
  if (entries.length > limits.mapNodeEntries) throw new RangeError(`map node of ${entries.length} entries`);
  const packs = new Map<PackId, number>();
  for (const entry of entries) {
    if (entry !== 'zero' && !packs.has(entry.packId)) packs.set(entry.packId, packs.size + 1);
  }
  const entriesAt = countBytes + packs.size * packIdBytes;
  const node = Buffer.alloc(entriesAt + limits.mapNodeEntries * entryBytes);
  node.writeUInt16BE(packs.size, 0);
  for (const [packId, position] of packs) {
    node.write(packId, countBytes + (position - 1) * packIdBytes, 'hex');
  }
  entries.forEach((entry, index) => {
    if (entry !== 'zero') {
      writeEntry(node, entriesAt + index * entryBytes, entry, packs.get(entry.packId) ?? 0);
    }
  });
  return node;
}

function writeEntry(node: Buffer, start: number, entry: BlobReference, pack: number): void {
  let at = node.writeUInt16BE(pack, start);
  at = node.writeUInt32BE(entry.offsetBytes, at);
  at = node.writeUInt32BE(entry.sealedBytes, at);
  at = node.writeUInt32BE(entry.counter, at);
  node.write(entry.id, at, 'hex');
}
