import fc from 'fast-check';
import t from 'tap';
import { RecordSealer, recordOverheadBytes } from '../../../src/repo/format/record.js';
import { DamagedObject, ReadOnlyKey, readOnlySecrets, UnknownFormat } from '../../../src/repo/index.js';
import { objectKey } from '../../../src/store/index.js';
import { sameBytes } from '../../support/same-bytes.js';
import { anyDamage, damage, errorOf, flipBit } from './damage.js';
import { fixedRandomness, otherSecrets, secrets } from './examples.js';

const records = new RecordSealer(secrets, fixedRandomness('records'));
const place = objectKey('log/00/0000000001');

t.test('a payload survives, and two records of it differ', async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 500 }), (payload) => {
      const object = records.seal(payload, place, 'test');
      const again = records.seal(payload, place, 'test');
      return (
        object.length === payload.length + recordOverheadBytes &&
        Buffer.from(payload).equals(records.open(object, place)) &&
        !Buffer.from(object).equals(again)
      );
    }),
  );
  t.pass();
});

t.test('every flipped bit is refused', async (t) => {
  const object = records.seal(Buffer.from('payload'), place, 'test');
  for (let bit = 0; bit < object.length * 8; bit += 1) {
    const error = errorOf(() => records.open(flipBit(object, bit), place));
    if (!(error instanceof DamagedObject || error instanceof UnknownFormat)) {
      t.fail(`bit ${bit}`, { error });
    }
  }
  t.pass();
});

t.test('any damage is refused', async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 500 }), anyDamage, (payload, how) => {
      const error = errorOf(() => records.open(damage(records.seal(payload, place, 'test'), how), place));
      return error instanceof DamagedObject || error instanceof UnknownFormat;
    }),
  );
  t.throws(() => records.open(new Uint8Array(65537), place), DamagedObject, 'longer than any record');
});

t.test('a record is valid in its own place and repository only', async (t) => {
  const object = records.seal(Buffer.from('payload'), place, 'test');
  t.throws(() => records.open(object, objectKey('log/00/0000000002')), DamagedObject);
  t.throws(() => records.open(object, objectKey('branch/00/0000000001')), DamagedObject);
  t.throws(() => new RecordSealer(otherSecrets, fixedRandomness('x')).open(object, place), DamagedObject);
});

t.test('somebody who can read cannot write', async (t) => {
  const object = records.seal(Buffer.from('payload'), place, 'test');
  const reader = new RecordSealer(readOnlySecrets(secrets), fixedRandomness('reader'));
  sameBytes(t, reader.open(object, place), Buffer.from('payload'));
  t.throws(() => reader.seal(Buffer.from('payload'), place, 'publish a version'), {
    code: new ReadOnlyKey('').code,
    message: 'The key of this repository can only read, so it cannot publish a version.',
  });
  // With the encryption key but another signing key, everything but the signature fits.
  const forger = new RecordSealer(
    { ...secrets, signingSeed: otherSecrets.signingSeed },
    fixedRandomness('forger'),
  );
  t.throws(() => records.open(forger.seal(Buffer.from('payload'), place, 'test'), place), {
    code: 'DAMAGED_OBJECT',
    what: 'its signature does not hold',
  });
});

t.test('a newer record is refused by name', async (t) => {
  const object = Buffer.from(records.seal(Buffer.from('payload'), place, 'test'));
  object.writeUInt32BE(2, 8);
  t.throws(() => records.open(object, place), {
    code: 'UNKNOWN_FORMAT',
    message: `The record ${place} has format version 2; this program knows version 1.`,
  });
});

t.test('names of VMs are hidden behind a key', async (t) => {
  t.match(records.vmId('laptop'), /^[0-9a-f]{32}$/);
  t.not(records.vmId('laptop'), records.vmId('Laptop'));
  t.not(records.vmId('laptop'), new RecordSealer(otherSecrets, fixedRandomness('x')).vmId('laptop'));
});
