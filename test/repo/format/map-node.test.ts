import fc from 'fast-check';
import t from 'tap';
import { encodeMapNode, MapNode } from '../../../src/repo/format/map-node.js';
import { DamagedObject, type MapEntry } from '../../../src/repo/index.js';
import { sameBytes } from '../../support/same-bytes.js';
import { anyDamage, damage } from './damage.js';
import { anyReference, packA, packB } from './examples.js';

const anyEntries: fc.Arbitrary<MapEntry[]> = fc.array(fc.oneof(fc.constant('zero' as const), anyReference), {
  maxLength: 512,
  size: 'max',
});

const someEntries: MapEntry[] = [
  'zero',
  { packId: packB, offsetBytes: 28, sealedBytes: 100, counter: 1, id: '01'.repeat(16) as never },
  { packId: packA, offsetBytes: 28, sealedBytes: 100, counter: 1, id: '02'.repeat(16) as never },
  { packId: packB, offsetBytes: 128, sealedBytes: 100, counter: 7, id: '03'.repeat(16) as never },
];

function entriesOf(node: MapNode): MapEntry[] {
  return Array.from({ length: 512 }, (_, index) => node.entry(index));
}

t.test('entries survive encoding', async (t) => {
  fc.assert(
    fc.property(anyEntries, (entries) => {
      const node = MapNode.decode(encodeMapNode(entries), 'node');
      const expected = Array.from({ length: 512 }, (_, index) => entries[index] ?? 'zero');
      t.same(entriesOf(node), expected);
      t.same(
        expected.map((_, index) => node.isZero(index)),
        expected.map((entry) => entry === 'zero'),
      );
    }),
    { numRuns: 20 },
  );
});

t.test('equal entries give equal bytes, however often they are decoded', async (t) => {
  const encoded = encodeMapNode(someEntries);
  const node = MapNode.decode(encoded, 'node');
  sameBytes(t, encodeMapNode(entriesOf(node)), encoded);
  t.equal(encoded.length, 2 + 2 * 16 + 512 * 30);
});

t.test('whatever is decoded without complaint encodes to the same bytes', async (t) => {
  const encoded = encodeMapNode(someEntries);
  fc.assert(
    fc.property(anyDamage, (how) => {
      const damaged = damage(encoded, how);
      let node: MapNode;
      try {
        node = MapNode.decode(damaged, 'node');
      } catch (error) {
        return error instanceof DamagedObject;
      }
      return Buffer.from(encodeMapNode(entriesOf(node))).equals(damaged);
    }),
    { numRuns: 500 },
  );
  t.pass();
});

t.test('impossible nodes are refused', async (t) => {
  const encoded = () => Buffer.from(encodeMapNode(someEntries));
  const entriesAt = 2 + 2 * 16;
  const refused = (what: string, change: (node: Buffer) => unknown) => {
    const node = encoded();
    change(node);
    t.throws(() => MapNode.decode(node, 'node'), DamagedObject, what);
  };
  refused('a zero entry that is not all zero', (node) => node.writeUInt8(1, entriesAt + 29));
  refused('a pack that is not in the table', (node) => node.writeUInt16BE(3, entriesAt + 30));
  refused('packs not in order of first use', (node) => node.writeUInt16BE(2, entriesAt + 30));
  refused('an offset within the pack header', (node) => node.writeUInt32BE(27, entriesAt + 32));
  refused('a blob too short to be sealed', (node) => node.writeUInt32BE(20, entriesAt + 36));
  refused('a blob longer than any', (node) => node.writeUInt32BE(2 ** 31, entriesAt + 36));
  refused('the counter of the index', (node) => node.writeUInt32BE(0, entriesAt + 40));
  refused('more packs than entries', (node) => node.writeUInt16BE(513, 0));
  t.throws(() => MapNode.decode(Buffer.alloc(1), 'node'), DamagedObject, 'one byte');
  t.throws(() => encodeMapNode(Array<MapEntry>(513).fill('zero')), RangeError);
});
