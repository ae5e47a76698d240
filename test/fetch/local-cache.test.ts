import * as nodeFiles from 'node:fs/promises';
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { limits } from '../../src/base/index.js';
import { LocalCache, type CacheFiles } from '../../src/fetch/local-cache.js';
import { decodeEntryHeader, encodeEntryHeader, entryHeaderBytes } from '../../src/fetch/local-cache/entry.js';
import { entryPath } from '../../src/fetch/local-cache/layout.js';
import { DamagedObject, type BlobKind } from '../../src/repo/index.js';
import {
  contentOf,
  ManualClock,
  packIdOf,
  repositoryId,
  sameBytes,
  sealBlob,
  sealer,
  type PackedBlob,
} from './support.js';

const kinds: readonly BlobKind[] = ['chunk', 'map-node', 'manifest'];

function blobOf(number: number, lengthBytes = 5000, packNumber = 1): PackedBlob {
  return sealBlob(contentOf(number, lengthBytes), {
    packId: packIdOf(packNumber),
    counter: number + 1,
    offsetBytes: 28 + number * 10_000,
  });
}

function put(cache: LocalCache, { reference, kind, sealed }: PackedBlob): Promise<boolean> {
  return cache.put(reference, kind, sealed);
}

/** What a reader of the cache gets in the end: verified plaintext, or nothing. */
async function openFrom(cache: LocalCache, { reference, kind }: PackedBlob): Promise<Uint8Array | undefined> {
  const cached = await cache.get(reference, kind);
  if (cached === undefined) return undefined;
  try {
    return sealer.open(cached.sealed, cached.reference, kind);
  } catch (error) {
    if (!(error instanceof DamagedObject)) throw error;
    await cache.discardDamaged(reference, kind);
    return undefined;
  }
}

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: it failed`), { code, syscall: 'write' });
}

t.test('an entry that cannot be read for want of a descriptor is not deleted', async (t) => {
  const path = t.testdir();
  let shortage: Error | undefined;
  const files: CacheFiles = {
    ...nodeFiles,
    open: (file, flags, mode) =>
      shortage === undefined ? nodeFiles.open(file, flags, mode) : Promise.reject(shortage),
  };
  const cache = await LocalCache.open({
    repositoryId,
    path,
    limitBytes: 1e6,
    clock: new ManualClock(),
    files,
  });
  const blob = blobOf(1);
  t.equal(await put(cache, blob), true);
  shortage = systemError('EMFILE');
  t.equal(await openFrom(cache, blob), undefined);
  shortage = undefined;
  t.ok(await openFrom(cache, blob));
  await cache[Symbol.asyncDispose]();
});

t.test('a header says what it was made of, and nothing else is one', (t) => {
  fc.assert(
    fc.property(
      fc.constantFrom(...kinds),
      fc.nat(),
      fc.nat({ max: 0xffff_ffff }),
      fc.nat({ max: entryHeaderBytes * 8 - 1 }),
      (kind, counter, sealedBytes, bit) => {
        const { reference } = blobOf(3, 10);
        const bytes = encodeEntryHeader({ ...reference, counter, sealedBytes }, kind);
        const { packId, id } = reference;
        const expected = JSON.stringify({ kind, packId, counter, id, sealedBytes });
        if (JSON.stringify(decodeEntryHeader(bytes)) !== expected) throw new Error('not what it was made of');
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        if (JSON.stringify(decodeEntryHeader(bytes)) === expected)
          throw new Error('a flipped bit went unseen');
      },
    ),
  );
  t.equal(decodeEntryHeader(new Uint8Array(entryHeaderBytes)), undefined);
  t.equal(decodeEntryHeader(new Uint8Array(entryHeaderBytes - 1)), undefined);
  t.end();
});

t.test('what was put is there, also after a restart and for another process', async (t) => {
  const options = {
    repositoryId,
    path: join(t.testdir(), 'cache'),
    limitBytes: 1e6,
    clock: new ManualClock(),
  };
  const blob = blobOf(1);
  const first = await LocalCache.open(options);
  t.equal(first.has(blob.reference, 'chunk'), false);
  t.equal(await openFrom(first, blob), undefined);
  t.equal(await put(first, blob), true);
  t.equal(await put(first, blob), true, 'twice is once');
  t.equal(first.status().usedBytes, 8192);
  t.equal(first.has(blob.reference, 'chunk'), true);
  t.equal(first.has(blob.reference, 'manifest'), false, 'another kind is another blob');
  const second = await LocalCache.open(options);
  t.ok(sameBytes(await openFrom(second, blob), blob.plaintext));
  await first[Symbol.asyncDispose]();
  await first[Symbol.asyncDispose]();
  t.equal(await put(first, blobOf(2)), false, 'closed');
  await second[Symbol.asyncDispose]();
  const third = await LocalCache.open(options);
  t.equal(third.status().usedBytes, 8192, 'the record is kept');
  t.ok(sameBytes(await openFrom(third, blob), blob.plaintext));
  await third[Symbol.asyncDispose]();
});

t.test('a blob that was sealed in another pack opens where it lies', async (t) => {
  const cache = await LocalCache.open({
    repositoryId,
    path: t.testdir(),
    limitBytes: 1e6,
    clock: new ManualClock(),
  });
  const plaintext = contentOf(1, 3000);
  const here = sealBlob(plaintext, { packId: packIdOf(1), counter: 1, offsetBytes: 28 });
  const there = sealBlob(plaintext, { packId: packIdOf(2), counter: 9, offsetBytes: 12345 });
  await put(cache, here);
  t.ok(sameBytes(await openFrom(cache, there), plaintext));

  // Compressed by somebody else, it may even have another length.
  const longer = { ...there, reference: { ...there.reference, sealedBytes: there.sealed.length - 100 } };
  t.ok(sameBytes(await openFrom(cache, longer), plaintext));
  await cache[Symbol.asyncDispose]();
});

t.test('an entry that is torn or foreign is a miss, counted and gone', async (t) => {
  const path = t.testdir();
  const cache = await LocalCache.open({ repositoryId, path, limitBytes: 1e6, clock: new ManualClock() });
  const blob = blobOf(1);
  const file = entryPath(path, blob.reference.id, 'chunk');
  const whole = Buffer.concat([encodeEntryHeader(blob.reference, 'chunk'), blob.sealed]);
  const other = blobOf(2);
  const damages: Record<string, Uint8Array> = {
    empty: new Uint8Array(0),
    'half a header': whole.subarray(0, 20),
    'only a header': whole.subarray(0, entryHeaderBytes),
    'one byte short': whole.subarray(0, -1),
    'zeros of the right length': Buffer.alloc(whole.length),
    'another blob': Buffer.concat([encodeEntryHeader(other.reference, 'chunk'), other.sealed]),
    'another kind': Buffer.concat([encodeEntryHeader(blob.reference, 'manifest'), blob.sealed]),
    'a later format': Buffer.concat([whole.subarray(0, 9), Buffer.from([2]), whole.subarray(10)]),
    'an absurd length': Buffer.concat([whole.subarray(0, 12), Buffer.alloc(4, 0xff), whole.subarray(16)]),
    'a flipped bit in the data': whole.map((byte, at) => (at === 3000 ? byte ^ 1 : byte)),
    'a flipped bit in the pack id': whole.map((byte, at) => (at === 30 ? byte ^ 1 : byte)),
    'a flipped bit in the counter': whole.map((byte, at) => (at === 23 ? byte ^ 1 : byte)),
  };
  let expected = 0;
  for (const [name, bytes] of Object.entries(damages)) {
    await put(cache, blob);
    writeFileSync(file, bytes);
    t.equal(await openFrom(cache, blob), undefined, name);
    expected += 1;
    t.equal(cache.status().damagedEntries, expected, `${name}: counted`);
    t.equal(existsSync(file), false, `${name}: gone`);
  }
  await put(cache, blob);
  t.ok(sameBytes(await openFrom(cache, blob), blob.plaintext));
  await cache[Symbol.asyncDispose]();
});

t.test('a full disk costs no read: it is counted, and adding pauses', async (t) => {
  const clock = new ManualClock();
  let isFull = true;
  let opened = 0;
  const files: CacheFiles = {
    ...nodeFiles,
    open: async (path, flags, mode) => {
      opened += 1;
      if (isFull && flags === 'wx') throw systemError('ENOSPC');
      return nodeFiles.open(path, flags, mode);
    },
  };
  const path = t.testdir();
  const cache = await LocalCache.open({ repositoryId, path, limitBytes: 1e6, clock, files });
  const blob = blobOf(1);
  t.equal(await put(cache, blob), false);
  t.match(cache.status(), { diskErrors: 1, lastDiskError: /ENOSPC/, pausedUntil: Date });
  t.equal(await put(cache, blob), false);
  t.equal(opened, 1, 'the disk is left alone meanwhile');
  t.equal(await openFrom(cache, blob), undefined);
  isFull = false;
  clock.advance(60_000);
  t.equal(cache.status().pausedUntil, undefined);
  t.equal(await put(cache, blob), true);
  t.ok(sameBytes(await openFrom(cache, blob), blob.plaintext));
  await cache[Symbol.asyncDispose]();
});

t.test('a disk that takes a part, or fails later, leaves nothing behind', async (t) => {
  const path = t.testdir();
  let fault: 'short write' | 'close' | 'rename' = 'short write';
  const files: CacheFiles = {
    ...nodeFiles,
    open: async (file, flags, mode) => {
      const handle = await nodeFiles.open(file, flags, mode);
      if (flags !== 'wx') return handle;
      return new Proxy(handle, {
        get(target, name) {
          if (fault === 'short write' && name === 'writev') {
            return (parts: Uint8Array[]) => target.writev([parts[0]!.subarray(0, 10)], 0);
          }
          const value: unknown = Reflect.get(target, name);
          if (name === 'close') {
            return async () => {
              await target.close();
              if (fault === 'close') throw systemError('EIO');
            };
          }
          return typeof value === 'function' ? (value.bind(target) as unknown) : value;
        },
      });
    },
    rename: async (from, to) => {
      if (fault === 'rename') throw systemError('EROFS');
      await nodeFiles.rename(from, to);
    },
  };
  for (fault of ['short write', 'close', 'rename'] as const) {
    const cache = await LocalCache.open({
      repositoryId,
      path,
      limitBytes: 1e6,
      clock: new ManualClock(),
      files,
    });
    t.equal(await put(cache, blobOf(1)), false, fault);
    t.equal(cache.status().diskErrors, 1, fault);
    t.equal(cache.has(blobOf(1).reference, 'chunk'), false, fault);
    t.strictSame(readdirSync(join(path, 'tmp')), [], fault);
    await cache[Symbol.asyncDispose]();
  }
});

t.test('an entry that cannot be read is a miss, and makes room for one that can', async (t) => {
  let isBroken = false;
  const files: CacheFiles = {
    ...nodeFiles,
    open: async (path, flags, mode) => {
      if (isBroken && flags === 'r') throw systemError('EIO');
      return nodeFiles.open(path, flags, mode);
    },
  };
  const cache = await LocalCache.open({
    repositoryId,
    path: t.testdir(),
    limitBytes: 1e6,
    clock: new ManualClock(),
    files,
  });
  const blob = blobOf(1);
  await put(cache, blob);
  isBroken = true;
  t.equal(await cache.get(blob.reference, 'chunk'), undefined);
  t.equal(cache.has(blob.reference, 'chunk'), false);
  t.equal(cache.status().diskErrors, 1);
  await cache[Symbol.asyncDispose]();
});

t.test('a cache that cannot even be made misses everything', async (t) => {
  const path = join(t.testdir({ file: 'not a directory' }), 'file', 'cache');
  const cache = await LocalCache.open({ repositoryId, path, limitBytes: 1e6, clock: new ManualClock() });
  t.equal(cache.has(blobOf(1).reference, 'chunk'), false);
  t.equal(await openFrom(cache, blobOf(1)), undefined);
  t.equal(await put(cache, blobOf(1)), false);
  t.ok(cache.status().diskErrors > 0);
  await cache[Symbol.asyncDispose]();
});

t.test('somebody deletes the directory: the cache goes on', async (t) => {
  const path = join(t.testdir(), 'cache');
  const cache = await LocalCache.open({ repositoryId, path, limitBytes: 1e6, clock: new ManualClock() });
  await put(cache, blobOf(1));
  await nodeFiles.rm(path, { recursive: true });
  t.equal(await openFrom(cache, blobOf(1)), undefined);
  t.equal(await put(cache, blobOf(1)), true);
  t.ok(sameBytes(await openFrom(cache, blobOf(1)), blobOf(1).plaintext));
  await cache.settled();
  await cache[Symbol.asyncDispose]();
});

t.test('what does not fit the limit is not kept', async (t) => {
  const cache = await LocalCache.open({
    repositoryId,
    path: t.testdir(),
    limitBytes: 4096,
    clock: new ManualClock(),
  });
  t.equal(await put(cache, blobOf(1, 5000)), false);
  t.equal(cache.status().diskErrors, 0);
  await cache[Symbol.asyncDispose]();
});

t.test('the use of an entry is noted on disk, now and then', async (t) => {
  const clock = new ManualClock();
  const path = t.testdir();
  let touches = 0;
  const files: CacheFiles = {
    ...nodeFiles,
    utimes: async (...args) => {
      await nodeFiles.utimes(...args);
      touches += 1;
    },
  };
  const cache = await LocalCache.open({ repositoryId, path, limitBytes: 1e6, clock, files });
  const blob = blobOf(1);
  await put(cache, blob);
  await openFrom(cache, blob);
  t.equal(touches, 0, 'it was just written');
  clock.advance(6 * 60_000);
  const usedAt = clock.now();
  await openFrom(cache, blob);
  await openFrom(cache, blob);
  t.equal(touches, 0, 'whoever uses it does not wait for that');
  clock.advance(limits.localCacheUseDelayMs);
  while (touches === 0) await new Promise((resolve) => setImmediate(resolve));
  t.equal(touches, 1);
  t.equal(statSync(entryPath(path, blob.reference.id, 'chunk')).mtimeMs, usedAt);
  clock.advance(6 * 60_000);
  await openFrom(cache, blob);
  await cache[Symbol.asyncDispose]();
  t.equal(touches, 2, 'what was not written yet is written at the end');
});

t.test('random use, damage and restarts: never wrong data, never beyond the limit', async (t) => {
  const blobs = Array.from({ length: 24 }, (_, number) => blobOf(number, 1000 + number * 300));
  const limitBytes = 40 * 1024;
  const directory = t.testdir();
  const step = fc.record({
    do: fc.constantFrom('put', 'put', 'put', 'put', 'put', 'get', 'get', 'delete', 'flip', 'cut', 'restart'),
    blob: fc.nat({ max: blobs.length - 1 }),
    place: fc.nat(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 80 }), async (steps) => {
      const path = await nodeFiles.mkdtemp(join(directory, 'random-'));
      const clock = new ManualClock();
      let cache = await LocalCache.open({ repositoryId, path, limitBytes, clock });
      for (const action of steps) {
        clock.advance(1000);
        const blob = blobs[action.blob]!;
        const file = entryPath(path, blob.reference.id, 'chunk');
        if (action.do === 'put') {
          await put(cache, blob);
          await cache.settled();
          const usedBytes = await diskUse(path);
          if (usedBytes > limitBytes) throw new Error(`${usedBytes} bytes`);
        } else if (action.do === 'delete') await cache.delete(blob.reference, 'chunk');
        else if (action.do === 'restart') {
          await cache[Symbol.asyncDispose]();
          cache = await LocalCache.open({ repositoryId, path, limitBytes, clock });
        } else if (action.do === 'get') {
          const found = await openFrom(cache, blob);
          if (found !== undefined && !sameBytes(found, blob.plaintext)) throw new Error('wrong data');
        } else if (existsSync(file)) {
          const bytes = await nodeFiles.readFile(file);
          const at = action.place % bytes.length;
          bytes[at]! ^= 0x10;
          await nodeFiles.writeFile(file, action.do === 'cut' ? bytes.subarray(0, at) : bytes);
        }
      }
      await cache[Symbol.asyncDispose]();
      await nodeFiles.rm(path, { recursive: true });
    }),
    { numRuns: 40 },
  );
  t.pass('held');
});

async function diskUse(path: string): Promise<number> {
  const files = await nodeFiles.readdir(path, { recursive: true, withFileTypes: true });
  return files
    .filter((file) => file.isFile() && file.name.endsWith('.chunk'))
    .reduce((sum, file) => sum + Math.ceil(statSync(join(file.parentPath, file.name)).size / 4096) * 4096, 0);
}
