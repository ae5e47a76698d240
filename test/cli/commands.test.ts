import { cp, mkdir, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { shortDirectory } from '../host/short-directory.js';
import { runCommandLine } from '../../src/cli/program.js';
import { runIsr, type IsrRun, type TestHost } from './run-isr.js';

const passphrase = 'correct horse battery staple';

/** Everything that any command of this file printed: no key may be in it. */
const printed: string[] = [];

async function isr(
  host: TestHost,
  parameters: readonly string[],
  options: Parameters<typeof runIsr>[2] = {},
): Promise<IsrRun> {
  const run = await runIsr(host, parameters, options);
  printed.push(run.stdout, run.stderr);
  return run;
}

function withPassphrase(text: string): Parameters<typeof runIsr>[2] {
  return { environment: { ISR_PASSPHRASE: text } };
}

/** The error document of a run with `--json`, and its exit code. */
function failure(
  run: IsrRun,
): { readonly exitCode: number | null; readonly code: string } & Record<string, unknown> {
  const { error } = JSON.parse(run.stderr) as { error: { code: string; message: string } };
  return { exitCode: run.exitCode, ...error };
}

function result(run: IsrRun): unknown {
  return run.exitCode === 0 ? JSON.parse(run.stdout) : run;
}

const root = shortDirectory(t);
const hostA: TestHost = { home: join(root, 'a'), repo: `file://${root}/repo` };
const hostB: TestHost = { home: join(root, 'b'), repo: hostA.repo };
const keyFile = join(root, 'isr.key');

t.before(async () => {
  const run = await isr(hostA, ['init', '--json']);
  t.match(result(run), {
    repositoryId: /^[0-9a-f]{32}$/,
    store: hostA.repo,
    chunkBytes: 131072,
    keyPath: new RegExp(`^${hostA.home}`),
  });
});

t.test('a command line that does not parse says what to try', async (t) => {
  const cases: readonly [parameters: readonly string[], message: RegExp, remedy: string][] = [
    [['nonsense'], /Unknown command 'nonsense'/, 'Try: isr --help'],
    [['versons', 'web'], /did you mean versions\?/, 'Try: isr --help'],
    [['versions'], /Missing required argument 'vm'/, 'Try: isr versions --help'],
    [['ls', '--wide'], /Unknown option '--wide'/, 'Try: isr ls --help'],
    [['ls', 'surplus'], /Too many arguments/, 'Try: isr ls --help'],
  ];
  const runs = await Promise.all(cases.map(([parameters]) => isr(hostA, [...parameters, '--json'])));
  for (const [index, [, message, remedy]] of cases.entries()) {
    t.match(failure(runs[index]!), { exitCode: 2, code: 'USAGE', message, remedy, facts: {} });
    t.equal(runs[index]!.stdout, '');
  }
});

t.test('help is on stdout, with examples; without a command it is on stderr', async (t) => {
  const [all, one, nested, none, version] = await Promise.all([
    isr(hostA, ['--help']),
    isr(hostA, ['help', 'versions']),
    isr(hostA, ['lease', 'break', '--help']),
    isr(hostA, []),
    isr(hostA, ['--version']),
  ]);
  t.match(all, { exitCode: 0, stderr: '', stdout: /Examples:[^]*Exit codes:/ });
  t.match(one, { exitCode: 0, stderr: '', stdout: /Examples:\n {2}isr versions web/ });
  t.match(nested, { exitCode: 0, stderr: '', stdout: /Usage: isr lease break/ });
  t.match(none, { exitCode: 2, stdout: '', stderr: /Usage: isr[^]*No command is given/ });
  t.match(version, { exitCode: 0, stdout: /^\d+\.\d+\.\d+\n$/ });
});

t.test('a repository that is there is left alone', async (t) => {
  const before = await readFile(join(root, 'repo', 'isr'));
  const [forMachines, forPeople] = await Promise.all([isr(hostB, ['init', '--json']), isr(hostA, ['init'])]);
  t.match(failure(forMachines), { exitCode: 4, code: 'REPOSITORY_EXISTS', remedy: String });
  t.match(forPeople, { exitCode: 4, stdout: '', stderr: /^isr: There already is a repository.*\n {2}\S/ });
  t.same(await readFile(join(root, 'repo', 'isr')), before);
  t.same(await readdir(join(hostB.home, 'keys')), [], 'no key without a repository');
});

t.test('a repository that is not there, not reachable or not named', async (t) => {
  await mkdir(join(root, 'empty', 'tmp'), { recursive: true });
  const [missing, unreachable, unsupported, unnamed] = await Promise.all([
    isr(hostA, ['--json', '--repo', `file://${root}/empty`, 'ls']),
    isr(hostA, ['--json', 'ls', '--repo', `file://${root}/nowhere`]),
    isr(hostA, ['--json', 'ls', '--repo', 'gopher://example.org/']),
    isr({ home: hostA.home, repo: '' }, ['--json', 'ls']),
  ]);
  t.match(failure(missing), { exitCode: 3, code: 'REPOSITORY_MISSING' });
  t.match(failure(unreachable), { exitCode: 6, code: 'STORE_UNREACHABLE' });
  t.match(failure(unsupported), { exitCode: 2, code: 'INVALID_INPUT' });
  t.match(failure(unnamed), { exitCode: 2, code: 'INVALID_INPUT', message: /No repository is named/ });
});

t.test('the configuration in the home can name the repository', async (t) => {
  const home = join(root, 'configured');
  await cp(hostA.home, home, { recursive: true });
  await writeFile(join(home, 'config.toml'), `repository = "${hostA.repo}"\n`);
  // As if ISR_REPO were not set: the environment wins over the configuration.
  const run = await isr({ home, repo: hostA.repo }, ['ls', '--json'], {
    environment: { ISR_REPO: undefined },
  });
  t.match(result(run), { vms: [] });
  await writeFile(join(home, 'config.toml'), `colour = "blue"\n`);
  const refused = await isr({ home, repo: hostA.repo }, ['ls', '--json']);
  t.match(failure(refused), { exitCode: 2, code: 'INVALID_CONFIGURATION', message: /colour/ });
});

t.test('a key travels by file and passphrase', async (t) => {
  const exported = await isr(hostA, ['key', 'export', keyFile, '--json'], withPassphrase(passphrase));
  t.match(result(exported), { repositoryId: /^[0-9a-f]{32}$/, file: keyFile, readOnly: false });
  t.equal((await stat(keyFile)).mode & 0o777, 0o600);
  const before = await readFile(keyFile);
  const [again, keyless, mistyped, unasked] = await Promise.all([
    isr(hostA, ['key', 'export', keyFile, '--json'], withPassphrase(passphrase)),
    isr(hostB, ['ls', '--json']),
    isr(hostB, ['key', 'import', keyFile, '--json'], withPassphrase('wrong')),
    isr(hostB, ['key', 'import', keyFile, '--json']),
  ]);
  t.match(failure(again), { exitCode: 4, code: 'FILE_EXISTS' });
  t.same(await readFile(keyFile), before);
  t.match(failure(keyless), { exitCode: 8, code: 'KEY_MISSING', remedy: /isr key import/ });
  t.match(failure(mistyped), { exitCode: 8, code: 'WRONG_PASSPHRASE' });
  t.match(failure(unasked), { exitCode: 2, code: 'INVALID_INPUT', remedy: /ISR_PASSPHRASE/ });
  t.same(await readdir(join(hostB.home, 'keys')), []);

  const imported = await isr(hostB, ['key', 'import', keyFile, '--json'], withPassphrase(passphrase));
  t.match(result(imported), { readOnly: false });
  t.match(result(await isr(hostB, ['ls', '--json'])), { vms: [] });
});

t.test('a read-only key goes through a pipe', async (t) => {
  const passphraseFile = join(root, 'passphrase');
  await writeFile(passphraseFile, `${passphrase}\n`);
  const exported = await isr(hostA, ['key', 'export', '--read-only', '--passphrase-file', passphraseFile]);
  t.equal(exported.exitCode, 0);
  const reader: TestHost = { home: join(root, 'reader'), repo: hostA.repo };
  const imported = await isr(reader, ['key', 'import', '-', '--passphrase-file', passphraseFile, '--json'], {
    input: exported.stdout,
  });
  t.match(result(imported), { readOnly: true });
  const broken = await isr(reader, ['key', 'import', '-', '--passphrase-file', passphraseFile, '--json'], {
    input: exported.stdout.replace('"sealed"', '"sealde"'),
  });
  t.match(failure(broken), { exitCode: 8, code: 'INVALID_KEY_FILE' });
});

t.test('a key that does not fit the repository is found at once', async (t) => {
  const home = join(root, 'wrong-key');
  await cp(hostA.home, home, { recursive: true });
  const [file] = await readdir(join(home, 'keys'));
  const path = join(home, 'keys', file!);
  const secrets = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
  secrets['encryptionKey'] = Buffer.alloc(32, 7).toString('base64');
  await writeFile(path, JSON.stringify(secrets));
  const otherRepo = `file://${root}/other-repo`;
  const other: TestHost = { home: join(root, 'other'), repo: otherRepo };
  t.equal((await isr(other, ['init'])).exitCode, 0);
  const [altered, foreign, note] = await Promise.all([
    isr({ home, repo: hostA.repo }, ['ls', '--json']),
    isr(hostA, ['ls', '--json', '--repo', otherRepo]),
    isr(other, ['key', 'import', keyFile], withPassphrase(passphrase)),
  ]);
  t.match(failure(altered), { exitCode: 5, code: 'DAMAGED_OBJECT' });
  t.match(failure(foreign), { exitCode: 8, code: 'KEY_MISSING' });
  t.match(note, { exitCode: 0, stderr: /^Note: this is the key of repository/ });
});

t.test('names and paths that are not allowed are refused before anything is done', async (t) => {
  const [name, relative, dots, missing, pathless] = await Promise.all([
    isr(hostA, ['import', '../web', root, '--at', '/vms/web', '--json']),
    isr(hostA, ['import', 'web', root, '--at', 'vms/web', '--json']),
    isr(hostA, ['import', 'web', root, '--at', '/vms/../web', '--json']),
    isr(hostA, ['import', 'web', join(root, 'nowhere'), '--at', '/vms/web', '--json']),
    isr(hostA, ['import', 'web2', root, '--json']),
  ]);
  t.match(failure(name), { exitCode: 2, code: 'INVALID_VM_NAME' });
  t.match(failure(relative), { exitCode: 2, code: 'INVALID_INPUT', message: /not absolute/ });
  t.match(failure(dots), { exitCode: 2, code: 'INVALID_INPUT', message: /shortest form/ });
  t.not(missing.exitCode, 0);
  t.match(failure(pathless), { exitCode: 2, code: 'INVALID_INPUT', remedy: /--at/ });
});

t.test('versions: import, list, export, verify', async (t) => {
  const source = join(root, 'web');
  await mkdir(join(source, 'disks'), { recursive: true });
  await writeFile(join(source, 'memory'), Buffer.alloc(700_000, 'guest memory '));
  await writeFile(join(source, 'disks', 'root.img'), 'a small disk');
  await truncate(join(source, 'disks', 'root.img'), 5_000_000);

  const first = await isr(hostA, ['import', 'web', source, '--at', '/vms/web', '--json']);
  t.match(result(first), {
    vmName: 'web',
    outcome: 'published',
    version: 1,
    mountPath: '/vms/web',
    logicalBytes: 5_700_000,
    storedBytes: Number,
    seconds: Number,
  });
  await writeFile(join(source, 'notes'), 'second');
  const second = await isr(hostB, ['import', 'web', source]);
  t.match(second, { exitCode: 0, stdout: /^Published version 2 of web for \/vms\/web: .*\n$/ });

  const [listed, versions, table, missing] = await Promise.all([
    isr(hostA, ['ls', '--json']),
    isr(hostA, ['versions', 'web', '--json']),
    isr(hostA, ['versions', 'web']),
    isr(hostA, ['versions', 'mail', '--json']),
  ]);
  t.match(result(listed), {
    vms: [{ vmName: 'web', version: 2, mountPath: '/vms/web', lease: { state: 'free' } }],
  });
  t.match(result(versions), {
    vmName: 'web',
    versions: [
      { version: 2, parent: 1, logicalBytes: 5_700_006, createdAt: /^\d{4}-.*Z$/, host: { hostId: String } },
      { version: 1, parent: null, mountPath: '/vms/web' },
    ],
    branches: [],
  });
  t.match(table.stdout, /^VERSION +DATE +HOST +FROM +SIZE +STORED\n2 .*\n1 .*\n$/);
  t.match(failure(missing), { exitCode: 3, code: 'VM_MISSING' });

  const [exported, old, absent, verified] = await Promise.all([
    isr(hostA, ['export', 'web', join(root, 'out'), '--json']),
    isr(hostA, ['export', 'web', join(root, 'out-1'), '--version', '1']),
    isr(hostA, ['export', 'web', join(root, 'out-9'), '--version', '9', '--json']),
    isr(hostA, ['verify', 'web', '--json']),
  ]);
  t.match(result(exported), { vmName: 'web', version: 2 });
  for (const file of ['memory', 'disks/root.img', 'notes']) {
    t.ok((await readFile(join(root, 'out', file))).equals(await readFile(join(source, file))), file);
  }
  t.equal(old.exitCode, 0);
  t.same((await readdir(join(root, 'out-1'))).sort(), ['disks', 'memory']);
  t.match(failure(absent), { exitCode: 3, code: 'VERSION_MISSING' });
  t.match(result(verified), { vmName: 'web', version: 2 });
});

t.test('a command that is cancelled says so and leaves nothing behind', async (t) => {
  const target = join(root, 'out-cancelled');
  const global = ['--home', hostA.home, '--repo', hostA.repo, '--json'];
  for (const command of [
    ['verify', 'web'],
    ['export', 'web', target],
  ]) {
    t.equal(await runCommandLine([...global, ...command], AbortSignal.abort()), 130);
  }
  const left = await readdir(root);
  t.same(
    left.filter((name) => name.startsWith('out-cancelled')),
    [],
  );
});

t.test('the lease can be seen and taken over', async (t) => {
  t.match(result(await isr(hostA, ['lease', 'show', 'web', '--json'])), {
    lease: { state: 'free' },
    heldHere: false,
  });
  t.match(result(await isr(hostB, ['lease', 'break', 'web', '--json'])), {
    lease: { state: 'held' },
    takenFrom: null,
  });
  const [shown, refused] = await Promise.all([
    isr(hostA, ['lease', 'show', 'web', '--json']),
    isr(hostA, ['import', 'web', join(root, 'web'), '--json']),
  ]);
  t.match(result(shown), { lease: { state: 'held' }, heldHere: false });
  t.match(failure(refused), { exitCode: 4, code: 'LEASE_HELD', remedy: /isr lease break web/ });
  const taken = await isr(hostA, ['lease', 'break', 'web', '--json']);
  t.match(result(taken), { lease: { state: 'held' }, takenFrom: { hostId: String } });
  t.match(result(await isr(hostA, ['lease', 'show', 'web', '--json'])), { heldHere: true });
});

t.test('without a mount, status says so', async (t) => {
  const [all, one] = await Promise.all([
    isr(hostA, ['status', '--json']),
    isr(hostA, ['status', 'web', '--json']),
  ]);
  t.match(result(all), { vms: [] });
  t.match(result(one), { vmName: 'web', daemonState: 'none', changedFiles: 0, newestVersion: 2 });
});

t.test('what needs local changes or a mount says that there is none', async (t) => {
  // One after the other: they lock the VM's local state.
  const publish = await isr(hostB, ['publish', 'web', '--json']);
  const discard = await isr(hostB, ['discard', 'web', '--json']);
  const umount = await isr(hostB, ['umount', 'web', '--json']);
  t.match(result(publish), { outcome: 'unchanged' });
  t.match(result(discard), { changedFiles: 0, leaseReleased: false });
  t.match(failure(umount), { exitCode: 3, code: 'NOT_MOUNTED' });
});

t.test('damage is named', async (t) => {
  const packs = join(root, 'repo', 'pack');
  const files = (await readdir(packs, { recursive: true, withFileTypes: true })).filter((entry) =>
    entry.isFile(),
  );
  for (const { parentPath, name } of files) {
    const path = join(parentPath, name);
    const bytes = await readFile(path);
    // The middle of the first blob.
    bytes[60] = (bytes[60] ?? 0) ^ 1;
    await writeFile(path, bytes);
  }
  const run = await isr(hostA, ['verify', 'web', '--version', '1', '--json']);
  t.equal(run.exitCode, 5);
});

t.test('a log that goes back in time is noticed', async (t) => {
  const log = join(root, 'repo', 'log');
  const [vm] = await readdir(log);
  const entries = (await readdir(join(log, vm!))).sort();
  t.ok(entries.length > 2);
  await rm(join(log, vm!, entries.at(-1)!));
  const run = await isr(hostA, ['versions', 'web', '--json']);
  t.match(failure(run), { exitCode: 5, code: 'ROLLED_BACK' });
});

t.test('no key and no passphrase was ever printed', async (t) => {
  const everything = printed.join('\n');
  const files = await readdir(join(hostA.home, 'keys'));
  t.equal(files.length, 1);
  const secrets = JSON.parse(await readFile(join(hostA.home, 'keys', files[0]!), 'utf8')) as Record<
    string,
    string
  >;
  for (const name of ['encryptionKey', 'signingSeed']) {
    const key = Buffer.from(secrets[name]!, 'base64');
    t.equal(key.length, 32);
    for (const encoding of ['hex', 'base64', 'base64url'] as const) {
      t.notOk(everything.includes(key.toString(encoding).slice(0, 40)), `${name} as ${encoding}`);
    }
  }
  t.notOk(everything.includes(passphrase));
});
