import fc from 'fast-check';
import { randomBytes } from 'node:crypto';
import t from 'tap';
import { DamagedObject, firstBlobCounter, Sealer, sealOverheadBytes } from '../../../src/repo/index.js';
import type { BlobId, BlobKind, PackId, SealedIdentity } from '../../../src/repo/index.js';
import { anyDamage, damage, errorOf } from './damage.js';
import { anyPlaintext, otherSecrets, packA, packB, secrets } from './examples.js';

const sealer = new Sealer(secrets);
const kinds = ['chunk', 'map-node', 'manifest'] as const;

function seal(
  plaintext: Uint8Array,
  kind: BlobKind = 'chunk',
  packId: PackId = packA,
  counter = firstBlobCounter,
): { sealed: Uint8Array; identity: SealedIdentity } {
  const id = sealer.identify(plaintext);
  const sealed = sealer.seal(plaintext, kind, packId, counter, id);
  return { sealed, identity: { packId, counter, id, sealedBytes: sealed.length } };
}

t.test('what was sealed opens to the same bytes', async (t) => {
  fc.assert(
    fc.property(
      anyPlaintext,
      fc.constantFrom(...kinds),
      fc.integer({ min: 1, max: 2 ** 32 - 1 }),
      (plaintext, kind, counter) => {
        const { sealed, identity } = seal(plaintext, kind, packA, counter);
        return Buffer.from(plaintext).equals(sealer.open(sealed, identity, kind));
      },
    ),
  );
  t.pass('for any plaintext, kind and counter');
});

t.test('an opened blob lies in memory of its own', async (t) => {
  for (const plaintext of [randomBytes(5000), Buffer.alloc(5000, 'zstd ')]) {
    const { sealed, identity } = seal(plaintext);
    const before = Buffer.from(sealed);
    const opened = sealer.open(sealed, identity, 'chunk');
    const again = sealer.open(sealed, identity, 'chunk');
    again.fill(0);
    t.ok(plaintext.equals(opened));
    t.ok(before.equals(sealed), 'the sealed bytes stay as they were');
  }
});

t.test('any damage to sealed bytes is refused', async (t) => {
  fc.assert(
    fc.property(anyPlaintext, anyDamage, (plaintext, how) => {
      const { sealed, identity } = seal(plaintext);
      const damaged = damage(sealed, how);
      const error = errorOf(() => sealer.open(damaged, identity, 'chunk'));
      // A reference of the damaged length must not help either.
      const atThatLength = { ...identity, sealedBytes: damaged.length };
      const second = errorOf(() => sealer.open(damaged, atThatLength, 'chunk'));
      return error instanceof DamagedObject && second instanceof DamagedObject;
    }),
  );
  t.pass();
});

t.test('a blob opens in its own place only', async (t) => {
  const { sealed, identity } = seal(Buffer.from('a chunk of guest memory'));
  const refused = (what: string, other: SealedIdentity, kind: BlobKind, opener = sealer) =>
    t.throws(() => opener.open(sealed, other, kind), DamagedObject, what);
  refused('another counter', { ...identity, counter: identity.counter + 1 }, 'chunk');
  refused('another pack', { ...identity, packId: packB }, 'chunk');
  refused('another id', { ...identity, id: '00'.repeat(16) as BlobId }, 'chunk');
  refused('another kind', identity, 'map-node');
  refused('another kind', identity, 'manifest');
  refused('another repository', identity, 'chunk', new Sealer(otherSecrets));
  t.throws(() => sealer.open(sealed, { ...identity, counter: 2 }, 'chunk'), {
    message: `The object pack/aa/${packA} is damaged: the chunk with counter 2: it is not authentic.`,
  });
});

t.test('two blobs of one pack swapped are refused', async (t) => {
  const one = seal(Buffer.alloc(1000, 1), 'chunk', packA, 1);
  const other = seal(Buffer.alloc(1000, 2), 'chunk', packA, 2);
  t.equal(one.sealed.length, other.sealed.length, 'their lengths do not give them away');
  t.throws(() => sealer.open(other.sealed, one.identity, 'chunk'), DamagedObject);
  t.throws(() => sealer.open(one.sealed, other.identity, 'chunk'), DamagedObject);
});

t.test('compression is used where it saves a sixteenth', async (t) => {
  const incompressible = randomBytes(100_000);
  t.equal(seal(incompressible).sealed.length, incompressible.length + sealOverheadBytes);
  t.ok(seal(Buffer.alloc(100_000, 'text ')).sealed.length < 1000);
  const slightlyCompressible = Buffer.concat([randomBytes(96_000), Buffer.alloc(4_000)]);
  t.equal(seal(slightlyCompressible).sealed.length, slightlyCompressible.length + sealOverheadBytes);
});

t.test('ids are keyed, and equal for equal plaintext', async (t) => {
  const plaintext = Buffer.from('the same everywhere');
  t.equal(sealer.identify(plaintext), new Sealer(secrets).identify(plaintext));
  t.not(sealer.identify(plaintext), new Sealer(otherSecrets).identify(plaintext));
  t.match(sealer.identify(plaintext), /^[0-9a-f]{32}$/);
});

t.test('a reference to an absurd length costs no memory', async (t) => {
  const { identity } = seal(Buffer.from('small'));
  const sealed = { length: 2 ** 40 } as Uint8Array;
  t.throws(() => sealer.open(sealed, { ...identity, sealedBytes: 2 ** 40 }, 'chunk'), DamagedObject);
});

t.test('a blob longer than the limit is not sealed', async (t) => {
  const plaintext = { length: 64 * 2 ** 20 + 1 } as Uint8Array;
  t.throws(() => sealer.seal(plaintext, 'chunk', packA, 1, '00'.repeat(16) as BlobId), RangeError);
});
