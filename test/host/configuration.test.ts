import { lstat, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { limits } from '../../src/base/index.js';
import { setConfigured } from '../../src/host/change-configuration.js';
import { readConfigurationFile } from '../../src/host/configuration.js';
import { InvalidConfiguration, openHostHome, type Configuration } from '../../src/host/index.js';
import { shortDirectory } from './short-directory.js';

/** Opens a home whose user's and own configuration files have these contents. */
async function configure(directory: string, files: { user?: string; home?: string }): Promise<Configuration> {
  const user = join(directory, 'config', 'isr');
  const home = join(directory, 'home');
  await mkdir(user, { recursive: true });
  await mkdir(home, { recursive: true });
  if (files.user !== undefined) await writeFile(join(user, 'config.toml'), files.user);
  if (files.home !== undefined) await writeFile(join(home, 'config.toml'), files.home);
  return (await openHostHome(home, { XDG_CONFIG_HOME: join(directory, 'config') })).configuration;
}

t.test('without files everything has its default', async (t) => {
  t.same(await configure(shortDirectory(t), {}), {
    repository: undefined,
    engine: undefined,
    localCacheBytes: limits.localCacheBytes,
    tiers: [],
    bytesPerSecond: undefined,
    backgroundBytesPerSecond: undefined,
    requestsInFlight: undefined,
    trickle: false,
    trickleBytesPerSecond: undefined,
    fill: false,
    fillBytesPerSecond: undefined,
    memoryCacheBytes: limits.memoryCacheBytes,
    betweenDemands: true,
    rewritePercent: 5,
    codecThreads: limits.codecThreads,
  });
});

t.test('the file in the home wins over the file of the user, key by key', async (t) => {
  const configuration = await configure(shortDirectory(t), {
    user: 'repository = "file:///user"\nlocal_cache = "1G"\n',
    home: 'repository = "file:///home"\nengine = "fuse-native"\nmemory_cache = 1048576\nbetween_demands = false\ncodec_threads = 3\nrewrite_percent = 0\ntrickle = true\ntrickle_mbps = 8\nfill = true\nfill_mbps = 16\n',
  });
  t.same(configuration, {
    repository: 'file:///home',
    engine: 'fuse-native',
    localCacheBytes: 2 ** 30,
    tiers: [],
    bytesPerSecond: undefined,
    backgroundBytesPerSecond: undefined,
    requestsInFlight: undefined,
    trickle: true,
    trickleBytesPerSecond: 1e6,
    fill: true,
    fillBytesPerSecond: 2e6,
    memoryCacheBytes: 2 ** 20,
    betweenDemands: false,
    rewritePercent: 0,
    codecThreads: 3,
  });
});

t.test('what cannot be used is refused by name', async (t) => {
  const cases: readonly [content: string, message: RegExp][] = [
    ['repositry = "file:///x"', /unknown key: repositry/],
    ['local_cache = "20 gigs"', /bad value for local_cache: it must be a size/],
    ['local_cache = "0.3"', /bad value for local_cache/],
    ['local_cache = -1', /bad value for local_cache: it must not be negative/],
    ['memory_cache = true', /bad value for memory_cache: it must be a size/],
    ['codec_threads = 0', /bad value for codec_threads: it must be at least 1/],
    ['rewrite_percent = 101', /bad value for rewrite_percent: it must be at most 100/],
    ['fill_mbps = 0', /bad value for fill_mbps: it must be more than 0/],
    ['trickle = 8', /bad value for trickle: it must be true or false/],
    ['repository = ""', /bad value for repository: it must not be empty/],
    ['home = "/x"', /unknown key: home/],
    ['repository = ', /not valid TOML \(line 1/],
  ];
  for (const [home, message] of cases) {
    await t.rejects(configure(shortDirectory(t), { home }), { code: 'INVALID_CONFIGURATION', message }, home);
  }
});

t.test('one key is set, and everything else of the file stays as it is', async (t) => {
  const path = join(t.testdir(), 'config.toml');
  await setConfigured(path, 'local_cache', 5 * 2 ** 30);
  t.equal(await readFile(path, 'utf8'), 'local_cache = 5368709120\n', 'made if absent');
  await writeFile(path, '# mine\nengine = "kernel"\n  local_cache="20G"   # a lot\r\ntiers = ["/usb"]');
  await setConfigured(path, 'local_cache', 1000);
  t.equal(
    await readFile(path, 'utf8'),
    '# mine\nengine = "kernel"\nlocal_cache = 1000   # a lot\r\ntiers = ["/usb"]',
  );
  await setConfigured(path, 'rewrite_percent', 3);
  t.match(await readConfigurationFile(path), { engine: 'kernel', local_cache: 1000, rewrite_percent: 3 });
});

t.test('a symbolic link stays one; what cannot be changed safely is refused', async (t) => {
  const directory = t.testdir({ dotfiles: { 'isr.toml': 'local_cache = 1\n' } });
  const path = join(directory, 'config.toml');
  await symlink(join(directory, 'dotfiles', 'isr.toml'), path);
  await setConfigured(path, 'local_cache', 2);
  t.ok((await lstat(path)).isSymbolicLink());
  t.equal(await readFile(path, 'utf8'), 'local_cache = 2\n');
  for (const text of ['engine = """\nlocal_cache = 7\n"""\nlocal_cache = 5\n', '"local_cache" = 5\n']) {
    await writeFile(path, text);
    await t.rejects(setConfigured(path, 'local_cache', 3), InvalidConfiguration);
    t.equal(await readFile(path, 'utf8'), text);
  }
});

t.test('a configuration that changes is seen, and counts as it was while it cannot be used', async (t) => {
  const directory = t.testdir();
  const home = await openHostHome(join(directory, 'home'), { XDG_CONFIG_HOME: directory });
  t.equal(home.localCacheBytesNow(), limits.localCacheBytes);
  await home.setLocalCacheBytes(12_345);
  t.equal(home.localCacheBytesNow(), 12_345);
  await writeFile(join(home.path, 'config.toml'), 'local_cache = ?');
  t.equal(home.localCacheBytesNow(), 12_345);
  await rm(join(home.path, 'config.toml'));
  t.equal(home.localCacheBytesNow(), limits.localCacheBytes);
});
