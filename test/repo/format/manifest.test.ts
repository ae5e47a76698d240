import fc from 'fast-check';
import t from 'tap';
import { decodeManifest, encodeManifest, mapHeight } from '../../../src/repo/format/manifest.js';
import { DamagedObject } from '../../../src/repo/index.js';
import type { FileMap, InodeMetadata, Manifest, ManifestInode } from '../../../src/repo/index.js';
import { sameBytes } from '../../support/same-bytes.js';
import { anyDamage, damage } from './damage.js';
import { anyReference } from './examples.js';

const anyTime = fc.bigInt({ min: -(10n ** 18n), max: 10n ** 19n - 1n });
const anyMetadata: fc.Arbitrary<InodeMetadata> = fc.record({
  permissions: fc.integer({ min: 0, max: 0o7777 }),
  uid: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  gid: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  accessTimeNs: anyTime,
  modifyTimeNs: anyTime,
  changeTimeNs: anyTime,
  extendedAttributes: fc
    .dictionary(fc.stringMatching(/^user\.[a-z]{1,20}$/), fc.uint8Array({ maxLength: 30 }))
    .map((pairs) => new Map(Object.entries(pairs).map(([name, value]) => [name, Buffer.from(value)]))),
});
const anyFileMap: fc.Arbitrary<FileMap> = fc
  .tuple(
    fc.integer({ min: 0, max: 2 ** 50 }),
    fc.constantFrom(2 ** 14, 2 ** 17, 2 ** 22),
    fc.oneof(fc.constant('zero' as const), anyReference),
  )
  .map(([sizeBytes, chunkBytes, root]) => ({
    sizeBytes,
    chunkBytes,
    height: mapHeight(sizeBytes, chunkBytes),
    root,
  }));
const anyName = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 40 })
  .filter((name) => !/[/\0]/.test(name) && name !== '.' && name !== '..' && Buffer.byteLength(name) <= 255);

const anyLeaf = fc.tuple(
  anyMetadata,
  fc.oneof(
    anyFileMap.map((content) => ({ kind: 'file' as const, content })),
    fc.string({ unit: 'grapheme', minLength: 1 }).map((target) => ({ kind: 'symlink' as const, target })),
    fc.constant({ kind: 'fifo' as const }),
  ),
);

/** A root, a few directories in it, and leaves with one or two names. */
const anyManifest: fc.Arbitrary<Manifest> = fc
  .record({
    directories: fc.array(anyMetadata, { minLength: 1, maxLength: 4 }),
    leaves: fc.array(anyLeaf, { maxLength: 6 }),
    names: fc.uniqueArray(anyName, { minLength: 20, maxLength: 20 }),
  })
  .map(({ directories, leaves, names }) => {
    const entries = directories.map(() => new Map<string, number>());
    const inodes = new Map<number, ManifestInode>();
    directories.forEach((metadata, index) => {
      const number = index + 1;
      inodes.set(number, { ...metadata, number, kind: 'directory', entries: entries[index]! });
      if (index > 0) entries[index >> 1]!.set(names[index]!, number);
    });
    leaves.forEach(([metadata, leaf], index) => {
      const number = 100 + index;
      inodes.set(number, { ...metadata, ...leaf, number });
      entries[index % entries.length]!.set(names[4 + index]!, number);
      if (index % 3 === 0) entries[0]!.set(names[10 + index]!, number);
    });
    return { inodes };
  });

t.test('a manifest survives encoding, and equal ones give equal bytes', async (t) => {
  fc.assert(
    fc.property(anyManifest, (manifest) => {
      const encoded = encodeManifest(manifest);
      const decoded = decodeManifest(encoded, 'manifest');
      t.same(decoded.inodes, manifest.inodes);
      sameBytes(t, encodeManifest(decoded), encoded);
    }),
    { numRuns: 50 },
  );
});

t.test('damaged text is refused or is another manifest, never anything else', async (t) => {
  fc.assert(
    fc.property(anyManifest, anyDamage, (manifest, how) => {
      try {
        decodeManifest(damage(encodeManifest(manifest), how), 'manifest');
      } catch (error) {
        return error instanceof DamagedObject;
      }
      return true;
    }),
  );
  t.pass();
});

t.test('manifests that cannot be are refused', async (t) => {
  const metadata = {
    permissions: 0o644,
    uid: 0,
    gid: 0,
    accessTimeNs: '0',
    modifyTimeNs: '0',
    changeTimeNs: '0',
    extendedAttributes: [],
  };
  const directory = (number: number, entries: unknown[]) => ({
    kind: 'directory',
    ...metadata,
    number,
    entries,
  });
  const content = { sizeBytes: 1, chunkBytes: 131072, height: 0, root: null };
  const file = (change: object = {}) => ({ kind: 'file', ...metadata, number: 2, content, ...change });
  const decode = (inodes: unknown) =>
    decodeManifest(Buffer.from(JSON.stringify({ inodes })), 'pack/aa/manifest');
  const withEntry = (name: unknown) => [directory(1, [[name, 2]]), file()];
  t.equal(decode(withEntry('fine')).inodes.size, 2, 'the one that the others vary');

  const impossible: Record<string, unknown> = {
    'no inodes': [],
    'no root': [file()],
    'a root that is a file': [file({ number: 1 })],
    'an inode twice': [directory(1, [['a', 2]]), file(), file()],
    'an inode in no directory': [directory(1, []), file()],
    'an inode that is not there': [directory(1, [['a', 3]])],
    'a name twice': [
      directory(1, [
        ['a', 2],
        ['a', 2],
      ]),
      file(),
    ],
    'a directory in two places': [
      directory(1, [
        ['a', 2],
        ['b', 2],
      ]),
      directory(2, []),
    ],
    'a directory in itself': [directory(1, [['a', 2]]), directory(2, [['b', 2]])],
    'the root in a directory': [directory(1, [['a', 1]])],
    'a slash in a name': withEntry('a/b'),
    'a NUL in a name': withEntry('a\0b'),
    'the name .': withEntry('.'),
    'the name ..': withEntry('..'),
    'an empty name': withEntry(''),
    'a name of 256 bytes': withEntry('é'.repeat(128)),
    'half a surrogate pair': withEntry('\ud800'),
    'a name that is no string': withEntry(1),
    'an unknown kind': [directory(1, [['a', 2]]), { ...file(), kind: 'socket' }],
    'an unknown field': [directory(1, [['a', 2]]), file({ extra: 1 })],
    'a negative size': [directory(1, [['a', 2]]), file({ content: { ...content, sizeBytes: -1 } })],
    'a size past the limit': [
      directory(1, [['a', 2]]),
      file({ content: { ...content, sizeBytes: 2 ** 51 } }),
    ],
    'a wrong height': [directory(1, [['a', 2]]), file({ content: { ...content, height: 1 } })],
    'an odd chunk size': [directory(1, [['a', 2]]), file({ content: { ...content, chunkBytes: 131073 } })],
    'a fractional permission': [directory(1, [['a', 2]]), file({ permissions: 0.5 })],
    'a time that is no number': [directory(1, [['a', 2]]), file({ accessTimeNs: '1e9' })],
    'not a list': 'inodes',
  };
  for (const [what, inodes] of Object.entries(impossible)) {
    t.throws(() => decode(inodes), DamagedObject, what);
  }
  t.throws(() => decodeManifest(Buffer.from([0xff]), 'manifest'), DamagedObject, 'not UTF-8');
  t.throws(() => decodeManifest(Buffer.from('{"inodes":[]'), 'manifest'), DamagedObject, 'not JSON');
});

t.test('the height of a map is the smallest that covers the file', async (t) => {
  const chunk = 131072;
  t.equal(mapHeight(0, chunk), 0);
  t.equal(mapHeight(chunk, chunk), 0);
  t.equal(mapHeight(chunk + 1, chunk), 1);
  t.equal(mapHeight(512 * chunk, chunk), 1);
  t.equal(mapHeight(512 * chunk + 1, chunk), 2);
  t.equal(mapHeight(2 ** 40, chunk), 3);
});

t.test('a manifest that fits into no blob is a limit, not a crash', async (t) => {
  const [metadata] = fc.sample(anyMetadata, { numRuns: 1, seed: 1 });
  const extendedAttributes = new Map([['user.huge', Buffer.alloc(51 * 2 ** 20)]]);
  const root = {
    ...metadata!,
    extendedAttributes,
    number: 1,
    kind: 'directory' as const,
    entries: new Map(),
  };
  t.throws(() => encodeManifest({ inodes: new Map([[1, root]]) }), { code: 'LIMIT_EXCEEDED' });
});
