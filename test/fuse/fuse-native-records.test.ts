import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import type { Attributes, InodeNumber } from '../../src/fs/index.js';
import { attributesRecord, joinUint64, usageRecord } from '../../src/fuse/fuse-native/records.js';

const word = (words: Uint32Array, index: number) => words[index]!;
const doubleWord = (words: Uint32Array, index: number) =>
  joinUint64(word(words, index), word(words, index + 1));

t.test('attributes come out as they went in, times in milliseconds', async () => {
  const time = fc.bigInt(0n, 2n ** 62n);
  const size = fc.nat(Number.MAX_SAFE_INTEGER);
  fc.assert(
    fc.property(
      size,
      size,
      time,
      time,
      time,
      fc.nat(0xffff_ffff),
      (sizeBytes, blocks, access, modify, change, uid) => {
        const attributes: Attributes = {
          inode: 7 as InodeNumber,
          mode: 0o100644,
          linkCount: 3,
          uid,
          gid: 5,
          sizeBytes,
          blocks,
          accessTimeNs: access,
          modifyTimeNs: modify,
          changeTimeNs: change,
        };
        const words = attributesRecord(attributes);
        assert.equal(words.length, 18);
        assert.deepEqual([word(words, 0), word(words, 1), word(words, 2)], [0o100644, uid, 5]);
        assert.deepEqual([word(words, 6), word(words, 7)], [3, 7]);
        assert.deepEqual([doubleWord(words, 3), doubleWord(words, 10)], [sizeBytes, blocks]);
        assert.deepEqual(
          [doubleWord(words, 12), doubleWord(words, 14), doubleWord(words, 16)],
          [access, modify, change].map((ns) => Number(ns / 1_000_000n)),
        );
      },
    ),
    { numRuns: 50 },
  );
});

t.test('a time before 1970 is shown as 1970', async (t) => {
  const attributes = { accessTimeNs: -1n, modifyTimeNs: -(10n ** 18n), changeTimeNs: 0n };
  const words = attributesRecord({ ...attributes, sizeBytes: 0, blocks: 0 } as Attributes);
  t.same([doubleWord(words, 12), doubleWord(words, 14)], [0, 0]);
});

t.test('usage of any size fits into 32-bit block counts', async () => {
  fc.assert(
    fc.property(fc.nat(2 ** 52), fc.nat(2 ** 52), (availableBytes, usedBytes) => {
      const totalBytes = availableBytes + usedBytes;
      const usage = {
        availableBytes,
        freeBytes: availableBytes,
        usedBytes,
        totalBytes,
        inodes: 9,
        freeInodes: 5,
      };
      const words = usageRecord(usage, 255);
      const unitBytes = word(words, 1);
      const shownTotal = word(words, 2) * unitBytes;
      assert.ok(shownTotal <= totalBytes && totalBytes - shownTotal < unitBytes, 'total');
      const shownAvailable = word(words, 4) * unitBytes;
      assert.ok(shownAvailable <= availableBytes && availableBytes - shownAvailable < unitBytes, 'available');
      assert.deepEqual(
        [5, 6, 7, 10].map((index) => word(words, index)),
        [14, 5, 5, 255],
      );
    }),
    { numRuns: 50 },
  );
});
