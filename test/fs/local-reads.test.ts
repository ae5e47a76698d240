import assert from 'node:assert/strict';
import { once } from 'node:events';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { limits } from '../../src/base/index.js';
import { openOverlay, type VmFileSystem } from '../../src/fs/index.js';
import { LocalReader, unknownLocally } from '../../src/resident/index.js';
import { manifestOf } from './support/fake-version.js';
import type { HammerData, HammerResult } from './support/hammer-reads.js';
import { openPath, temporaryDirectory } from './support/open-file-system.js';
import { residentChunkBytes, ResidentVersion } from './support/resident-version.js';

const chunks = 6;
const baseBytes = (chunks - 1) * residentChunkBytes + 5000;

/** Each chunk has bytes of its own; one is a hole. */
function baseContent(seed: number): Buffer {
  const content = Buffer.alloc(baseBytes);
  for (let at = 0; at < baseBytes; at += 1) content[at] = (at >>> 9) * 7 + (at >>> 17) * 31 + seed;
  return content.fill(0, 2 * residentChunkBytes, 3 * residentChunkBytes);
}

interface Lab {
  readonly fileSystem: VmFileSystem;
  readonly version: ResidentVersion;
  readonly reader: LocalReader;
  readonly names: readonly string[];
}

async function openLab(t: Test, cells: number): Promise<Lab> {
  const version = new ResidentVersion(cells);
  const tree = {
    a: { file: version.addFile(baseContent(1)) },
    b: { file: version.addFile(baseContent(2)) },
  };
  const fileSystem = await openOverlay({
    directory: join(temporaryDirectory(t), 'overlay'),
    base: { manifest: manifestOf(tree), identity: '1' },
    openFile: version.openFile,
    chunkMemory: version.memory.shared,
    bootId: 'boot 1',
  });
  return { fileSystem, version, reader: new LocalReader(fileSystem.shareReads()), names: ['a', 'b'] };
}

type Event =
  | {
      readonly kind: 'read' | 'write' | 'zero' | 'resize';
      readonly file: number;
      readonly at: number;
      readonly length: number;
    }
  | { readonly kind: 'publish' };

const sizeMax = baseBytes + 3 * residentChunkBytes;
/** Near borders of pages and windows, where mistakes are. */
const place = fc.oneof(
  fc.nat(sizeMax),
  fc
    .tuple(fc.nat(8), fc.integer({ min: -2, max: 2 }))
    .map(([chunk, by]) => Math.max(chunk * residentChunkBytes + by, 0)),
  fc.tuple(fc.nat(260), fc.integer({ min: -2, max: 2 })).map(([page, by]) => Math.max(page * 4096 + by, 0)),
);
const lengths = fc.oneof(
  fc.constant(4096),
  fc.integer({ min: 1, max: 300_000 }),
  fc.integer({ min: 1, max: 5000 }),
);
const event: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 20,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        'read' as const,
        'read' as const,
        'write' as const,
        'zero' as const,
        'resize' as const,
      ),
      file: fc.nat(1),
      at: place,
      length: lengths,
    }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: 'publish' as const }) },
);

t.test('what another thread answers is what the file system answers', async (t) => {
  let answered = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(event, { maxLength: 60, size: 'max' }), async (events) => {
      answered += await compare(t, events);
    }),
    { numRuns: 40 },
  );
  t.ok(answered > 1000, `${answered} reads were answered locally`);
});

/** Answers how many reads the reader knew. */
async function compare(t: Test, events: readonly Event[]): Promise<number> {
  const { fileSystem, version, reader, names } = await openLab(t, 3);
  const handles = await Promise.all(names.map((name) => openPath(fileSystem, name)));
  const models = names.map((_, index) => baseContent(index + 1));
  let answered = 0;
  const check = (file: number, at: number, length: number): void => {
    const handle = handles[file]!;
    const into = Buffer.alloc(length, 0xee);
    const count = reader.read(fileSystem.inodeOf(handle), at, into);
    if (count === unknownLocally) return;
    answered += 1;
    assert.ok(
      into.subarray(0, count).equals(models[file]!.subarray(at, at + length)),
      `${file} ${at} ${length}`,
    );
  };
  try {
    for (const event of events) {
      if (event.kind === 'publish') {
        fileSystem.freeze({ force: true });
        const files = new Map(
          models.map((model, file) => [fileSystem.inodeOf(handles[file]!), version.addFile(model)]),
        );
        await fileSystem.rebase('2', files);
        fileSystem.thaw();
      } else {
        const { kind, file, at, length } = event;
        const handle = handles[file]!;
        const model = models[file]!;
        switch (kind) {
          case 'read':
            await fileSystem.read(handle, at, Buffer.alloc(length), 'demand');
            break;
          case 'write': {
            const data = Buffer.alloc(length, at + length);
            await fileSystem.write(handle, at, data);
            models[file] = Buffer.concat([model, Buffer.alloc(Math.max(at + length - model.length, 0))]);
            data.copy(models[file], at);
            break;
          }
          case 'zero':
            await fileSystem.allocate(handle, 'punchHole', at, length);
            model.fill(0, Math.min(at, model.length), Math.min(at + length, model.length));
            break;
          case 'resize':
            await fileSystem.setAttributes(fileSystem.inodeOf(handle), { sizeBytes: at });
            models[file] = Buffer.concat([
              model.subarray(0, at),
              Buffer.alloc(Math.max(at - model.length, 0)),
            ]);
        }
        check(file, at, length);
        // A second time, when what was read lies in memory.
        await fileSystem.read(handle, at, Buffer.alloc(length), 'demand');
        check(file, at, length);
      }
      for (const file of [0, 1]) {
        for (let at = 0; at < sizeMax; at += residentChunkBytes / 2) check(file, at, 4097);
      }
    }
  } finally {
    await fileSystem.close();
  }
  return answered;
}

t.test('a thread that reads while everything changes never gets bytes of something else', async (t) => {
  const { fileSystem, version, names } = await openLab(t, 2);
  const handles = await Promise.all(names.map((name) => openPath(fileSystem, name)));
  const [a, b] = handles.map((handle) => fileSystem.inodeOf(handle));
  // Every page of the base tells its file and number, every page that is written tells its own in another way.
  const page = Buffer.alloc(4096);
  const stamp = (file: number, number: number, kind: number): Buffer => {
    for (let at = 0; at < 4096; at += 4) page.writeUInt32LE(kind * 2 ** 24 + file * 2 ** 20 + number, at);
    return page;
  };
  const pages = 4 * 32;
  const content = (file: number): Buffer =>
    Buffer.concat(Array.from({ length: pages }, (_, number) => Buffer.from(stamp(file, number, 1))));
  for (const inode of [a!, b!]) await fileSystem.setAttributes(inode, { sizeBytes: pages * 4096 });
  fileSystem.freeze({ force: true });
  await fileSystem.rebase(
    '2',
    new Map([a!, b!].map((inode, file) => [inode, version.addFile(content(file))])),
  );
  fileSystem.thaw();

  const state = new Int32Array(new SharedArrayBuffer(8));
  const workerData: HammerData = { reads: fileSystem.shareReads(), inodes: [a!, b!], pages, state };
  const worker = new Worker(new URL('./support/hammer-reads.js', import.meta.url), { workerData });
  t.teardown(() => worker.terminate());
  await once(worker, 'message');
  const finished = once(worker, 'message') as Promise<[HammerResult]>;
  const into = Buffer.alloc(4096);
  for (let round = 0; round < 6000 || (round < 200_000 && Atomics.load(state, 1) < 20_000); round += 1) {
    const file = round % 2;
    const handle = handles[file]!;
    const number = (round * 7919) % pages;
    await fileSystem.read(handle, number * 4096, into, 'demand');
    if (round % 3 === 0) await fileSystem.write(handle, number * 4096, stamp(file, number, 2));
    if (round % 11 === 0) {
      await fileSystem.setAttributes(fileSystem.inodeOf(handle), { sizeBytes: (number >>> 1) * 4096 });
      await fileSystem.setAttributes(fileSystem.inodeOf(handle), { sizeBytes: pages * 4096 });
    }
    if (round % 500 === 499) {
      fileSystem.freeze({ force: true });
      const files = [a!, b!].map((inode, index) => [inode, version.addFile(content(index))] as const);
      // Not what was published, but right for the test: every page of it is one that the reader accepts.
      await fileSystem.rebase(String(round), new Map(files));
      fileSystem.thaw();
    }
  }
  Atomics.store(state, 0, 1);
  const [{ answered, wrong }] = await finished;
  await fileSystem.close();
  t.equal(wrong, undefined);
  t.ok(answered > 1000, `${answered} pages were answered`);
});

t.test('the table is as large as its limit says', (t) => {
  t.equal(Math.log2(limits.localReadWindows) % 1, 0, 'a power of two');
  t.end();
});
