import * as v from 'valibot';
import { LimitExceeded, limits } from '../../base/index.js';
import { DamagedObject } from '../errors.js';
import type { FileMap, InodeMetadata, Manifest, ManifestInode, MapEntry } from '../types.js';
import { blobReference, count, encodePayload, encodeReference, parsePayload, text } from './schemas.js';

const rootInodeNumber = 1;

const nanoseconds = v.pipe(
  v.string(),
  v.regex(/^(?:0|-?[1-9][0-9]{0,18})$/),
  v.transform((digits) => BigInt(digits)),
);
const bytes = v.pipe(
  v.string(),
  v.base64(),
  v.transform((value): Uint8Array => Buffer.from(value, 'base64')),
);
const unsigned32 = v.pipe(count, v.maxValue(0xffff_ffff));
const inodeNumber = v.pipe(count, v.minValue(1));

const fileName = v.pipe(
  text(limits.fileNameBytesMax),
  v.check(
    (name) =>
      name !== '' &&
      name !== '.' &&
      name !== '..' &&
      !/[/\0]/.test(name) &&
      Buffer.byteLength(name) <= limits.fileNameBytesMax,
  ),
);

const fileMap: v.GenericSchema<unknown, FileMap> = v.pipe(
  v.strictObject({
    sizeBytes: v.pipe(count, v.maxValue(limits.fileBytesMax)),
    chunkBytes: count,
    height: count,
    root: v.pipe(
      v.nullable(blobReference),
      v.transform((root): MapEntry => root ?? 'zero'),
    ),
  }),
  v.check(({ chunkBytes }) => isChunkSize(chunkBytes)),
  v.check((map) => map.height === mapHeight(map.sizeBytes, map.chunkBytes)),
);

const metadata = {
  number: inodeNumber,
  permissions: v.pipe(count, v.maxValue(0o7777)),
  uid: unsigned32,
  gid: unsigned32,
  accessTimeNs: nanoseconds,
  modifyTimeNs: nanoseconds,
  changeTimeNs: nanoseconds,
  extendedAttributes: v.pipe(
    v.array(v.tuple([text(255), bytes])),
    v.transform((pairs) => new Map(pairs)),
  ),
};

const inode: v.GenericSchema<unknown, ManifestInode> = v.variant('kind', [
  v.strictObject({ kind: v.literal('file'), ...metadata, content: fileMap }),
  v.strictObject({
    kind: v.literal('directory'),
    ...metadata,
    entries: v.pipe(
      v.array(v.tuple([fileName, inodeNumber])),
      v.check((pairs) => new Set(pairs.map(([name]) => name)).size === pairs.length),
      v.transform((pairs) => new Map(pairs)),
    ),
  }),
  v.strictObject({ kind: v.literal('symlink'), ...metadata, target: v.pipe(text(4095), v.minLength(1)) }),
  v.strictObject({ kind: v.literal('fifo'), ...metadata }),
]);

const manifestSchema = v.strictObject({
  inodes: v.pipe(v.array(inode), v.maxLength(limits.manifestInodesMax)),
});

export function isChunkSize(chunkBytes: number): boolean {
  return (
    chunkBytes >= limits.chunkBytesMin &&
    chunkBytes <= limits.chunkBytesMax &&
    Number.isInteger(Math.log2(chunkBytes))
  );
}

/** The height of the smallest chunk map that covers a file. */
export function mapHeight(sizeBytes: number, chunkBytes: number): number {
  const chunks = Math.ceil(sizeBytes / chunkBytes);
  let height = 0;
  for (let covered = 1; covered < chunks; covered *= limits.mapNodeEntries) height += 1;
  return height;
}

/**
 * Inodes are written in ascending order of their numbers, names in the order of the maps. `LimitExceeded` when names
 * and extended attributes are so long that the manifest would not fit into a blob.
 */
export function encodeManifest(manifest: Manifest): Uint8Array {
  const inodes = [...manifest.inodes.values()].sort((one, other) => one.number - other.number);
  const encoded = encodePayload({ inodes: inodes.map(encodeInode) });
  if (encoded.length > limits.blobBytesMax) {
    throw new LimitExceeded(
      `The names and attributes in the VM directory take ${encoded.length} bytes; ${limits.blobBytesMax} is the most.`,
    );
  }
  return encoded;
}

/** `objectKey` names the object in errors (`DamagedObject`). */
export function decodeManifest(plaintext: Uint8Array, objectKey: string): Manifest {
  const { inodes } = parsePayload(manifestSchema, plaintext, objectKey, 'the manifest');
  const byNumber = new Map(inodes.map((one) => [one.number, one]));
  if (byNumber.size !== inodes.length) throw new DamagedObject(objectKey, 'the manifest repeats an inode');
  checkTree(byNumber, objectKey);
  return { inodes: byNumber };
}

/** Every inode can be reached from the root, and every directory in one way only. */
function checkTree(inodes: ReadonlyMap<number, ManifestInode>, objectKey: string): void {
  const root = inodes.get(rootInodeNumber);
  if (root?.kind !== 'directory') throw new DamagedObject(objectKey, 'the manifest has no root directory');
  const reached = new Set([rootInodeNumber]);
  const unvisited = [root];
  for (let directory = unvisited.pop(); directory !== undefined; directory = unvisited.pop()) {
    for (const number of directory.entries.values()) {
      const child = inodes.get(number);
      if (child === undefined)
        throw new DamagedObject(objectKey, 'the manifest names an inode that it lacks');
      if (child.kind === 'directory') {
        if (reached.has(number))
          throw new DamagedObject(objectKey, 'the manifest has a directory in two places');
        unvisited.push(child);
      }
      reached.add(number);
    }
  }
  if (reached.size !== inodes.size) {
    throw new DamagedObject(objectKey, 'the manifest has an inode that is in no directory');
  }
}

function encodeInode(inode: ManifestInode): unknown {
  const encoded = encodeMetadata(inode);
  switch (inode.kind) {
    case 'file': {
      const { sizeBytes, chunkBytes, height, root } = inode.content;
      return {
        kind: 'file',
        ...encoded,
        content: { sizeBytes, chunkBytes, height, root: encodeEntry(root) },
      };
    }
    case 'directory':
      return { kind: 'directory', ...encoded, entries: [...inode.entries] };
    case 'symlink':
      return { kind: 'symlink', ...encoded, target: inode.target };
    case 'fifo':
      return { kind: 'fifo', ...encoded };
  }
}

function encodeMetadata(inode: InodeMetadata & { readonly number: number }) {
  return {
    number: inode.number,
    permissions: inode.permissions,
    uid: inode.uid,
    gid: inode.gid,
    accessTimeNs: inode.accessTimeNs.toString(),
    modifyTimeNs: inode.modifyTimeNs.toString(),
    changeTimeNs: inode.changeTimeNs.toString(),
    extendedAttributes: [...inode.extendedAttributes].map(([name, value]) => [
      name,
      Buffer.from(value).toString('base64'),
    ]),
  };
}

function encodeEntry(entry: MapEntry): unknown {
  return entry === 'zero' ? null : encodeReference(entry);
}
