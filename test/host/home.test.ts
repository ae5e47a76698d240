import { createHash } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import t from 'tap';
import { limits } from '../../src/base/index.js';
import { HomeDamaged, HomeUnusable, openHostHome } from '../../src/host/index.js';
import { shortDirectory } from './short-directory.js';

const repositoryId = '0123456789abcdef0123456789abcdef';

/** Nothing of the user who runs the tests has a say in them. */
function isolated(directory: string, more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  return { XDG_CONFIG_HOME: join(directory, 'config'), XDG_STATE_HOME: join(directory, 'state'), ...more };
}

t.test('a home is made at first use, for this user alone', async (t) => {
  const directory = shortDirectory(t);
  const home = await openHostHome(join(directory, 'a', 'home'), isolated(directory));
  for (const path of [home.path, home.cachePath, dirname(home.keyPath(repositoryId))]) {
    t.equal((await stat(path)).mode & 0o777, 0o700, path);
  }
  t.equal((await stat(join(home.path, 'host.json'))).mode & 0o777, 0o600);
  t.match(home.identity.hostId, /^[0-9a-f]{32}$/);
  t.equal(home.configuration.localCacheBytes, limits.localCacheBytes);
  const again = await openHostHome(home.path, isolated(directory));
  t.same(again.identity, home.identity);
});

t.test('concurrent first uses agree on one identity and leave nothing else behind', async (t) => {
  const directory = shortDirectory(t);
  const homes = await Promise.all(
    Array.from({ length: 8 }, () => openHostHome(join(directory, 'home'), isolated(directory))),
  );
  t.equal(new Set(homes.map(({ identity }) => identity.hostId)).size, 1);
  const files = await readdir(join(directory, 'home'));
  t.same(
    files.filter((file) => file.endsWith('.tmp')),
    [],
  );
});

t.test(
  'the home is the argument, else ISR_HOME, else what the user configured, else the default',
  async (t) => {
    const directory = t.testdir({ config: { isr: {} } });
    const environment = isolated(directory);
    t.equal((await openHostHome(undefined, environment)).path, join(directory, 'state', 'isr'));
    await writeFile(join(directory, 'config', 'isr', 'config.toml'), `home = "${directory}/configured"\n`);
    t.equal((await openHostHome(undefined, environment)).path, join(directory, 'configured'));
    const withVariable = { ...environment, ISR_HOME: join(directory, 'variable') };
    t.equal((await openHostHome(undefined, withVariable)).path, join(directory, 'variable'));
    t.equal(
      (await openHostHome(join(directory, 'argument'), withVariable)).path,
      join(directory, 'argument'),
    );
  },
);

t.test('a home that cannot be made is refused with its path', async (t) => {
  const directory = shortDirectory(t);
  await writeFile(join(directory, 'file'), '');
  await t.rejects(openHostHome(join(directory, 'file', 'home'), isolated(directory)), {
    constructor: HomeUnusable,
    code: 'HOME_UNUSABLE',
    message: /ENOTDIR/,
  });
});

t.test('a damaged identity is not replaced by a new one', async (t) => {
  const directory = shortDirectory(t);
  await mkdir(join(directory, 'home'));
  await writeFile(join(directory, 'home', 'host.json'), '{"hostId":"12"');
  await t.rejects(openHostHome(join(directory, 'home'), isolated(directory)), HomeDamaged);
  t.equal(await readFile(join(directory, 'home', 'host.json'), 'utf8'), '{"hostId":"12"');
});

t.test('sockets get a short path whatever the length of the home', async (t) => {
  const directory = shortDirectory(t);
  const short = await openHostHome(join(directory, 'h'), isolated(directory));
  const vmName = 'v'.repeat(64);
  const long = await openHostHome(join(directory, 'x'.repeat(100)), isolated(directory));
  const run = long.vmPaths(repositoryId, vmName).run;
  t.teardown(() => rm(dirname(run), { recursive: true, force: true }));
  t.ok(Buffer.byteLength(run) < 90);
  t.ok(run.startsWith('/tmp/isr-'));
  t.ok(Buffer.byteLength(short.vmPaths(repositoryId, vmName).controlSocket) < 104);
  t.equal((await stat(dirname(run))).mode & 0o777, 0o700);
  t.not(long.vmPaths(repositoryId, 'other').run, run);
});

t.test('a socket directory in /tmp that others could have prepared is refused', async (t) => {
  const directory = shortDirectory(t);
  const path = join(directory, 'y'.repeat(100));
  const home = await openHostHome(path, isolated(directory));
  const run = dirname(home.vmPaths(repositoryId, 'web').run);
  t.teardown(() => rm(run, { recursive: true, force: true }));
  await chmod(run, 0o755);
  await t.rejects(openHostHome(path, isolated(directory)), {
    code: 'HOME_UNUSABLE',
    message: /other users can enter it/,
  });
  await rm(run, { recursive: true });
  await symlink(directory, run);
  await t.rejects(openHostHome(path, isolated(directory)), {
    code: 'HOME_UNUSABLE',
    message: /not a directory/,
  });
});

t.test('state of VMs is found; having looked at a VM is not state', async (t) => {
  const directory = shortDirectory(t);
  const home = await openHostHome(join(directory, 'home'), isolated(directory));
  t.same(await home.vmsWithState(repositoryId), []);
  t.same(await home.repositoriesWithState(), []);
  const seenOnly = await home.makeVmPaths(repositoryId, 'seen-only');
  await writeFile(seenOnly.seenRecord, '{}');
  const web = await home.makeVmPaths(repositoryId, 'web');
  await mkdir(web.overlay);
  t.same(await home.vmsWithState(repositoryId), ['web']);
  t.same(await home.repositoriesWithState(), [repositoryId]);
  t.equal((await stat(web.directory)).mode & 0o777, 0o700);
  t.equal((await stat(web.run)).mode & 0o777, 0o700);
});

t.test('which repository is at a URL is remembered; a damaged memory is forgotten', async (t) => {
  const directory = shortDirectory(t);
  const home = await openHostHome(join(directory, 'home'), isolated(directory));
  const url = 'file:///srv/isr';
  t.equal(await home.repositoryAt(url), undefined);
  const header = { version: 1, repositoryId, chunkBytes: 131_072 };
  await home.rememberRepository(url, header);
  t.strictSame(await home.repositoryAt(url), header);
  t.equal(await home.repositoryAt('file:///srv/other'), undefined);
  const name = createHash('sha256').update(url).digest('hex').slice(0, 32);
  await writeFile(join(home.path, 'repositories', `${name}.json`), '{"repositoryId":"../../x"}\n');
  t.equal(await home.repositoryAt(url), undefined);
});

t.test('one URL of S3 means another place with another endpoint', async (t) => {
  const directory = shortDirectory(t);
  const home = await openHostHome(join(directory, 'home'), isolated(directory));
  const files = {
    AWS_CONFIG_FILE: join(directory, 'config'),
    AWS_SHARED_CREDENTIALS_FILE: join(directory, 'none'),
  };
  const before = { ...process.env };
  const names = ['AWS_ENDPOINT_URL_S3', 'AWS_ENDPOINT_URL', 'AWS_REGION', 'AWS_PROFILE'];
  const clean = Object.fromEntries(Object.entries(before).filter(([name]) => !names.includes(name)));
  const with_ = (more: NodeJS.ProcessEnv): void => {
    process.env = { ...clean, ...files, ...more };
  };
  t.teardown(() => (process.env = before));
  const url = 's3://bucket/isr';
  const one = { version: 1, repositoryId, chunkBytes: 131_072 };
  const other = { ...one, repositoryId: 'f'.repeat(32) };
  with_({ AWS_ENDPOINT_URL_S3: 'http://one.example' });
  await home.rememberRepository(url, one);
  with_({ AWS_ENDPOINT_URL_S3: 'http://other.example' });
  t.equal(await home.repositoryAt(url), undefined);
  await home.rememberRepository(url, other);
  t.strictSame(await home.repositoryAt(url), other);
  t.equal(await home.repositoryAt(`lab+${url}?rttMs=1`), undefined);
  with_({ AWS_ENDPOINT_URL: 'http://one.example' });
  t.strictSame(await home.repositoryAt(url), one);
  with_({ AWS_REGION: 'eu-central-1' });
  t.equal(await home.repositoryAt(url), undefined);
});

t.test('a name that would leave the home is a programming error', async (t) => {
  const directory = shortDirectory(t);
  const home = await openHostHome(join(directory, 'home'), isolated(directory));
  for (const name of ['', '.', '..', '../x', 'a/b', '.hidden', 'a\0b']) {
    t.throws(() => home.vmPaths(repositoryId, name), { message: /not a path segment/ }, JSON.stringify(name));
    t.throws(() => home.keyPath(name), { message: /not a path segment/ });
  }
});
