/** Changes are stored ahead of a publish, which comes out as it would without. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import t from 'tap';
import { Cancelled, limits } from '../../src/base/index.js';
import { dropLocalChanges, hasPublishBegun, packRecordPath, type VmSession } from '../../src/daemon/index.js';
import { PackRecord } from '../../src/daemon/pack-record.js';
import { Trickle } from '../../src/daemon/trickle/index.js';
import { rootInode, type HandleId, type VmFileSystem } from '../../src/fs/index.js';
import type { PackId } from '../../src/repo/index.js';
import { StoreUnreachable, type ObjectStore } from '../../src/store/index.js';
import { breakMethod, SessionLab } from './session-support.js';

const chunkBytes = 128 * 1024;
const readWrite = 2;
const caller = { uid: 0, gid: 0 };
const hurried = { bytesPerSecond: undefined, quietMs: 2, roundBytesMin: 1 };

/** Bytes of all packs in the store. */
function packBytes(lab: SessionLab): number {
  const directory = join(lab.root, 'store', 'pack');
  const files = readdirSync(directory, { recursive: true, withFileTypes: true });
  return files
    .filter((file) => file.isFile())
    .reduce((sum, file) => sum + statSync(join(file.parentPath, file.name)).size, 0);
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(2);
}

async function withFile<T>(
  fileSystem: VmFileSystem,
  name: string,
  work: (handle: HandleId) => T | Promise<T>,
): Promise<T> {
  const handle = await fileSystem.open(fileSystem.lookup(rootInode, name).inode, readWrite);
  try {
    return await work(handle);
  } finally {
    fileSystem.release(handle);
  }
}

async function writeBytes(fileSystem: VmFileSystem, name: string, at: number, data: Uint8Array) {
  await withFile(fileSystem, name, (handle) => fileSystem.write(handle, at, data));
}

async function readAll(fileSystem: VmFileSystem, name: string): Promise<Buffer> {
  const { sizeBytes } = fileSystem.getAttributes(fileSystem.lookup(rootInode, name).inode);
  const into = Buffer.alloc(sizeBytes);
  await withFile(fileSystem, name, async (handle) => {
    for (let at = 0; at < sizeBytes;) {
      at += Number(await fileSystem.read(handle, at, into.subarray(at), 'demand'));
    }
  });
  return into;
}

async function published(session: VmSession): Promise<number> {
  const { version } = await session.publish({ releaseLease: false });
  if (version === undefined) throw new Error('nothing was published');
  return version;
}

const name = fc.constantFrom('disk', 'text', 'other');
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('write' as const), name, at: fc.nat(5 * chunkBytes), length: fc.integer({ min: 1, max: 2 * chunkBytes }), seed: fc.nat(3) }) }, // prettier-ignore
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('truncate' as const), name, sizeBytes: fc.nat(5 * chunkBytes) }) }, // prettier-ignore
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('zero' as const), name, at: fc.nat(4 * chunkBytes), length: fc.integer({ min: 1, max: 2 * chunkBytes }) }) }, // prettier-ignore
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('replace' as const), name }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('pause' as const), ms: fc.nat(25) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('publish' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('settle' as const) }) },
);

/** Few contents, so that equal chunks and chunks that become what they were occur. */
const contents = Array.from({ length: 4 }, () => randomBytes(2 * chunkBytes));

t.test('a publish after chunks were stored ahead is what one without is', async (t) => {
  const lab = await SessionLab.create(t);
  const session = await lab.open(lab.home);
  const reader = await lab.addHost('reader');
  const { fileSystem } = session;
  fileSystem.release((await fileSystem.create(rootInode, 'other', 0o644, readWrite, caller)).handle);
  session.startTrickle(hurried);
  const model = new Map<string, Buffer>();
  for (const file of ['disk', 'text', 'other']) model.set(file, await readAll(fileSystem, file));
  const isAllAhead = (): boolean => (session.trickle?.aheadBytes ?? 0) >= fileSystem.dirty().bytes;
  const isTheSame = async (): Promise<void> => {
    const { outcome, version } = await session.publish({ releaseLease: false });
    if (outcome === 'unchanged') return;
    await lab.with(reader, { ephemeral: true, version: String(version) }, async (other) => {
      for (const [file, content] of model)
        assert.ok(content.equals(await readAll(other.fileSystem, file)), file);
    });
  };
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      for (const each of steps) {
        if (each.kind === 'pause') await sleep(each.ms);
        else if (each.kind === 'publish') await isTheSame();
        else if (each.kind === 'settle') await until(isAllAhead);
        else await apply(fileSystem, model, each);
      }
      await isTheSame();
    }),
    { numRuns: 8 },
  );
  // Whatever was drawn: once at least all is stored ahead.
  await apply(fileSystem, model, { kind: 'write', name: 'disk', at: 100, length: 2 * chunkBytes, seed: 0 });
  await apply(fileSystem, model, { kind: 'write', name: 'text', at: 200, length: 2 * chunkBytes, seed: 1 });
  await until(isAllAhead);
  await isTheSame();
  t.ok((session.trickle?.rounds ?? 0) > 0);
  t.ok((session.trickle?.uploadedBytes ?? 0) > 0);
  t.equal(session.trickle?.lastError, undefined);
});

async function apply(
  fileSystem: VmFileSystem,
  model: Map<string, Buffer>,
  each: Exclude<
    typeof step extends fc.Arbitrary<infer T> ? T : never,
    { kind: 'pause' | 'publish' | 'settle' }
  >,
): Promise<void> {
  const before = model.get(each.name) ?? Buffer.alloc(0);
  const { inode } = fileSystem.lookup(rootInode, each.name);
  switch (each.kind) {
    case 'write': {
      const data = (contents[each.seed] ?? Buffer.alloc(0)).subarray(0, each.length);
      await writeBytes(fileSystem, each.name, each.at, data);
      const after = Buffer.alloc(Math.max(before.length, each.at + data.length));
      before.copy(after);
      data.copy(after, each.at);
      model.set(each.name, after);
      return;
    }
    case 'truncate': {
      await fileSystem.setAttributes(inode, { sizeBytes: each.sizeBytes });
      const after = Buffer.alloc(each.sizeBytes);
      before.copy(after);
      model.set(each.name, after);
      return;
    }
    case 'zero':
      await withFile(fileSystem, each.name, (handle) =>
        fileSystem.allocate(handle, 'punchHole', each.at, each.length),
      );
      before.fill(0, Math.min(each.at, before.length), Math.min(each.at + each.length, before.length));
      return;
    case 'replace': {
      await fileSystem.unlink(rootInode, each.name);
      fileSystem.forget(inode);
      const { handle } = await fileSystem.create(rootInode, each.name, 0o644, readWrite, caller);
      fileSystem.release(handle);
      model.set(each.name, Buffer.alloc(0));
    }
  }
}

t.test('what was stored ahead is not stored again, and is no version before the commit', async (t) => {
  const lab = await SessionLab.create(t);
  const session = await lab.open(lab.home);
  const { fileSystem } = session;
  const content = randomBytes(40 * chunkBytes);
  await writeBytes(fileSystem, 'disk', 0, content);
  session.startTrickle(hurried);
  await until(() => session.trickle?.aheadBytes === content.length);
  const head = await session.history.head();
  t.equal(head.latest?.version, 1, 'nothing to be seen');
  t.ok(existsSync(packRecordPath(session.paths)));
  t.equal(await hasPublishBegun(session.paths), false, 'no publish has begun');
  await writeBytes(fileSystem, 'disk', 3 * chunkBytes + 100, Buffer.from('changed again'));
  t.equal(session.trickle?.aheadBytes, content.length - chunkBytes, 'a change takes its chunk back');
  await until(() => session.trickle?.aheadBytes === content.length);
  content.set(Buffer.from('at the end'), 7 * chunkBytes);
  content.set(Buffer.from('changed again'), 3 * chunkBytes + 100);
  const before = packBytes(lab);
  await writeBytes(fileSystem, 'disk', 7 * chunkBytes, Buffer.from('at the end'));
  t.equal(await published(session), 2);
  t.ok(packBytes(lab) - before < 3 * chunkBytes, 'the hot chunk, map and manifest');
  t.notOk(existsSync(packRecordPath(session.paths)));

  await writeBytes(fileSystem, 'disk', 0, content.subarray(chunkBytes, 2 * chunkBytes));
  await until(() => session.trickle?.aheadBytes === chunkBytes);
  t.equal(await published(session), 3, 'and so on');
  const reader = await lab.addHost('reader');
  await lab.with(reader, { ephemeral: true, version: '2' }, async (other) => {
    t.ok(content.equals(await readAll(other.fileSystem, 'disk')));
  });
});

t.test('the next process goes on with what one that was killed has stored ahead', async (t) => {
  const lab = await SessionLab.create(t);
  const session = await lab.open(lab.home);
  const content = randomBytes(40 * chunkBytes);
  await writeBytes(session.fileSystem, 'disk', 0, content);
  session.startTrickle(hurried);
  await until(() => session.trickle?.aheadBytes === content.length);
  const home = await lab.killed();
  await session[Symbol.asyncDispose]();
  const before = packBytes(lab);

  const next = await lab.open(home);
  next.startTrickle(hurried);
  await until(() => next.trickle?.aheadBytes === content.length);
  t.equal(packBytes(lab), before, 'it finds what there is');
  await published(next);
  t.ok(packBytes(lab) - before < 2 * chunkBytes, `${packBytes(lab) - before} bytes`);
  t.ok(content.equals(await readAll(next.fileSystem, 'disk')));
});

t.test(
  'what is dropped leaves packs that nothing refers to; a store that fails is tried again',
  async (t) => {
    const lab = await SessionLab.create(t);
    const { home } = lab;
    await lab.with(home, {}, async (session) => {
      await writeBytes(session.fileSystem, 'disk', 0, randomBytes(20 * chunkBytes));
      const unreachable = new StoreUnreachable({ store: 'lab', key: undefined, reason: 'a test says so' });
      const repair = breakMethod(session.repository.store as never, 'put', unreachable);
      session.startTrickle(hurried);
      await until(() => session.trickle?.lastError !== undefined);
      t.match(session.trickle, { aheadBytes: 0, uploadedBytes: 0, lastError: /a test says so/ });
      repair();
      await until(() => session.trickle?.aheadBytes === 20 * chunkBytes);
      t.equal(session.trickle?.lastError, undefined);
      await session.conclude();
      await session[Symbol.asyncDispose]();
      await dropLocalChanges(session.paths);
      t.notOk(existsSync(packRecordPath(session.paths)));
    });
    await lab.with(home, {}, async (session) => {
      t.equal(session.fileSystem.dirty().bytes, 0);
      t.equal((await readAll(session.fileSystem, 'disk')).toString('latin1', 0, 4), 'v1v1');
    });
  },
);

t.test('a trickle that waits for a store which does not answer is paused at once', async (t) => {
  const lab = await SessionLab.create(t);
  // Its cache has nothing of the base.
  const { fileSystem, repository, fetcher, paths } = await lab.open(lab.home);
  await writeBytes(fileSystem, 'disk', 0, Buffer.alloc(4096, 'second'));
  const store = repository.store as Pick<ObjectStore, 'read'>;
  let asked = 0;
  store.read = async function* (_key, _range, options) {
    asked += 1;
    await new Promise((_resolve, reject) => {
      options?.signal?.addEventListener('abort', () => reject(new Cancelled('Reading')));
    });
    yield Buffer.alloc(0);
  };
  const packs = new PackRecord(paths);
  const trickle = new Trickle({ ...hurried, repository, fetcher, fileSystem, packs });
  await until(() => asked > 0);
  const paused = trickle.pause().then(() => true);
  t.equal(await Promise.race([paused, sleep(5000, false)]), true);
  t.match(trickle.status(), { isUploading: false, lastError: undefined, aheadBytes: 0, rounds: 0 });

  Reflect.deleteProperty(store, 'read');
  trickle.goOn({ isPublished: false });
  await until(() => trickle.status().aheadBytes > 0);
  t.match(trickle.status(), { lastError: undefined, rounds: 1 }, 'what it gave up is stored later');
  await trickle.pause();
});

t.test('nothing is stored ahead that no publish would find', async (t) => {
  const lab = await SessionLab.create(t);
  const { fileSystem, repository, fetcher, paths } = await lab.open(lab.home);
  await writeBytes(fileSystem, 'disk', 0, randomBytes(chunkBytes));
  const record = new PackRecord(paths);
  let isFull = true;
  let asked = 0;
  const packs: Pick<PackRecord, 'read' | 'add'> = {
    read: () => record.read(),
    add: (packId, uploader) => {
      asked += 1;
      return isFull ? Promise.resolve(false) : record.add(packId, uploader);
    },
  };
  const before = packBytes(lab);
  const trickle = new Trickle({ ...hurried, repository, fetcher, fileSystem, packs });
  await until(() => trickle.status().lastError !== undefined);
  await sleep(50);
  t.match(trickle.status(), { isUploading: false, lastError: /No more can be stored ahead/, rounds: 0 });
  t.equal(asked, 1, 'it has stopped');
  t.equal(packBytes(lab), before);

  isFull = false;
  await trickle.pause();
  trickle.goOn({ isPublished: true });
  await until(() => trickle.status().aheadBytes === chunkBytes);
  t.match(trickle.status(), { lastError: undefined, rounds: 1 });
  await trickle.pause();
});

t.test('a record of packs says when it takes no more', async (t) => {
  const lab = await SessionLab.create(t);
  const { paths } = await lab.open(lab.home);
  const line = (number: number) => `${number.toString(16).padStart(32, '0')}\n`;
  const lines = Array.from({ length: limits.earlierPacksRecorded - 1 }, (_, number) => line(number));
  writeFileSync(packRecordPath(paths), lines.join(''));
  const packs = new PackRecord(paths);
  t.equal((await packs.read()).length, limits.earlierPacksRecorded - 1);
  t.equal(await packs.add('e'.repeat(32) as PackId, 'trickle'), true);
  t.equal(await packs.add('f'.repeat(32) as PackId, 'trickle'), false);
  t.equal(await packs.add('f'.repeat(32) as PackId, 'publish'), false);
  t.equal((await packs.read()).length, limits.earlierPacksRecorded);
  t.equal(await hasPublishBegun(paths), true, 'a publish that begins is told of all the same');
});

t.test('only what was left alone for a whole period is quiet', async (t) => {
  const lab = await SessionLab.create(t);
  const { fileSystem } = await lab.open(lab.home);
  const quiet = fileSystem.quietChunks(chunkBytes);
  const given = async (): Promise<number[]> => {
    const found: number[] = [];
    for await (const { index } of quiet.next(new AbortController().signal)) found.push(index);
    return found;
  };
  await writeBytes(fileSystem, 'disk', 0, randomBytes(6 * chunkBytes));
  t.same(await given(), []);
  quiet.passPeriod();
  await writeBytes(fileSystem, 'disk', 2 * chunkBytes - 1, Buffer.from('ab'));
  t.same(await given(), [], 'nothing is, before two periods');
  quiet.passPeriod();
  t.same(await given(), [0, 3, 4, 5]);
  t.same(await given(), [], 'each once');
  await writeBytes(fileSystem, 'disk', 5 * chunkBytes, Buffer.from('c'));
  quiet.passPeriod();
  t.same(await given(), [1, 2]);
  t.equal(quiet.givenBytes, 5 * chunkBytes);
  quiet.passPeriod();
  t.same(await given(), [5], 'again after a change');
  quiet.reset();
  t.equal(quiet.givenBytes, 0);
  await fileSystem.setAttributes(fileSystem.lookup(rootInode, 'disk').inode, { sizeBytes: chunkBytes });
  t.same(await given(), [0]);
});
