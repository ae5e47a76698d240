/** VMs out of a copy of their repository on a web server. */
import { createHash, randomBytes } from 'node:crypto';
import { appendFile, mkdir, readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { buildGuest } from '../fixtures/guest/build.js';
import { readTicks, waitForTick } from '../fixtures/guest/console.js';
import { Nginx } from '../fixtures/nginx.js';
import { Trial } from '../fixtures/trial.js';
import type { DaemonStatus } from '../src/daemon/index.js';
import { seededRandom } from '../src/store/index.js';
import { FaultProxy, type WireFault } from '../test/support/fault-proxy.js';

const hashOf = (content: Uint8Array): string => createHash('sha256').update(content).digest('hex');

async function serve(trial: Trial): Promise<Nginx> {
  const nginx = await Nginx.start(trial.storePath);
  t.teardown(() => nginx[Symbol.asyncDispose]());
  process.env['NODE_EXTRA_CA_CERTS'] = nginx.certificatePath;
  return nginx;
}

t.test('a guest resumes from a web server; what it changes is published elsewhere', async (t) => {
  const { trial, host } = await Trial.create('guest');
  t.teardown(() => trial[Symbol.asyncDispose]());
  const guest = await buildGuest({ directory: join(trial.root, 'guest'), memoryMiB: 128, fillMiB: 16 });
  const consoleOf = async (on: typeof host) =>
    join((await on.vmPaths(trial.repositoryId, 'guest')).run, 'console.log');
  await host.isr(['import', 'guest', guest.directory, '--at', trial.mountPath], trial.url);
  await host.isr(['start', 'guest'], trial.url);
  await waitForTick(await consoleOf(host), 3);
  await host.isr(['suspend', 'guest'], trial.url);
  const last = (await readTicks(await consoleOf(host))).at(-1);

  const other = await trial.addHost();
  const { tlsUrl } = await serve(trial);
  await other.isr(['resume', 'guest'], tlsUrl);
  const first = await waitForTick(await consoleOf(other));
  t.equal(first.nonce, last?.nonce, 'the guest that was suspended');
  t.match(await other.isr<DaemonStatus>(['status', 'guest'], tlsUrl), {
    repository: tlsUrl,
    lease: { state: 'free' },
  });

  const refused = await other.isrError(['suspend', 'guest'], tlsUrl);
  t.match(refused, { code: 'SUSPEND_NOT_PUBLISHED', exitCode: 6, message: /it can only be read/ });
  t.match(refused.remedy, /isr --repo URL suspend guest/);
  await other.isr(['umount', 'guest'], tlsUrl);
  t.match(await other.isr(['suspend', 'guest'], trial.url), {
    publish: { outcome: 'published', version: 3 },
  });
  t.match(await host.isr(['verify', 'guest'], trial.url), { intact: true });
});

t.test('commands say what they cannot do with a web server', async (t) => {
  const { trial, host } = await Trial.create('web');
  t.teardown(() => trial[Symbol.asyncDispose]());
  const original = join(trial.root, 'original');
  await mkdir(original);
  await writeFile(join(original, 'file'), 'content');
  await host.isr(['import', 'web', original, '--at', trial.mountPath], trial.url);
  const { tlsUrl, url } = await serve(trial);
  t.match(await host.isr(['versions', 'web'], tlsUrl), { versions: [{ version: 1 }], branches: null });
  const readOnly = { code: 'STORE_REFUSED', exitCode: 6 };
  t.match(await host.isrError(['ls'], url), { ...readOnly, message: /no list of its objects/ });
  t.match(await host.isrError(['init'], url), { ...readOnly, message: /no repository can be made there/ });
  t.match(await host.isrError(['import', 'web', original, '--at', '/x'], url), readOnly);
  await host.isr(['mount', 'web'], url);
  await appendFile(join(trial.mountPath, 'file'), ' and more');
  t.match(await host.isrError(['publish', 'web'], url), { ...readOnly, message: /it can only be read/ });
  t.equal(await readFile(join(trial.mountPath, 'file'), 'utf8'), 'content and more');
  await host.isr(['umount', 'web'], url);
  t.match(await host.isr(['publish', 'web'], trial.url), { outcome: 'published', version: 2 });
});

t.test('programs read on while everything goes wrong on the wire, and the copy is made anew', async (t) => {
  const { trial, host } = await Trial.create('faults');
  t.teardown(() => trial[Symbol.asyncDispose]());
  const original = join(trial.root, 'original');
  await mkdir(original);
  const content = randomBytes(12 * 2 ** 20);
  await writeFile(join(original, 'file'), content);
  await host.isr(['import', 'faults', original, '--at', trial.mountPath], trial.url);
  const other = await trial.addHost();
  const { url } = await serve(trial);
  const faults: readonly WireFault[] = [
    ...(['reset', 'reset in the body', 'truncated body', 'wrong range'] as const),
    ...(['500', '503 SlowDown', '403', 'flipped bit'] as const),
  ];
  let isFaulty = false;
  const random = seededRandom(7);
  const proxy = await FaultProxy.start(url, () => {
    const fault = random() < 0.2 ? faults[Math.floor(random() * faults.length)] : undefined;
    return isFaulty ? fault : undefined;
  });
  t.teardown(() => proxy[Symbol.asyncDispose]());
  await other.isr(['mount', 'faults'], proxy.url);
  isFaulty = true;
  const reading = readFile(join(trial.mountPath, 'file'));
  await proxy.refuse();
  await proxy.accept();
  for (const name of await readdir(trial.storePath, { recursive: true }))
    if (name.startsWith('pack/')) await utimes(join(trial.storePath, name), 1e9, 1e9);
  t.equal(hashOf(await reading), hashOf(content));
  t.ok(proxy.made.size > 0, [...proxy.made].map((made) => made.join(': ')).join(', '));
});
