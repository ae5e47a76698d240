/** What a host knows of a VM while the store is away is never older than what it saw or made itself. */
import { copyFile, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { CommandContext } from '../../src/cli/context.js';
import { Output } from '../../src/cli/output.js';
import type { VmSession } from '../../src/daemon/index.js';
import { readKnownHead, rememberHead } from '../../src/daemon/known-head.js';
import { findKnownGround } from '../../src/daemon/without-store.js';
import { openHostHome, readSeen, type HostHome } from '../../src/host/index.js';
import { DamagedObject } from '../../src/repo/index.js';
import { generateSecrets } from '../../src/repo/keys/secrets.js';
import { StoreUnreachable } from '../../src/store/index.js';
import { SessionLab, vmName, write } from './session-support.js';

const away = new StoreUnreachable({ store: 'lab', key: undefined, reason: 'a test says so' });

async function knownVersion({ history, paths }: VmSession, { home }: SessionLab): Promise<number> {
  const request = {
    ...{ vmName, version: undefined, ephemeral: false, purpose: 'use' as const },
    ...{ host: home.identity, paths, overlayDirectory: paths.overlay },
  };
  const { origin } = (await findKnownGround(request, history, away)).ground;
  return origin.kind === 'version' ? origin.commit.version : 0;
}

/** A session that has published version 2, and what was known before that. */
async function afterPublish(
  t: Test,
): Promise<{ lab: SessionLab; session: VmSession; forget: () => Promise<void> }> {
  const lab = await SessionLab.create(t);
  const session = await lab.open(lab.home);
  const known = join(session.paths.directory, 'known.json');
  await copyFile(known, join(lab.root, 'known-before.json'));
  await write(session.fileSystem, 'text', 0, 'second');
  await session.publish({ releaseLease: true });
  return { lab, session, forget: () => copyFile(join(lab.root, 'known-before.json'), known) };
}

t.test('what is known is used where it is the newest that was seen', async (t) => {
  const { lab, session } = await afterPublish(t);
  t.equal(await knownVersion(session, lab), 2);
});

t.test('nothing is known where a newer position was seen', async (t) => {
  const { lab, session, forget } = await afterPublish(t);
  await forget();
  await t.rejects(knownVersion(session, lab), away);
});

t.test('nothing is known where the overlay lies over a newer version', async (t) => {
  const { lab, session, forget } = await afterPublish(t);
  await forget();
  await rm(session.paths.seenRecord);
  await t.rejects(knownVersion(session, lab), away);
});

t.test('a version whose maker did not hear of it is known when it is found', async (t) => {
  const lab = await SessionLab.create(t);
  const session = await lab.open(lab.home);
  const { history } = session;
  await write(session.fileSystem, 'text', 0, 'second');
  const append = history.appendCommit.bind(history);
  Object.defineProperty(history, 'appendCommit', {
    configurable: true,
    value: async (...parameters: Parameters<typeof append>) => {
      await append(...parameters);
      throw away;
    },
  });
  await t.rejects(session.publish({ releaseLease: true }), away);
  // The next worker of the mount.
  const mount = { life: 1, lock: undefined, repository: undefined };
  const next = await lab.open(await lab.killed(), { mount });
  t.match(await next.publish({ releaseLease: true }), { version: 2 });
  const known = await readKnownHead(next.paths);
  t.match(known?.head, { latest: { version: 2 }, lease: { state: 'free' } });
  t.equal(known?.head.position, (await readSeen(next.paths))?.position);
  t.equal(await knownVersion(next, lab), 2);
});

t.test('what is recorded is where the log is, when the lease is taken and given back', async (t) => {
  const lab = await SessionLab.create(t);
  const session = await lab.open(lab.home);
  const isCurrent = async (state: string): Promise<void> => {
    const { position, lease } = await session.history.head();
    t.equal(lease.state, state);
    t.match((await readKnownHead(session.paths))?.head, { position, lease: { state } });
  };
  await isCurrent('held');
  await write(session.fileSystem, 'text', 0, 'second');
  await session.publish({ releaseLease: false });
  await isCurrent('held');
  await session.conclude();
  await isCurrent('free');
});

t.test('nothing older takes the place of what is known, and nothing stays that is out of date', async (t) => {
  const { session } = await afterPublish(t);
  const { paths, history } = session;
  const path = join(paths.directory, 'known.json');
  const newest = await readFile(path, 'utf8');
  const head = await history.head();
  await rememberHead(paths, { ...head, position: 1 as typeof head.position });
  t.equal(await readFile(path, 'utf8'), newest);
  const damaged = {
    ...head,
    position: 99,
    get latest(): never {
      throw new Error('no space');
    },
  };
  await rememberHead(paths, damaged as never);
  t.equal(await readKnownHead(paths), undefined);
});

t.test('which repository a store is, is remembered when the key confirms it', async (t) => {
  const lab = await SessionLab.create(t);
  const { header } = (await lab.open(lab.home)).repository;
  t.same(await lab.home.repositoryAt(lab.url), header);
  const context = (home: HostHome): CommandContext =>
    new CommandContext({
      options: { repo: lab.url, home: home.path },
      output: new Output({ json: true }),
      signal: new AbortController().signal,
    });
  const other = await lab.addHost('other');
  await using others = context(other);
  await others.repository();
  t.same(await other.repositoryAt(lab.url), header);

  const stranger = await openHostHome(join(lab.root, 'stranger'));
  await stranger.saveSecrets({ ...generateSecrets(), repositoryId: header.repositoryId });
  await using strangers = context(stranger);
  await t.rejects(lab.open(stranger), DamagedObject);
  await t.rejects(strangers.repository(), DamagedObject);
  t.equal(await stranger.repositoryAt(lab.url), undefined);
});

t.test('the next worker of a mount that began without the lease takes it, too', async (t) => {
  const lab = await SessionLab.create(t);
  const session = await lab.open(lab.home);
  const { history } = session;
  await history.releaseLease(await history.acquireLease(lab.home.identity));
  const mount = { life: 1, lock: undefined, repository: session.repository.header };
  const next = await lab.open(await lab.killed(), { mount });
  const isHeld = async (): Promise<boolean> => (await history.head()).lease.state === 'held';
  for (const untilMs = Date.now() + 5000; !(await isHeld()) && Date.now() < untilMs;) await sleep(20);
  t.ok(await isHeld());
  await next.conclude();
  t.notOk(await isHeld(), 'and gives it back');
});
