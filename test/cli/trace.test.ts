import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { traceAsSvg } from '../../src/cli/trace-svg.js';
import { traceForTerminal } from '../../src/cli/trace-terminal.js';
import { openHostHome } from '../../src/host/index.js';
import { Repository, type StoredTrace, type Trace } from '../../src/repo/index.js';
import { openStore } from '../../src/store/index.js';
import { keepRecording } from '../../src/trace/index.js';
import { shortDirectory } from '../host/short-directory.js';
import { recordingOf } from '../support/traces.js';
import { runIsr, type TestHost } from './run-isr.js';

const chunks = (path: string, first: number, count: number) =>
  Array.from({ length: count }, (_, at) => ({ path, chunkIndex: first + at }));

const resume = recordingOf([...chunks('state', 0, 7), ...chunks('mem', 100, 50), ...chunks('mem', 0, 3)]);

const stored = (trace: Trace): StoredTrace => ({ number: 7, storedBytes: 1, trace });

t.test('traces are listed, drawn and forgotten', async (t) => {
  const root = shortDirectory(t);
  const host: TestHost = { home: join(root, 'home'), repo: `file://${root}/repo` };
  const isr = (...parameters: string[]) => runIsr(host, ['trace', ...parameters]);
  const json = async (...parameters: string[]) => {
    const run = await isr(...parameters, '--json');
    return JSON.parse(run.exitCode === 0 ? run.stdout : run.stderr) as unknown;
  };
  await mkdir(join(root, 'web'));
  await writeFile(join(root, 'web', 'mem'), 'memory');
  await runIsr(host, ['init']);
  await runIsr(host, ['import', 'web', join(root, 'web'), '--at', '/vms/web']);

  t.match(await isr('ls', 'web'), { exitCode: 0, stdout: 'No resume of web was recorded yet.\n' });
  t.match(await json('show', 'web'), { error: { code: 'TRACE_MISSING' } });
  t.match(await json('ls', 'mail'), { error: { code: 'VM_MISSING' } });

  const store = await openStore(host.repo);
  t.teardown(() => store[Symbol.asyncDispose]());
  const { repositoryId } = await Repository.readHeader(store);
  const repository = await Repository.open(
    store,
    await (await openHostHome(host.home)).loadSecrets(repositoryId),
  );
  t.teardown(() => repository[Symbol.asyncDispose]());
  await keepRecording(repository.history('web'), resume);
  await keepRecording(repository.history('web'), recordingOf(chunks('mem', 100, 50)));

  t.match(await json('ls', 'web'), {
    vmName: 'web',
    traces: [
      { number: 2, resumes: 2, chunks: 60, likelyChunks: 60, version: 1 },
      { number: 1, resumes: 1, chunks: 60, files: [{ path: 'mem', chunks: 53 }, { path: 'state', chunks: 7 }] }, // prettier-ignore
    ],
  });
  t.match(await isr('ls', 'web'), { exitCode: 0, stdout: /TRACE.*LIKELY.*\n +2 .*\n +1 / });

  const svg = join(root, 'web.svg');
  const shown = await isr('show', 'web', '--svg', svg);
  t.match(shown, { exitCode: 0, stdout: /^Trace 2 of web.*2 resumes, 60 chunks[^]*mem .*53 chunks within/ });
  t.match(await readFile(svg, 'utf8'), /^<svg [^]*<\/svg>\n$/);
  t.match(await json('show', 'web', '--number', '1'), {
    number: 1,
    svg: null,
    touches: [{ path: 'state', chunkIndex: 0, atMs: 0, timesSeen: 1, ageInResumes: 0 }],
  });
  t.match(await json('show', 'web', '--number', '3'), { error: { code: 'TRACE_MISSING' } });
  t.match(await json('show', 'web', '--number', 'x'), { error: { code: 'INVALID_INPUT' } });

  t.match(await json('rm', 'web'), { vmName: 'web', removed: 2 });
  t.match(await json('ls', 'web'), { traces: [] });
});

t.test('in a terminal, a file is dense where it is touched, and time begins at the left', async (t) => {
  const lines = traceForTerminal(resume).split('\n');
  t.match(lines[0], /^mem {4}█·+█{20,}.* {2}53 chunks within 18\.8 MiB$/);
  t.match(lines[1], /^state {2}█{7} +7 chunks within 896 KiB$/);
  t.match(lines.at(-1), /^time .* first touches, 0 to 0\.1 s$/);
  t.match(traceForTerminal(recordingOf([])), /first touches, 0 to 0\.0 s/);
});

t.test('a picture has each point once, whatever the files are called', async (t) => {
  const hostile = '</text><script>&\u0000';
  const picture = traceAsSvg(
    'web',
    stored(recordingOf([...chunks(hostile, 0, 5000), ...chunks('mem', 0, 60_000)])),
  );
  t.notMatch(picture, /<script|\0/);
  t.match(picture, /&lt;\/text&gt;&lt;script&gt;&amp;/);
  t.ok(picture.length < 200_000, `${picture.length} bytes`);
  t.equal((picture.match(/<path /g) ?? []).length, 2);
  t.match(traceAsSvg('web', stored(recordingOf([]))), /<\/svg>/);
  const many = recordingOf(Array.from({ length: 100 }, (_, at) => ({ path: `file ${at}`, chunkIndex: at })));
  t.match(traceAsSvg('web', stored(many)), /88 more files not shown/);
});
