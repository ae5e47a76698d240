import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { Cancelled, limits } from '../../src/base/index.js';
import { openOverlay, rootInode, type HandleId, type VmFileSystem } from '../../src/fs/index.js';
import { chunkBytes, FakeVersion, manifestOf } from './support/fake-version.js';
import { errnoOf, openPath, openTree, readAll, temporaryDirectory } from './support/open-file-system.js';
import { publishInto } from './support/publish.js';

const pageBytes = 4096;
const pagesPerChunk = chunkBytes / pageBytes;

type Edit =
  | { readonly kind: 'write' | 'punchHole' | 'zeroRange'; readonly offset: number; readonly length: number }
  | { readonly kind: 'resize'; readonly offset: number };

/** What a page is; one that was made zero in part may count as either. */
type PageState = 'data' | 'hole' | 'either';

/** Which pages hold data: what a file system that knows each page would say. */
class Table {
  readonly pages: PageState[];
  sizeBytes: number;

  constructor(chunks: readonly boolean[], sizeBytes: number) {
    const pages = Math.ceil(sizeBytes / pageBytes);
    const isData = (page: number) => chunks[Math.floor(page / pagesPerChunk)] === true;
    this.pages = Array.from({ length: pages }, (_, page) => (isData(page) ? 'data' : 'hole'));
    this.sizeBytes = sizeBytes;
  }

  apply(edit: Edit): void {
    if (edit.kind === 'resize') {
      this.#resize(edit.offset);
      return;
    }
    const end = edit.offset + edit.length;
    if (edit.kind === 'write') {
      this.#resize(Math.max(this.sizeBytes, end));
      for (let page = Math.floor(edit.offset / pageBytes); page * pageBytes < end; page++)
        this.pages[page] = 'data';
      return;
    }
    const size = this.sizeBytes;
    // The end of the file is the end of its last page.
    const covered = end >= size ? Math.ceil(size / pageBytes) * pageBytes : end;
    for (let page = Math.floor(edit.offset / pageBytes); page * pageBytes < covered; page++) {
      if (page >= this.pages.length) break;
      const whole = page * pageBytes >= edit.offset && (page + 1) * pageBytes <= covered;
      this.pages[page] = whole ? 'hole' : 'either';
    }
    if (edit.kind === 'zeroRange') this.#resize(Math.max(size, end));
  }

  /** Whether a search may have this answer; undefined stands for `ENXIO`. */
  allows(sought: 'data' | 'hole', offset: number, found: number | undefined): boolean {
    if (offset >= this.sizeBytes) return found === undefined;
    const passedOver = this.pages.slice(
      Math.floor(offset / pageBytes),
      found === undefined ? undefined : Math.floor(found / pageBytes),
    );
    if (passedOver.includes(sought)) return false;
    if (found === undefined) return sought === 'data';
    if (found >= this.sizeBytes) return sought === 'hole' && found === this.sizeBytes;
    const isPlace = found === offset || (found > offset && found % pageBytes === 0);
    const state = this.pages[Math.floor(found / pageBytes)];
    return isPlace && (state === sought || state === 'either');
  }

  #resize(sizeBytes: number): void {
    const pages = Math.ceil(sizeBytes / pageBytes);
    while (this.pages.length < pages) this.pages.push('hole');
    this.pages.length = pages;
    // What follows the new end in its page is made zero.
    if (sizeBytes < this.sizeBytes && sizeBytes % pageBytes !== 0 && this.pages[pages - 1] === 'hole') {
      this.pages[pages - 1] = 'either';
    }
    this.sizeBytes = sizeBytes;
  }
}

async function apply(fileSystem: VmFileSystem, handle: HandleId, edit: Edit): Promise<void> {
  if (edit.kind === 'write') await fileSystem.write(handle, edit.offset, Buffer.alloc(edit.length, 0xaa));
  else if (edit.kind === 'resize') {
    await fileSystem.setAttributes(fileSystem.inodeOf(handle), { sizeBytes: edit.offset });
  } else await fileSystem.allocate(handle, edit.kind, edit.offset, edit.length);
}

async function compare(fileSystem: VmFileSystem, handle: HandleId, table: Table): Promise<void> {
  for (let page = 0; page <= table.pages.length; page += 1) {
    for (const offset of [page * pageBytes, page * pageBytes + 77]) {
      for (const whence of ['data', 'hole'] as const) {
        const found = await Promise.resolve()
          .then(() => fileSystem.seek(handle, offset, whence))
          .catch(() => undefined);
        assert.ok(table.allows(whence, offset, found), `${whence} from ${offset}: ${found}`);
      }
    }
  }
  const content = await readAll(fileSystem, handle);
  table.pages.forEach((state, page) => {
    const bytes = content.subarray(page * pageBytes, (page + 1) * pageBytes);
    if (state === 'hole')
      assert.ok(
        bytes.every((byte) => byte === 0),
        `page ${page} is a hole`,
      );
  });
}

const place = fc.oneof(
  fc.nat(24 * pageBytes),
  fc.nat(24).map((page) => page * pageBytes),
);
const edits = fc.array(
  fc.oneof(
    fc.record({
      kind: fc.constantFrom('write' as const, 'punchHole' as const, 'zeroRange' as const),
      offset: place,
      length: place.map((bytes) => bytes + 1),
    }),
    fc.record({ kind: fc.constant('resize' as const), offset: place }),
  ),
  { maxLength: 12 },
);

t.test('data and holes are where a table of all pages has them', async (t) => {
  const chunks = fc.array(fc.boolean(), { minLength: 5, maxLength: 5 });
  const size = fc.integer({ min: 1, max: 5 * chunkBytes });
  await fc.assert(
    fc.asyncProperty(chunks, size, edits, fc.constantFrom(0, 1, 2), (chunks, size, edits, share) =>
      run(t, chunks, size, edits, share),
    ),
    { numRuns: 200 },
  );
  t.pass('for all files');
});

async function run(
  t: Test,
  chunks: readonly boolean[],
  sizeBytes: number,
  edits: readonly Edit[],
  share: number,
): Promise<void> {
  const directory = temporaryDirectory(t);
  const version = new FakeVersion();
  version.inMemory = (offset) => (offset / chunkBytes) % 2 < share;
  const base = Buffer.concat(chunks.map((isData) => Buffer.alloc(chunkBytes, isData ? 0x55 : 0)));
  const table = new Table(chunks, sizeBytes);
  const tree = { disk: { file: version.addFile(base.subarray(0, sizeBytes), sizeBytes) } };
  const options = {
    directory: join(directory, 'overlay'),
    base: { manifest: manifestOf(tree), identity: '1' },
    openFile: version.openFile,
  };
  let fileSystem = await openOverlay(options);
  try {
    let handle = await openPath(fileSystem, 'disk');
    await compare(fileSystem, handle, table);
    for (const edit of edits) {
      await apply(fileSystem, handle, edit);
      table.apply(edit);
    }
    await compare(fileSystem, handle, table);
    await fileSystem.close();
    fileSystem = await openOverlay(options);
    handle = await openPath(fileSystem, 'disk');
    await compare(fileSystem, handle, table);
  } finally {
    await fileSystem.close();
    rmSync(directory, { recursive: true });
  }
}

t.test('a search that waits goes on with the file as it is then', async (t) => {
  const { fileSystem, version } = await openTree(t, (version) => ({
    disk: { file: version.addFile(Buffer.alloc(100, 1), 40 * chunkBytes) },
  }));
  const handle = await openPath(fileSystem, 'disk');
  let go: () => void = () => undefined;
  version.inMemory = () => false;
  version.beforeRead = () => new Promise((resolve) => (go = resolve));
  const cut = fileSystem.seek(handle, chunkBytes, 'data');
  await fileSystem.setAttributes(fileSystem.inodeOf(handle), { sizeBytes: chunkBytes });
  go();
  t.equal(await errnoOf(() => cut), 'ENXIO', 'it became shorter');
  await fileSystem.setAttributes(fileSystem.inodeOf(handle), { sizeBytes: 40 * chunkBytes });

  // Published meanwhile: what the old base said does not count.
  const search = fileSystem.seek(handle, 0, 'data');
  fileSystem.freeze({ force: true });
  version.inMemory = () => true;
  const waiting = go;
  version.beforeRead = () => Promise.resolve();
  const files = await publishInto(version, fileSystem.publishSource(chunkBytes));
  await fileSystem.rebase('2', files);
  fileSystem.thaw();
  waiting();
  t.equal(await search, 0);
});

t.test('a failed search is an error, and can be interrupted', async (t) => {
  const { fileSystem, version, errors } = await openTree(t, (version) => ({
    disk: { file: version.addFile(Buffer.alloc(100, 1), 40 * chunkBytes) },
  }));
  const handle = await openPath(fileSystem, 'disk');
  version.inMemory = () => false;
  version.beforeRead = () => Promise.reject(new Error('damaged'));
  t.equal(await errnoOf(() => fileSystem.seek(handle, 0, 'hole')), 'EIO');
  t.equal(errors.length, 1);
  const { signal } = new AbortController();
  version.beforeRead = ({ options }) => {
    t.equal(options.signal, signal);
    return Promise.reject(new Cancelled('The search'));
  };
  t.equal(await errnoOf(() => fileSystem.seek(handle, 0, 'data', signal)), 'EINTR');
});

t.test('a search through many runs of pages takes turns', async (t) => {
  const { fileSystem } = await openTree(t, () => ({}));
  const { handle } = await fileSystem.create(rootInode, 'file', 0o600, 2, { uid: 0, gid: 0 });
  const runs = limits.pageRunsPerTurn + 10;
  for (let run = 0; run < runs; run += 1) {
    await fileSystem.write(handle, 2 * run * pageBytes, Buffer.alloc(pageBytes, 1));
  }
  // Holes of the overlay's own, and pages without data: all are looked at, and none is a hole.
  for (let run = 0; run < runs; run += 1) {
    await fileSystem.write(handle, (2 * run + 1) * pageBytes, Buffer.alloc(pageBytes));
  }
  t.equal(await fileSystem.seek(handle, 0, 'hole'), 2 * runs * pageBytes);
});
