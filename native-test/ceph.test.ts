/** Repositories in S3, as users have them: VMs on Ceph's gateway, which is killed and started again meanwhile. */
import { randomBytes, randomUUID } from 'node:crypto';
import { lstat, mkdir, open, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { CephCluster } from '../fixtures/ceph.js';
import { buildGuest } from '../fixtures/guest/build.js';
import { readTicks, waitForTick } from '../fixtures/guest/console.js';
import type { TrialHost } from '../fixtures/trial-host.js';
import { Trial } from '../fixtures/trial.js';
import type { DaemonStatus } from '../src/daemon/index.js';
import type { SuspendResult } from '../src/vm/index.js';
import { sameBytes } from '../test/support/same-bytes.js';

const ceph = await CephCluster.start();
t.teardown(() => ceph[Symbol.asyncDispose]());
Object.assign(process.env, ceph.environment);
await ceph.makeBucket('isr');

/** What the daemon says of the store, once it does not answer. */
async function waitForOutage(host: TrialHost, vmName: string, url: string): Promise<string> {
  for (;;) {
    const { fetch } = await host.isr<DaemonStatus>(['status', vmName], url);
    // JSON has null for it.
    const outage = fetch.waitingForStore as { readonly reason: string } | null | undefined;
    if (outage) return outage.reason;
    await sleep(100);
  }
}

t.test('reads wait while the gateway is away, and objects survive it', async (t) => {
  const { trial, host } = await Trial.create('files', [], `s3://isr/${randomUUID()}`);
  t.teardown(() => trial[Symbol.asyncDispose]());
  const source = join(trial.root, 'source');
  await mkdir(source);
  const content = randomBytes(8 * 1024 * 1024);
  await writeFile(join(source, 'disk'), content);
  await host.isr(['import', 'files', source, '--at', trial.mountPath], trial.url);

  const other = await trial.addHost();
  await other.isr(['mount', 'files'], trial.url);
  const disk = join(trial.mountPath, 'disk');
  const head = await readHead(disk, 100_000);
  sameBytes(t, head, content.subarray(0, 100_000));
  await ceph.killGateway();
  const whole = readFile(disk);
  t.match(await waitForOutage(other, 'files', trial.url), /^s3:\/\/isr.* cannot be reached: /);
  await ceph.startGateway();
  sameBytes(t, await whole, content);

  await writeFile(join(trial.mountPath, 'new'), content.subarray(0, 100_000));
  await other.isr(['umount', 'files'], trial.url);
  await other.isr(['publish', 'files'], trial.url);
  const exported = join(trial.root, 'exported');
  await host.isr(['export', 'files', exported], trial.url);
  sameBytes(t, await readFile(join(exported, 'new')), content.subarray(0, 100_000));
  t.match(await host.isr(['verify', 'files'], trial.url), { intact: true });
});

t.test(
  'a guest resumes from Ceph through 100 Mb/s and 20 ms; the gateway dies and comes back while it runs',
  async (t) => {
    const { trial, host } = await Trial.create('guest', [], `s3://isr/${randomUUID()}`);
    t.teardown(() => trial[Symbol.asyncDispose]());
    const guest = await buildGuest({ directory: join(trial.root, 'guest'), memoryMiB: 96, fillMiB: 4 });
    await host.isr(['import', 'guest', guest.directory, '--at', trial.mountPath], trial.url);
    await host.isr(['start', 'guest'], trial.url);
    const firstConsole = join((await host.vmPaths(trial.repositoryId, 'guest')).run, 'console.log');
    const before = await waitForTick(firstConsole, 3);
    await host.isr<SuspendResult>(['suspend', 'guest'], trial.url);

    const other = await trial.addHost();
    const far = trial.farUrl('mbps=100&rttMs=20');
    await other.isr(['resume', 'guest'], far);
    const otherConsole = join((await other.vmPaths(trial.repositoryId, 'guest')).run, 'console.log');
    t.equal((await waitForTick(otherConsole)).nonce, before.nonce, 'the guest that was suspended');

    await ceph.killGateway();
    // What it needs and has not yet, it waits for: a look at all of its memory needs the store.
    const memory = readFile(join(trial.mountPath, 'mem'));
    t.match(await waitForOutage(other, 'guest', far), /cannot be reached/);
    await ceph.startGateway();
    t.equal((await memory).length, 96 * 1024 * 1024);
    const ticks = (await readTicks(otherConsole)).length;
    t.equal((await waitForTick(otherConsole, ticks)).nonce, before.nonce, 'it has seen nothing of that');
    const { publish } = await other.isr<SuspendResult>(['suspend', 'guest'], far);
    t.match(publish, { outcome: 'published', version: 3 });
  },
);

/** What the issue asks for, on a link of 100 Mb/s and 20 ms. */
const badLink = 'mbps=100&rttMs=20&errorRate=0.05&stallRate=0.01&stallMs=30000&corruptRate=0.001';

t.test('a guest over a link that drops, stalls and corrupts sees no error', async (t) => {
  const { trial, host } = await Trial.create('guest', [], `s3://isr/${randomUUID()}`);
  t.teardown(() => trial[Symbol.asyncDispose]());
  const guest = await buildGuest({ directory: join(trial.root, 'guest'), memoryMiB: 96, fillMiB: 4 });
  await host.isr(['import', 'guest', guest.directory, '--at', trial.mountPath], trial.url);
  await host.isr(['start', 'guest'], trial.url);
  const firstConsole = join((await host.vmPaths(trial.repositoryId, 'guest')).run, 'console.log');
  const before = await waitForTick(firstConsole, 3);
  await host.isr<SuspendResult>(['suspend', 'guest'], trial.url);

  const other = await trial.addHost();
  const bad = trial.farUrl(badLink);
  await other.isr(['resume', 'guest'], bad);
  const otherConsole = join((await other.vmPaths(trial.repositoryId, 'guest')).run, 'console.log');
  t.equal((await waitForTick(otherConsole)).nonce, before.nonce, 'the guest that was suspended');
  await readFile(join(trial.mountPath, 'mem'));
  t.equal((await waitForTick(otherConsole, (await readTicks(otherConsole)).length)).nonce, before.nonce);
  const status = await other.isr<DaemonStatus>(['status', 'guest'], bad);
  t.equal(status.engine.errors, 0, 'nothing of it reached the guest');
  t.equal(status.fetch.errors, 0);
  t.ok(status.fetch.trouble.retries > 0 && status.fetch.trouble.unreachable > 0, 'requests were dropped');
  const { publish } = await other.isr<SuspendResult>(['suspend', 'guest'], bad);
  t.match(publish, { outcome: 'published', version: 3 });
  t.match(await host.isr(['verify', 'guest'], trial.url), { intact: true });
});

t.test('each kind of trouble is counted, and what was damaged comes from another tier', async (t) => {
  const { trial, host } = await Trial.create('files', [], `s3://isr/${randomUUID()}`);
  t.teardown(() => trial[Symbol.asyncDispose]());
  const source = join(trial.root, 'source');
  await mkdir(source);
  const content = randomBytes(16 * 1024 * 1024);
  await writeFile(join(source, 'disk'), content);
  await host.isr(['import', 'files', source, '--at', trial.mountPath], trial.url);

  // Every piece of it is there, and every other one damaged.
  const neighbour = await trial.addHost();
  await neighbour.isr(['warm', 'files', '--all'], trial.url);
  const damaged = await damageEveryOther(join(neighbour.home, 'cache', 'v1'));
  const other = await trial.addHost();
  // Worse than what is asked for, so that all of it happens.
  const bad = trial.farUrl('mbps=100&rttMs=20&errorRate=0.1&stallRate=0.05&stallMs=30000&corruptRate=0.1');
  await other.isr(['mount', 'files', '--tier', neighbour.home], bad);
  sameBytes(t, await readFile(join(trial.mountPath, 'disk')), content);
  const { engine, fetch } = await other.isr<DaemonStatus>(['status', 'files'], bad);
  // What was only read ahead may fail, and is asked for again when it is wanted.
  t.equal(engine.errors, 0);
  const { retries, unreachable, timeouts, damaged: fromStore } = fetch.trouble;
  t.ok(retries > 0 && unreachable > 0, 'dropped');
  t.ok(timeouts + fetch.trouble.hedgesWon > 0, 'stalled');
  t.ok(fromStore > 0, 'corrupted on the way');
  const [tier] = fetch.tiers;
  t.ok(
    (tier?.damaged ?? 0) > 0 && (tier?.damaged ?? 0) <= damaged + fetch.errors,
    'damaged in the tier, and asked for once',
  );
  await other.isr(['umount', 'files'], trial.url);
});

/** Flips a bit in every other entry of a local cache; says in how many. */
async function damageEveryOther(cachePath: string): Promise<number> {
  let entries = 0;
  let damaged = 0;
  for await (const path of filesBelow(cachePath)) {
    if (!path.endsWith('.chunk') || ++entries % 2 === 0) continue;
    const file = await open(path, 'r+');
    await file.write(Buffer.from([0xff, 0x00, 0xff, 0x00]), 0, 4, 5000);
    await file.close();
    damaged += 1;
  }
  return damaged;
}

t.test('credentials and keys are in no output, log, state or title', async (t) => {
  const { trial, host } = await Trial.create('files', [], `s3://isr/${randomUUID()}`);
  t.teardown(() => trial[Symbol.asyncDispose]());
  const token = `token-${randomUUID()}`;
  const said: string[] = [];
  const run = async (parameters: readonly string[], url = trial.url): Promise<void> => {
    const { stdout, stderr } = await host.run(parameters, url);
    said.push(stdout, stderr);
  };
  const source = join(trial.root, 'source');
  await mkdir(source);
  await writeFile(join(source, 'disk'), randomBytes(300_000));
  process.env['DEBUG'] = '*';
  t.teardown(() => delete process.env['DEBUG']);

  await run(['init'], `s3://isr/${randomUUID()}`);
  await run(['import', 'files', source, '--at', trial.mountPath]);
  await run(['mount', 'files']);
  await run(['status', 'files']);
  const titles = await titlesOf(host);
  t.ok(titles.filter((title) => title.startsWith('isr')).length > 1, 'worker and supervisor');
  await writeFile(join(trial.mountPath, 'new'), 'changed');
  await run(['publish', 'files']);
  await run(['init']);
  await run(['init'], 's3://no-such-bucket');
  await ceph.killGateway();
  await run(['versions', 'files']);
  await ceph.startGateway();
  await run(['umount', 'files']);
  const { secretAccessKey } = ceph.access;
  Object.assign(process.env, { AWS_SECRET_ACCESS_KEY: `wrong-${secretAccessKey}`, AWS_SESSION_TOKEN: token });
  t.teardown(() => {
    Object.assign(process.env, ceph.environment);
    delete process.env['AWS_SESSION_TOKEN'];
  });
  await run(['versions', 'files']);
  await run(['versions', 'files'], `s3://${secretAccessKey}@isr`);

  t.match(said.join('\n'), /STORE_UNREACHABLE/);
  t.match(said.join('\n'), /the credentials are not valid there/);
  const keys = JSON.parse(await readFile(keyPathOf(host, trial), 'utf8')) as Record<string, unknown>;
  const secrets = [secretAccessKey, token, 'only a trial', ...secretsIn(keys, trial.repositoryId)];
  t.ok(secrets.length > 4, 'the keys of the repository are among them');
  const places = new Map([
    ['output', said.join('\n')],
    ['titles', titles.join('\n')],
  ]);
  for await (const path of filesBelow(host.home))
    if (!path.startsWith(join(host.home, 'keys'))) places.set(path, await readFile(path, 'latin1'));
  t.ok(
    [...places.keys()].some((path) => path.endsWith('daemon.log')),
    'the log is among them',
  );
  for (const [place, text] of places)
    for (const secret of secrets) t.notOk(text.includes(secret), `${place} has no ${secret.slice(0, 5)}…`);
});

async function readHead(path: string, lengthBytes: number): Promise<Uint8Array> {
  const file = await open(path);
  try {
    const { buffer } = await file.read(Buffer.alloc(lengthBytes), 0, lengthBytes, 0);
    return buffer;
  } finally {
    await file.close();
  }
}

function keyPathOf(host: TrialHost, trial: Trial): string {
  return join(host.home, 'keys', `${trial.repositoryId}.json`);
}

function secretsIn(value: unknown, repositoryId: string): string[] {
  if (typeof value === 'string') return value.length >= 16 && value !== repositoryId ? [value] : [];
  if (typeof value !== 'object' || value === null) return [];
  return Object.values(value).flatMap((member) => secretsIn(member, repositoryId));
}

/** Command lines and names, which are what `ps` shows, of every process that works for the host. */
async function titlesOf(host: TrialHost): Promise<string[]> {
  const titles: string[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const read = (name: string): Promise<string> =>
      readFile(`/proc/${pid}/${name}`, 'latin1').catch(() => '');
    if (!(await read('environ')).includes(host.home)) continue;
    titles.push(await read('cmdline'), await read('comm'));
  }
  return titles;
}

async function* filesBelow(directory: string): AsyncGenerator<string> {
  for (const name of await readdir(directory)) {
    const path = join(directory, name);
    const found = await lstat(path);
    if (found.isDirectory()) yield* filesBelow(path);
    else if (found.isFile()) yield path;
  }
}
