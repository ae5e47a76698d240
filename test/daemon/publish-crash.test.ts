/** A publish that dies, or whose overlay cannot follow it: the next session goes on, and nothing is lost. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { hasPublishBegun, OverlayBehind, type VmSession } from '../../src/daemon/index.js';
import { FileSystemError, readOverlaySummary } from '../../src/fs/index.js';
import type { HostHome } from '../../src/host/index.js';
import { Repository } from '../../src/repo/index.js';
import { openStore, StoreUnreachable } from '../../src/store/index.js';
import { breakMethod, read, SessionLab, vmName, write } from './session-support.js';

const diskFull = new FileSystemError('ENOSPC', 'The disk is full.');
const unreachable = new StoreUnreachable({ store: 'lab', key: undefined, reason: 'a test says so' });

/** The rebase fails, as if the process had died before it or the disk were full. */
function breakRebase(session: VmSession): () => void {
  return breakMethod(session.fileSystem as never, 'rebase', diskFull);
}

/** No commit and no branch is made; everything else is stored. */
function breakCommit(session: VmSession): () => void {
  return breakMethod(session.repository.store as never, 'putIfAbsent', unreachable);
}

async function versions(lab: SessionLab, home: HostHome): Promise<readonly (readonly [number, number])[]> {
  const store = await openStore(lab.url);
  const { repositoryId } = await Repository.readHeader(store);
  const repository = await Repository.open(store, await home.loadSecrets(repositoryId));
  const found: [number, number][] = [];
  for await (const { version, parent } of repository.history(vmName).commits()) {
    found.unshift([version, parent ?? 0]);
  }
  await repository[Symbol.asyncDispose]();
  await store[Symbol.asyncDispose]();
  return found;
}

async function branches(session: VmSession): Promise<readonly string[]> {
  return (await session.repository.history(vmName).branches()).map(({ name }) => name);
}

/** A host that died after its version existed and before its overlay was empty. */
async function diedAfterCommit(lab: SessionLab, releaseLease: boolean): Promise<HostHome> {
  const session = await lab.open(lab.home);
  await write(session.fileSystem, 'disk', 0, 'second');
  const repair = breakRebase(session);
  const { outcome, version } = await session.publish({ releaseLease });
  if (outcome !== 'published' || version !== 2) throw new Error(outcome);
  const killed = await lab.killed();
  repair();
  return killed;
}

t.test('killed between the commit and the end: the next mount has nothing unpublished', async (t) => {
  const lab = await SessionLab.create(t);
  const home = await diedAfterCommit(lab, false);
  const session = await lab.open(home);
  t.match(session.origin, { kind: 'version', commit: { version: 2 } });
  t.same(session.fileSystem.dirty(), { bytes: 0, changedFiles: 0 });
  t.equal(await read(session.fileSystem, 'disk', 6), 'second');
  t.match(await readOverlaySummary(session.paths.overlay), { identity: '2', changedFiles: 0 });
  await write(session.fileSystem, 'text', 0, 'third');
  t.match(await session.publish({ releaseLease: true }), { outcome: 'published', version: 3 });
  t.same(await versions(lab, home), [
    [1, 0],
    [2, 1],
    [3, 2],
  ]);
});

t.test('killed between the commit and the end: publishing again tells of the version', async (t) => {
  const lab = await SessionLab.create(t);
  const home = await diedAfterCommit(lab, false);
  await lab.with(home, { purpose: 'publish' }, async (session) => {
    t.match(await session.publish({ releaseLease: true }), { outcome: 'published', version: 2 });
    t.same(await session.lease(AbortSignal.timeout(10_000)), { state: 'free' });
    t.match(await session.publish({ releaseLease: true }), { outcome: 'unchanged', version: undefined });
    t.same(await branches(session), []);
  });
  t.equal((await versions(lab, home)).length, 2);
});

t.test('killed between the commit and the end, and others went on: nothing is in the way', async (t) => {
  const lab = await SessionLab.create(t);
  const home = await diedAfterCommit(lab, true);
  const other = await lab.addHost('host-2');
  await lab.with(other, {}, async (session) => {
    t.equal(await read(session.fileSystem, 'disk', 6), 'second');
    await write(session.fileSystem, 'disk', 0, 'others');
    t.match(await session.publish({ releaseLease: true }), { version: 3 });
  });
  const session = await lab.open(home);
  t.equal(await read(session.fileSystem, 'disk', 6), 'others');
  t.same(session.fileSystem.dirty(), { bytes: 0, changedFiles: 0 });
});

t.test('an overlay that cannot become empty goes on, and is as right as before', async (t) => {
  const lab = await SessionLab.create(t);
  const session = await lab.open(lab.home);
  const { fileSystem } = session;
  await write(fileSystem, 'disk', 0, 'second');
  const repair = breakRebase(session);
  t.match(await session.publish({ releaseLease: false }), { outcome: 'published', version: 2 });
  t.same(session.dirty(), { bytes: 0, changedFiles: 0 }, 'nothing is unpublished');
  t.match(await session.publish({ releaseLease: false }), { outcome: 'unchanged' });

  await write(fileSystem, 'disk', 0, 'SECOND');
  t.ok(session.dirty().changedFiles > 0);
  t.match(await session.publish({ releaseLease: false }), { outcome: 'published', version: 3 });
  await write(fileSystem, 'disk', 4096, 'fourth');
  const killed = await lab.killed();
  repair();

  const again = await lab.open(killed);
  t.match(again.origin, { commit: { version: 3 } });
  t.match(again.dirty(), { changedFiles: 1 });
  t.match(await again.publish({ releaseLease: true }), { outcome: 'published', version: 4 });
  t.same(again.fileSystem.dirty(), { bytes: 0, changedFiles: 0 });
  const content = await read(again.fileSystem, 'disk', 8192);
  t.equal(content.slice(0, 6) + content.slice(4096, 4102), 'SECONDfourth');
  t.same(
    (await versions(lab, lab.home)).map(([, parent]) => parent),
    [0, 1, 2, 3],
  );
});

t.test('space that is freed heals it: at the next publish, and at unmounting', async (t) => {
  for (const heal of ['publish', 'close'] as const) {
    const lab = await SessionLab.create(t);
    const session = await lab.open(lab.home);
    await write(session.fileSystem, 'disk', 0, 'second');
    const repair = breakRebase(session);
    await session.publish({ releaseLease: false });
    repair();
    if (heal === 'publish') await session.publish({ releaseLease: false });
    t.same(await session.conclude(), { dirtyBytes: 0, changedFiles: 0 });
    t.match(await readOverlaySummary(session.paths.overlay), { identity: '2', changedFiles: 0 });
    const other = await lab.open(await lab.addHost('host-2'));
    t.equal(await read(other.fileSystem, 'disk', 6), 'second');
  }
});

t.test(
  'what was written after a version others replaced is behind, and becomes a branch of it',
  async (t) => {
    const lab = await SessionLab.create(t);
    const session = await lab.open(lab.home);
    await write(session.fileSystem, 'disk', 0, 'second');
    breakRebase(session);
    await session.publish({ releaseLease: true });
    await write(session.fileSystem, 'disk', 0, 'behind');
    const home = await lab.killed();
    await lab.with(await lab.addHost('host-2'), {}, async (other) => {
      await write(other.fileSystem, 'disk', 0, 'others');
      await other.publish({ releaseLease: true });
    });
    await t.rejects(lab.open(home), OverlayBehind);
    await lab.with(home, { purpose: 'publish' }, async (publisher) => {
      const first = await publisher.publish({ releaseLease: true });
      t.equal(first.outcome, 'branched');
      const [branch] = await publisher.repository.history(vmName).branches();
      t.match(branch, { name: first.branch, commit: { parent: 2 } });
    });
    await lab.with(home, { purpose: 'publish' }, async (publisher) => {
      t.equal((await publisher.publish({ releaseLease: true })).outcome, 'branched');
      t.equal((await branches(publisher)).length, 1, 'it is there already');
      await lab.with(
        await lab.addHost('host-3'),
        { ephemeral: true, version: (await branches(publisher))[0] },
        async (reader) => {
          t.equal(await read(reader.fileSystem, 'disk', 6), 'behind');
        },
      );
    });
  },
);

t.test('a commit that was announced and never made is no hindrance', async (t) => {
  const lab = await SessionLab.create(t);
  const session = await lab.open(lab.home);
  await write(session.fileSystem, 'disk', 0, 'second');
  const repair = breakCommit(session);
  await t.rejects(session.publish({ releaseLease: false }), StoreUnreachable);
  const killed = await lab.killed();
  await t.rejects(session.publish({ releaseLease: false }), StoreUnreachable);
  repair();
  await lab.with(killed, {}, async (again) => {
    t.match(again.dirty(), { changedFiles: 1 });
    t.equal(await read(again.fileSystem, 'disk', 6), 'second');
    t.match(await again.publish({ releaseLease: false }), { outcome: 'published', version: 2 });
  });
});

t.test('an announcement without its commit never makes the overlay another version', async (t) => {
  const lab = await SessionLab.create(t);
  const session = await lab.open(lab.home);
  await write(session.fileSystem, 'disk', 0, 'second');
  const repairRebase = breakRebase(session);
  await session.publish({ releaseLease: false });
  await write(session.fileSystem, 'disk', 0, 'third!');
  const repairCommit = breakCommit(session);
  await t.rejects(session.publish({ releaseLease: false }), StoreUnreachable);
  repairRebase();
  repairCommit();
  t.match(await session.conclude(), { changedFiles: 1 });
  await session[Symbol.asyncDispose]();
  const again = await lab.open(lab.home);
  t.match(again.dirty(), { changedFiles: 1 });
  t.equal(await read(again.fileSystem, 'disk', 6), 'third!');
  t.match(await again.publish({ releaseLease: false }), { outcome: 'published', version: 3 });
  t.equal(await read(again.fileSystem, 'disk', 6), 'third!');
});

t.test('a commit whose answer got lost is found by the next publish', async (t) => {
  const lab = await SessionLab.create(t);
  const session = await lab.open(lab.home);
  const { store } = session.repository;
  await write(session.fileSystem, 'disk', 0, 'second');
  const putIfAbsent = store.putIfAbsent.bind(store);
  Object.defineProperty(store, 'putIfAbsent', {
    configurable: true,
    value: async (...parameters: Parameters<typeof putIfAbsent>) => {
      await putIfAbsent(...parameters);
      throw unreachable;
    },
  });
  await t.rejects(session.publish({ releaseLease: false }), StoreUnreachable);
  Reflect.deleteProperty(store, 'putIfAbsent');
  await write(session.fileSystem, 'disk', 0, 'third!');
  t.match(await session.publish({ releaseLease: true }), { outcome: 'published', version: 3 });
  t.same(await versions(lab, lab.home), [
    [1, 0],
    [2, 1],
    [3, 2],
  ]);
});

t.test('a lease that was given back is taken again for what is written later', async (t) => {
  const lab = await SessionLab.create(t);
  const session = await lab.open(lab.home);
  await write(session.fileSystem, 'disk', 0, 'second');
  await session.publish({ releaseLease: true });
  await write(session.fileSystem, 'disk', 0, 'third!');
  t.match(await session.publish({ releaseLease: true }), { outcome: 'published', version: 3 });
});

t.test('packs of a publish that was stopped are remembered, and forgotten when it is done', async (t) => {
  const lab = await SessionLab.create(t);
  const packDirectory = join(lab.root, 'store', 'pack');
  const packBytes = (): number =>
    readdirSync(packDirectory, { recursive: true, encoding: 'utf8' })
      .map((name) => statSync(join(packDirectory, name)))
      .filter((stats) => stats.isFile())
      .reduce((sum, { size }) => sum + size, 0);
  const session = await lab.open(lab.home);
  const { fileSystem } = session;
  const wholeBytes = 80 * 1024 * 1024;
  const { inode } = fileSystem.lookup(1 as never, 'disk');
  const handle = await fileSystem.open(inode, 2);
  const { randomFillSync } = await import('node:crypto');
  const random = randomFillSync(Buffer.alloc(1024 * 1024));
  for (let at = 0; at < wholeBytes; at += random.length) {
    random.writeDoubleLE(at, 5);
    for (let chunk = 0; chunk < random.length; chunk += 131_072) random.writeDoubleLE(at + chunk, chunk);
    await fileSystem.write(handle, at, random);
  }
  fileSystem.release(handle);
  const before = packBytes();
  const abort = new AbortController();
  const publishing = session.publish({
    releaseLease: false,
    signal: abort.signal,
    onProgress: ({ doneBytes }) => doneBytes > 0.95 * wholeBytes && abort.abort(),
  });
  await t.rejects(publishing, { code: 'CANCELLED' });
  t.ok(packBytes() - before > 30e6, 'some of it is in the store');
  const record = join(session.paths.directory, 'publish-packs');
  t.ok(existsSync(record));
  t.equal(await hasPublishBegun(session.paths), true);
  const killed = await lab.killed();
  await lab.with(killed, { purpose: 'publish' }, async (again) => {
    t.match(await again.publish({ releaseLease: true }), { outcome: 'published', version: 2 });
    t.notOk(existsSync(join(again.paths.directory, 'publish-packs')));
  });
  t.ok(packBytes() - before < 1.1 * wholeBytes, `${packBytes() - before} bytes for ${wholeBytes}`);
});

t.test('overlays that follow each other share no inode number', async (t) => {
  const lab = await SessionLab.create(t);
  const seen = new Set<number>();
  const numbers = (session: VmSession): number[] =>
    session.fileSystem.readDirectory(1 as never).map(({ attributes }) => attributes.inode);
  const checkNew = (found: readonly number[], what: string): void => {
    t.ok(
      found.every((number) => !seen.has(number)),
      what,
    );
    for (const number of found) seen.add(number);
  };
  await lab.with(lab.home, {}, async (session) => {
    await session.fileSystem.makeNode(1 as never, 'new', 0o600, { uid: 0, gid: 0 });
    checkNew(numbers(session), 'the first');
    await session.conclude();
  });
  await lab.with(lab.home, { ephemeral: true }, async (session) => {
    await session.fileSystem.makeNode(1 as never, 'gone', 0o600, { uid: 0, gid: 0 });
    checkNew(numbers(session), 'a throw-away one');
  });
  await lab.with(lab.home, {}, async (session) => {
    t.ok(numbers(session).every((number) => seen.has(number)));
  });
  const { dropLocalChanges } = await import('../../src/daemon/index.js');
  const [repositoryId] = await lab.home.repositoriesWithState();
  await dropLocalChanges(lab.home.vmPaths(String(repositoryId), vmName));
  await lab.with(lab.home, {}, async (session) => {
    await session.fileSystem.makeNode(1 as never, 'another', 0o600, { uid: 0, gid: 0 });
    checkNew(numbers(session), 'after discarding');
  });
  await lab.with(lab.home, { ephemeral: true }, async (session) => checkNew(numbers(session), 'once more'));
});
