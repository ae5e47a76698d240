import { appendFile, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import t from 'tap';
import { shortDirectory } from '../host/short-directory.js';
import { runIsr, type IsrRun, type TestHost } from './run-isr.js';

const root = shortDirectory(t);
const host: TestHost = { home: join(root, 'home'), repo: `file://${root}/repo` };
const source = join(root, 'web');

function isr(...parameters: readonly string[]): Promise<IsrRun> {
  return runIsr(host, [...parameters, '--json']);
}

async function done(...parameters: readonly string[]): Promise<Record<string, unknown>> {
  const run = await isr(...parameters);
  if (run.exitCode !== 0) throw new Error(`isr ${parameters.join(' ')}: ${run.stderr}`);
  return JSON.parse(run.stdout) as Record<string, unknown>;
}

async function failure(...parameters: readonly string[]): Promise<Record<string, unknown>> {
  const run = await isr(...parameters);
  const { error } = JSON.parse(run.stderr) as { error: Record<string, unknown> };
  return { exitCode: run.exitCode, ...error };
}

t.before(async () => {
  await done('init');
  await mkdir(source);
  await writeFile(join(source, 'disk'), randomBytes(1024 * 1024));
  await done('import', 'web', source, '--at', join(root, 'vms', 'web'));
});

t.test('what is pinned of a VM stays when everything is evicted', async (t) => {
  await done('cache', 'evict');
  t.match(await done('cache', 'pin', 'web'), {
    vmName: 'web',
    ofVersion: '1',
    entries: 10,
    localEntries: 2,
  });
  t.match(await done('warm', 'web'), { fetchedChunks: 8 });
  await done('cache', 'evict');
  t.match(await done('warm', 'web'), { chunks: 8, fetchedChunks: 0 });
  const listed = await done('cache', 'ls');
  t.match(listed, {
    kinds: { chunk: { entries: 8 }, 'map-node': { entries: 1 }, manifest: { entries: 1 } },
    pins: [{ vmName: 'web', ofVersion: '1', entries: 10, localEntries: 10 }],
  });
  t.match((await runIsr(host, ['cache', 'ls'])).stdout, /^Pinned +Version +Takes +Here\nweb +1 \(newest\)/m);
});

t.test('only what is here can be pinned, or a version by its name', async (t) => {
  await done('cache', 'unpin', '--all');
  await done('cache', 'evict');
  await done('warm', 'web', '--file', 'disk', '--range', '0-256K');
  t.match(await done('cache', 'pin', 'web', '--local'), { entries: 4, localEntries: 4 });
  t.match(await done('cache', 'pin', 'web', '--version', '1'), { version: '1', entries: 10 });
  t.match(await done('cache', 'unpin', 'web', '--version', '1'), { unpinned: [{}, {}] });
  t.match(await done('cache', 'unpin', 'web'), { unpinned: [] });
  t.match(await failure('cache', 'unpin'), { exitCode: 2, code: 'INVALID_INPUT' });
  t.match(await failure('cache', 'pin', 'web', '--version', '7'), { code: 'VERSION_MISSING' });
});

t.test('the limit is set, obeyed at once, and never below what pins need', async (t) => {
  await done('warm', 'web');
  const before = (await done('cache', 'ls')) as { bytes: number };
  await appendFile(join(host.home, 'config.toml'), '# a remark\n');
  t.match(await done('cache', 'limit', '512K'), { limitBytes: 512 * 1024 });
  t.equal(await readFile(join(host.home, 'config.toml'), 'utf8'), '# a remark\nlocal_cache = 524288\n');
  t.match(await done('cache', 'limit'), { limitBytes: 512 * 1024 });
  const after = (await done('cache', 'ls')) as { bytes: number };
  t.ok(after.bytes <= 512 * 1024 && before.bytes > 1024 * 1024);
  t.match(await failure('cache', 'pin', 'web'), { exitCode: 7, code: 'CACHE_PINS_FULL' });
  await done('cache', 'limit', '1G');
  await done('cache', 'pin', 'web');
  t.match(await failure('cache', 'limit', '1M'), { exitCode: 7, code: 'CACHE_PINS_FULL' });
  t.match(await done('cache', 'limit'), { limitBytes: 2 ** 30 });
});

t.test('verifying leaves alone what the keys of this host cannot open', async (t) => {
  await done('warm', 'web');
  await rename(join(host.home, 'keys'), join(host.home, 'keys-away'));
  t.match(await done('cache', 'verify'), { entries: 10, deleted: 0, unknown: 10 });
  await rename(join(host.home, 'keys-away'), join(host.home, 'keys')).catch(async () => {
    await rename(join(host.home, 'keys'), join(root, 'empty'));
    await rename(join(host.home, 'keys-away'), join(host.home, 'keys'));
  });
  t.match(await done('cache', 'verify'), { entries: 10, deleted: 0, unknown: 0 });
});
