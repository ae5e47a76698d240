import fc from 'fast-check';
import t from 'tap';
import { IsrError, parseByteSize } from '../../src/base/index.js';
import { parseChunkSize, parseMountPath, parseRange, parseVmName } from '../../src/cli/arguments.js';
import { reportError } from '../../src/cli/exit-codes.js';
import { formatBytes, formatFields, formatSeconds, formatTable } from '../../src/cli/format.js';
import { describeProgress } from '../../src/cli/progress.js';

const invalid = { code: 'INVALID_INPUT' };

t.test('sizes read with and without units', async (t) => {
  t.equal(parseByteSize('0'), 0);
  t.equal(parseByteSize('4096'), 4096);
  t.equal(parseByteSize('64K'), 65536);
  t.equal(parseByteSize('1.5g'), 1.5 * 2 ** 30);
  t.equal(parseByteSize('20GiB'), 20 * 2 ** 30);
  t.equal(parseByteSize('2TB'), 2 * 2 ** 40);
  for (const text of ['', 'K', '-1', '1.5', '1e3', '12X', '1 G', '99999999999P', '0.1K']) {
    t.equal(parseByteSize(text), undefined, JSON.stringify(text));
  }
  t.equal(parseChunkSize('256K'), 2 ** 18);
  for (const text of ['much', '8K', '8M', '100K']) t.throws(() => parseChunkSize(text), invalid, text);
});

t.test('a whole number of bytes reads as itself', async () => {
  fc.assert(fc.property(fc.maxSafeNat(), (bytes) => parseByteSize(String(bytes)) === bytes));
});

t.test('ranges are half-open', async (t) => {
  t.same(parseRange('0-64M'), { offsetBytes: 0, lengthBytes: 64 * 2 ** 20 });
  t.same(parseRange('4K-8192'), { offsetBytes: 4096, lengthBytes: 4096 });
  for (const text of ['', '5', '5-', '-5', '5-5', '6-5', '1-2-3', 'a-b']) {
    t.throws(() => parseRange(text), invalid, JSON.stringify(text));
  }
});

t.test('the path of a VM says its place in one way only', async (t) => {
  t.equal(parseMountPath('/vms/web'), '/vms/web');
  t.equal(parseMountPath('/vms/Grüße und …'), '/vms/Grüße und …');
  for (const text of ['', 'vms', './vms', '/', '//vms', '/vms/', '/vms/../x', '/vms/./x', '/a\nb', '/a\0b']) {
    t.throws(() => parseMountPath(text), invalid, JSON.stringify(text));
  }
  t.throws(() => parseMountPath(`/${'x'.repeat(1024)}`), invalid);
});

t.test('VM names', async (t) => {
  t.equal(parseVmName('web-1.example_2'), 'web-1.example_2');
  for (const text of ['', '.', '..', '-x', 'a/b', 'a b', 'ä', 'x'.repeat(65)]) {
    t.throws(() => parseVmName(text), { code: 'INVALID_VM_NAME' }, JSON.stringify(text));
  }
});

t.test('sizes and durations for people', async (t) => {
  t.equal(formatBytes(0), '0 B');
  t.equal(formatBytes(999), '999 B');
  t.equal(formatBytes(1000), '0.98 KiB');
  t.equal(formatBytes(1024), '1 KiB');
  t.equal(formatBytes(1536), '1.50 KiB');
  t.equal(formatBytes(21.5 * 2 ** 20), '21.5 MiB');
  t.equal(formatBytes(2 ** 40), '1 TiB');
  t.equal(formatSeconds(0.44), '0.4 s');
  t.equal(formatSeconds(59.4), '59 s');
  t.equal(formatSeconds(200), '3 min 20 s');
  t.equal(formatSeconds(7500), '2 h 5 min');
});

t.test('tables line up', async (t) => {
  const table = formatTable(
    [
      { name: 'a', size: 5 },
      { name: 'longer', size: 1234 },
    ],
    [
      { title: 'NAME', cell: ({ name }) => name },
      { title: 'SIZE', align: 'right', cell: ({ size }) => String(size) },
    ],
  );
  t.equal(table, 'NAME    SIZE\na          5\nlonger  1234');
  t.equal(
    formatFields([
      ['VM', 'web'],
      ['Lease', 'free'],
    ]),
    'VM:    web\nLease: free',
  );
});

t.test('progress shows rate and time left', async (t) => {
  const text = describeProgress({ doneBytes: 2 ** 20, totalBytes: 4 * 2 ** 20, detail: 'disk' }, 2);
  t.equal(text, '1 MiB / 4 MiB  512 KiB/s  6.0 s left  disk');
  t.equal(describeProgress({ doneBytes: 0, totalBytes: undefined }, 0), '0 B  0 B/s');
});

t.test('every error becomes a sentence and an exit code', async (t) => {
  class Novel extends IsrError {
    override readonly code = 'NOT_IN_THE_TABLE';
  }
  t.match(reportError(new Novel('New.', { remedy: 'Do.', facts: { a: 1 } })), {
    code: 'NOT_IN_THE_TABLE',
    message: 'New.',
    remedy: 'Do.',
    facts: { a: 1 },
    exitCode: 1,
  });
  const full = Object.assign(new Error('ENOSPC: no space left on device, write'), {
    code: 'ENOSPC',
    syscall: 'write',
    path: '/x/y',
  });
  t.match(reportError(full), { code: 'LOCAL_DISK_FULL', message: /\/x\/y/, exitCode: 7 });
  t.match(reportError(new TypeError('x is not a function')), { code: 'UNEXPECTED', exitCode: 1 });
  t.match(reportError('thrown text'), { code: 'UNEXPECTED', exitCode: 1 });
});
