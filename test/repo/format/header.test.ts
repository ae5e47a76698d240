import fc from 'fast-check';
import t from 'tap';
import { decodeHeader, encodeHeader, openHeader } from '../../../src/repo/format/header.js';
import { DamagedObject, UnknownFormat, WrongKey } from '../../../src/repo/index.js';
import { anyDamage, damage, errorOf, flipBit } from './damage.js';
import { otherSecrets, secrets } from './examples.js';

const header = { version: 1, repositoryId: secrets.repositoryId, chunkBytes: 131072 };
const encoded = encodeHeader(header, secrets);

t.test('the header survives encoding', async (t) => {
  t.same(decodeHeader(encoded, 'here'), header);
  t.same(openHeader(encoded, 'here', secrets), header);
});

t.test('every flipped bit is refused', async (t) => {
  for (let bit = 0; bit < encoded.length * 8; bit += 1) {
    const error = errorOf(() => openHeader(flipBit(encoded, bit), 'here', secrets));
    const isRefusal =
      error instanceof DamagedObject || error instanceof UnknownFormat || error instanceof WrongKey;
    if (!isRefusal) t.fail(`bit ${bit}`, { error });
  }
  t.pass();
});

t.test('truncated and extended headers are refused', async (t) => {
  fc.assert(
    fc.property(anyDamage, (how) => {
      const error = errorOf(() => openHeader(damage(encoded, how), 'here', secrets));
      return error instanceof DamagedObject || error instanceof UnknownFormat || error instanceof WrongKey;
    }),
  );
  t.throws(() => decodeHeader(Buffer.alloc(5000, encoded), 'here'), DamagedObject, 'far too long');
});

t.test('a newer format is refused by name, whatever else it says', async (t) => {
  const newer = Buffer.from('{"format":"isr-repository","version":2,"shape":"unheard of"}\n');
  t.throws(() => decodeHeader(newer, 'file:///backup'), {
    code: 'UNKNOWN_FORMAT',
    message: 'The repository in file:///backup has format version 2; this program knows version 1.',
  });
});

t.test('the key of another repository is refused in one sentence', async (t) => {
  t.throws(() => openHeader(encoded, 'file:///backup', otherSecrets), {
    code: 'WRONG_KEY',
    message: `The key is for repository ${otherSecrets.repositoryId}, but file:///backup holds repository ${secrets.repositoryId}.`,
  });
});

t.test('a header that somebody else made up is refused', async (t) => {
  const forged = encodeHeader(header, { ...otherSecrets, repositoryId: secrets.repositoryId });
  t.throws(() => openHeader(forged, 'here', secrets), DamagedObject);
});
