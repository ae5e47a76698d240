import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { openOverlay, rootInode, type HandleId, type VmFileSystem } from '../../src/fs/index.js';
import { Journal } from '../../src/fs/journal.js';
import { FakeVersion, manifestOf } from './support/fake-version.js';
import { readWrite, temporaryDirectory } from './support/open-file-system.js';

const pageBytes = 4096;
const names = ['one', 'two'] as const;

type Change = { readonly file: number } & (
  | { readonly kind: 'write'; readonly offset: number; readonly length: number }
  | { readonly kind: 'punch'; readonly offset: number; readonly length: number }
  | { readonly kind: 'resize'; readonly size: number }
);

const place = fc.oneof(
  fc.nat(6).map((page) => page * pageBytes),
  fc.nat(6 * pageBytes),
);
const length = place.map((bytes) => bytes + 1);
const change: fc.Arbitrary<Change> = fc.oneof(
  fc.record({ kind: fc.constant('write' as const), file: fc.nat(1), offset: place, length }),
  fc.record({ kind: fc.constant('write' as const), file: fc.nat(1), offset: place, length }),
  fc.record({ kind: fc.constant('punch' as const), file: fc.nat(1), offset: place, length }),
  fc.record({ kind: fc.constant('resize' as const), file: fc.nat(1), size: place }),
);

/** What a file may hold after power loss: what was flushed, and what each page was at any time after that. */
interface Expected {
  sizeBytes: number;
  pages: Set<string>[];
}

t.test('what was flushed survives power loss, and pages hold nothing that was never there', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        before: fc.array(change, { maxLength: 6 }),
        /** Each part is followed by a flush of the first file alone. */
        between: fc.array(fc.array(change, { maxLength: 4 }), { maxLength: 2 }),
        dataOnly: fc.boolean(),
        after: fc.array(change, { maxLength: 6 }),
        /** Of each page and of the journal's end: whether it reached the disk. */
        luck: fc.array(fc.nat(1000), { minLength: 40, maxLength: 40 }),
      }),
      (scenario) => run(t, scenario),
    ),
    { numRuns: 60 },
  );
  t.pass('for all scenarios');
});

async function run(
  t: Test,
  scenario: {
    readonly before: readonly Change[];
    readonly between: readonly (readonly Change[])[];
    readonly dataOnly: boolean;
    readonly after: readonly Change[];
    readonly luck: readonly number[];
  },
): Promise<void> {
  const directory = temporaryDirectory(t);
  const version = new FakeVersion();
  const manifest = manifestOf({
    one: { file: version.addFile(randomBytes(3 * pageBytes + 100)) },
    two: { file: version.addFile(randomBytes(2 * pageBytes)) },
  });
  const open = (path: string, bootId: string): Promise<VmFileSystem> =>
    openOverlay({
      directory: path,
      base: { manifest, identity: '1' },
      openFile: version.openFile,
      bootId,
      onError: (error) => {
        throw error;
      },
    });
  const overlay = join(directory, 'overlay');
  const fileSystem = await open(overlay, 'boot 1');
  const subject = new Subject(fileSystem);
  subject.apply(scenario.before);
  await fileSystem.flush();
  subject.expectOnlyNow(0);
  subject.expectOnlyNow(1);
  const flushed = join(directory, 'flushed');
  cpSync(overlay, flushed, { recursive: true });

  // One file is flushed alone: the other's data may still be lost, while records after it may be durable.
  const handle = subject.handles[0] as HandleId;
  const dataOfFlushed = join('data', String(fileSystem.inodeOf(handle)));
  for (const changes of scenario.between) {
    subject.apply(changes);
    await fileSystem.fsync(handle, scenario.dataOnly);
    subject.expectOnlyNow(0);
    subject.expectMixture(1);
    if (existsSync(join(overlay, dataOfFlushed))) {
      cpSync(join(overlay, dataOfFlushed), join(flushed, dataOfFlushed), { force: true });
    }
  }
  const durableBytes = (await Journal.read(join(overlay, 'journal'))).lengthBytes;

  // Within one turn, so that nothing more becomes durable.
  subject.apply(scenario.after);
  const lost = join(directory, 'lost');
  loseHalf({ flushed, latest: overlay, lost, durableBytes, luck: scenario.luck });

  const recovered = await open(lost, 'boot 2');
  try {
    for (const [index, name] of names.entries()) await subject.check(recovered, index, name);
    await recovered.flush();
  } finally {
    await recovered.close();
    await fileSystem.close();
    rmSync(directory, { recursive: true });
  }
}

class Subject {
  readonly handles: readonly HandleId[];
  readonly #fileSystem: VmFileSystem;
  readonly #expected: Expected[] = names.map(() => ({ sizeBytes: 0, pages: [] }));
  #writes = 0;

  constructor(fileSystem: VmFileSystem) {
    this.#fileSystem = fileSystem;
    this.handles = names.map((name) => {
      const handle = fileSystem.open(fileSystem.lookup(rootInode, name).inode, readWrite);
      assert.equal(typeof handle, 'number');
      return handle as HandleId;
    });
    this.expectOnlyNow(0);
    this.expectOnlyNow(1);
  }

  apply(changes: readonly Change[]): void {
    for (const change of changes) {
      const handle = this.handles[change.file] as HandleId;
      const done =
        change.kind === 'write'
          ? this.#fileSystem.write(
              handle,
              change.offset,
              Buffer.alloc(change.length, (this.#writes++ % 250) + 1),
            )
          : change.kind === 'punch'
            ? this.#fileSystem.allocate(handle, 'punchHole', change.offset, change.length)
            : this.#fileSystem.setAttributes(this.#fileSystem.inodeOf(handle), { sizeBytes: change.size });
      assert.ok(!(done instanceof Promise), 'everything is in memory');
      this.#pagesNow(change.file).forEach((page, index) => {
        const { pages } = this.#expected[change.file] as Expected;
        (pages[index] ??= new Set()).add(page);
      });
    }
  }

  /** The file was flushed: nothing older may come back. */
  expectOnlyNow(file: number): void {
    this.#expected[file] = {
      sizeBytes: this.#sizeNow(file),
      pages: this.#pagesNow(file).map((page) => new Set([page])),
    };
  }

  /**
   * Names and attributes were flushed with another file: that the file was resized is durable, what was written to it
   * may be lost. So each byte is one that was there at some time, or was cut off.
   */
  expectMixture(file: number): void {
    (this.#expected[file] as Expected).sizeBytes = -1;
  }

  async check(recovered: VmFileSystem, file: number, name: string): Promise<void> {
    const expected = this.#expected[file] as Expected;
    const { inode, sizeBytes } = recovered.lookup(rootInode, name);
    if (expected.sizeBytes >= 0) assert.equal(sizeBytes, expected.sizeBytes, `size of ${name}`);
    const handle = await recovered.open(inode, readWrite);
    const pages = await readPages(recovered, handle, sizeBytes);
    pages.forEach((page, index) => {
      const found = Buffer.from(page, 'latin1');
      const used = Math.min(sizeBytes - index * pageBytes, pageBytes);
      const possible = [...(expected.pages[index] ?? [])].map((each) => Buffer.from(each, 'latin1'));
      const fits =
        expected.sizeBytes >= 0
          ? possible.some((each) => each.subarray(0, used).equals(found.subarray(0, used)))
          : found.every((byte, at) => byte === 0 || possible.some((each) => each[at] === byte));
      assert.ok(fits, `page ${index} of ${name} holds ${found.toString('hex', 0, 8)}`);
    });
    await recovered.setAttributes(inode, { sizeBytes: sizeBytes + 2 * pageBytes });
    const grown = Buffer.concat(
      (await readPages(recovered, handle, sizeBytes + 2 * pageBytes)).map((page) =>
        Buffer.from(page, 'latin1'),
      ),
    );
    assert.ok(
      grown.subarray(sizeBytes).every((byte) => byte === 0),
      `${name} shows something after its end`,
    );
    recovered.release(handle);
  }

  #sizeNow(file: number): number {
    const handle = this.handles[file] as HandleId;
    return this.#fileSystem.getAttributes(this.#fileSystem.inodeOf(handle)).sizeBytes;
  }

  #pagesNow(file: number): string[] {
    const pages: string[] = [];
    for (let offset = 0; offset < this.#sizeNow(file); offset += pageBytes) {
      const into = Buffer.alloc(pageBytes);
      assert.equal(
        typeof this.#fileSystem.read(this.handles[file] as HandleId, offset, into, 'demand'),
        'number',
      );
      pages.push(into.toString('latin1'));
    }
    return pages;
  }
}

async function readPages(fileSystem: VmFileSystem, handle: HandleId, sizeBytes: number): Promise<string[]> {
  const pages: string[] = [];
  for (let offset = 0; offset < sizeBytes; offset += pageBytes) {
    const into = Buffer.alloc(pageBytes);
    await fileSystem.read(handle, offset, into, 'demand');
    pages.push(into.toString('latin1'));
  }
  return pages;
}

/** What is on the disk after power loss: of everything written since it was synced, any part. */
function loseHalf(options: {
  readonly flushed: string;
  readonly latest: string;
  readonly lost: string;
  readonly durableBytes: number;
  readonly luck: readonly number[];
}): void {
  const { flushed, latest, lost, durableBytes, luck } = options;
  let next = 0;
  const chance = (): number => luck[next++ % luck.length] as number;
  mkdirSync(join(lost, 'data'), { recursive: true });

  const journal = readFileSync(join(latest, 'journal'));
  const kept = durableBytes + Math.floor(((journal.length - durableBytes) * chance()) / 1000);
  writeFileSync(
    join(lost, 'journal'),
    Buffer.concat([journal.subarray(0, kept), Buffer.alloc(chance() * 10)]),
  );

  for (const name of readdirSync(join(latest, 'data'))) {
    const after = readFileSync(join(latest, 'data', name));
    const path = join(flushed, 'data', name);
    const existed = statSync(path, { throwIfNoEntry: false }) !== undefined;
    const before = existed ? readFileSync(path) : Buffer.alloc(0);
    if (!existed && chance() < 300) continue;
    const mixed = Buffer.alloc(Math.max(before.length, after.length));
    before.copy(mixed);
    for (let offset = 0; offset < mixed.length; offset += pageBytes) {
      if (chance() < 500) {
        mixed.fill(0, offset, offset + pageBytes);
        after.subarray(offset, offset + pageBytes).copy(mixed, offset);
      }
    }
    writeFileSync(join(lost, 'data', name), mixed);
  }
}
