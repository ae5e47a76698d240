import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { FileSystemError } from '../../src/fs/index.js';
import { Journal } from '../../src/fs/journal.js';
import { temporaryDirectory } from './support/open-file-system.js';

t.test('what was appended is read back, also after resuming', async (t) => {
  const path = join(temporaryDirectory(t), 'journal');
  const journal = Journal.begin(path, ['one', 'zwei']);
  journal.append('drei\u{1f600}');
  await journal.sync();
  await journal.close();
  const found = await Journal.read(path);
  t.same(found.records, ['one', 'zwei', 'drei\u{1f600}']);
  const resumed = Journal.resume(path, found.lengthBytes);
  resumed.append('vier');
  await resumed.close();
  t.same((await Journal.read(path)).records, ['one', 'zwei', 'drei\u{1f600}', 'vier']);
  t.throws(() => resumed.append('closed'), FileSystemError);
});

t.test('a journal that was cut or torn anywhere is a prefix of what was appended', async (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'journal');
  const records = Array.from({ length: 12 }, (_, index) =>
    JSON.stringify({ index, text: 'x'.repeat(index) }),
  );
  const journal = Journal.begin(path, []);
  for (const record of records) journal.append(record);
  const end = journal.lengthBytes;
  await journal.close();
  const whole = readFileSync(path);
  const torn = join(directory, 'torn');
  await fc.assert(
    fc.asyncProperty(fc.nat(end - 1), fc.constantFrom('cut', 'zeros', 'flip'), async (at, how) => {
      const bytes = Buffer.from(how === 'cut' ? whole.subarray(0, at) : whole);
      if (how === 'zeros') bytes.fill(0, at);
      if (how === 'flip') bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
      writeFileSync(torn, bytes);
      const found = await Journal.read(torn);
      assert.deepEqual(found.records, records.slice(0, found.records.length));
      assert.ok(found.lengthBytes <= at);
      // The line that was torn ends with the first line feed after that; it takes the next one along where it lost its own.
      const linesAfter = bytes.subarray(at).filter((byte) => byte === 0x0a).length - 1;
      assert.equal(found.hasGap, how === 'flip' && linesAfter > 0);
    }),
    { numRuns: 200 },
  );
  t.pass('at every place');
});

t.test('replacing keeps what is appended meanwhile', async (t) => {
  const path = join(temporaryDirectory(t), 'journal');
  const journal = Journal.begin(path, ['old']);
  journal.append('gone');
  const keptFrom = journal.lengthBytes;
  journal.append('kept 1');
  const replacing = journal.replace(['new'], keptFrom);
  journal.append('kept 2');
  const synced = journal.sync();
  await replacing;
  journal.append('kept 3');
  await Promise.all([synced, journal.sync()]);
  await journal.close();
  t.same((await Journal.read(path)).records, ['new', 'kept 1', 'kept 2', 'kept 3']);
});
