import fc from 'fast-check';
import t from 'tap';
import {
  checkPackHeader,
  decodePackTrailer,
  encodePackEnding,
  encodePackHeader,
  openPackIndex,
  packHeaderBytes,
  packTrailerBytes,
  type PackIndexEntry,
} from '../../../src/repo/format/pack.js';
import { DamagedObject, Sealer, type PackId } from '../../../src/repo/index.js';
import { anyDamage, damage, errorOf } from './damage.js';
import { anyPlaintext, packA, packB, secrets } from './examples.js';

const sealer = new Sealer(secrets);
const anyKind = fc.constantFrom('chunk' as const, 'map-node' as const, 'manifest' as const);
const anyBlobs = fc.array(fc.record({ kind: anyKind, plaintext: anyPlaintext }), { maxLength: 6 });

/** A pack object, with a gap in its counters. */
function makePack(
  packId: PackId,
  blobs: readonly { readonly kind: PackIndexEntry['kind']; readonly plaintext: Uint8Array }[],
): { object: Buffer; entries: PackIndexEntry[] } {
  const parts: Uint8Array[] = [encodePackHeader(packId)];
  const entries: PackIndexEntry[] = [];
  let offsetBytes = packHeaderBytes;
  blobs.forEach(({ kind, plaintext }, position) => {
    const id = sealer.identify(plaintext);
    const counter = 2 * position + 1;
    const sealed = sealer.seal(plaintext, kind, packId, counter, id);
    parts.push(sealed);
    entries.push({ kind, reference: { packId, id, counter, offsetBytes, sealedBytes: sealed.length } });
    offsetBytes += sealed.length;
  });
  parts.push(encodePackEnding(sealer, packId, entries));
  return { object: Buffer.concat(parts), entries };
}

function listPack(object: Uint8Array, packId: PackId): readonly PackIndexEntry[] {
  checkPackHeader(object.subarray(0, packHeaderBytes), packId);
  const { offsetBytes, lengthBytes } = decodePackTrailer(
    object.subarray(Math.max(0, object.length - packTrailerBytes)),
    packId,
    object.length,
  );
  return openPackIndex(sealer, packId, object.subarray(offsetBytes, offsetBytes + lengthBytes), offsetBytes);
}

/** Lists a pack and opens everything that the list names. */
function readAll(object: Buffer, packId: PackId): Uint8Array[] {
  return listPack(object, packId).map(({ kind, reference }) =>
    sealer.open(
      object.subarray(reference.offsetBytes, reference.offsetBytes + reference.sealedBytes),
      reference,
      kind,
    ),
  );
}

t.test('a pack lists its blobs from its own end', async (t) => {
  fc.assert(
    fc.property(anyBlobs, (blobs) => {
      const { object, entries } = makePack(packA, blobs);
      t.same(listPack(object, packA), entries);
      t.same(
        readAll(object, packA).map((plaintext) => Buffer.from(plaintext)),
        blobs.map(({ plaintext }) => Buffer.from(plaintext)),
      );
    }),
    { numRuns: 30 },
  );
});

t.test('any damage to a pack is refused when it is read', async (t) => {
  fc.assert(
    fc.property(anyBlobs, anyDamage, (blobs, how) => {
      const damaged = Buffer.from(damage(makePack(packA, blobs).object, how));
      return errorOf(() => readAll(damaged, packA)) instanceof DamagedObject;
    }),
  );
  t.pass();
});

t.test('two packs swapped are refused', async (t) => {
  const blobs = [{ kind: 'chunk' as const, plaintext: Buffer.from('contents') }];
  const { object } = makePack(packA, blobs);
  t.throws(() => listPack(object, packB), DamagedObject);
  const relabelled = Buffer.concat([encodePackHeader(packB), object.subarray(packHeaderBytes)]);
  t.throws(() => listPack(relabelled, packB), DamagedObject, 'also under the name of the other');
});

t.test('an index that does not fit its pack is refused', async (t) => {
  const { entries } = makePack(packA, [
    { kind: 'chunk', plaintext: Buffer.alloc(100, 1) },
    { kind: 'chunk', plaintext: Buffer.alloc(100, 2) },
  ]);
  const [first, second] = entries as [PackIndexEntry, PackIndexEntry];
  const end = second.reference.offsetBytes + second.reference.sealedBytes;
  const index = (listed: readonly PackIndexEntry[]) => {
    const ending = encodePackEnding(sealer, packA, listed);
    return ending.subarray(0, ending.length - packTrailerBytes);
  };
  t.same(openPackIndex(sealer, packA, index(entries), end), entries);
  t.throws(() => openPackIndex(sealer, packA, index(entries), end + 1), DamagedObject, 'a gap at the end');
  t.throws(() => openPackIndex(sealer, packA, index([first]), end), DamagedObject, 'a blob is missing');
  t.throws(() => openPackIndex(sealer, packA, index([second, first]), end), DamagedObject, 'wrong order');
  t.throws(
    () => openPackIndex(sealer, packA, index([first, first]), end),
    DamagedObject,
    'overlapping blobs',
  );
  const reserved = { ...first, reference: { ...first.reference, counter: 0 } };
  t.throws(() => openPackIndex(sealer, packA, index([reserved, second]), end), DamagedObject, 'counter 0');
});
