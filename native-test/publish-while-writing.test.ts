/** Publishing a mount that programs write to is refused or consistent, never torn. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { TrialHost } from '../fixtures/trial-host.js';
import { Trial } from '../fixtures/trial.js';
import type { PublishResult } from '../src/daemon/index.js';

const pages = 64;
const pageBytes = 4096;

/**
 * Writes one number after the other over all of `data`, then over all of `second`, by write(2) and through mappings in
 * turn; each file is open only while it is written. A number is eight characters.
 */
const writer = `
import mmap, os, sys, time
directory, pages = sys.argv[1], int(sys.argv[2])
for number in range(1, 1000000):
    content = (b'%08d' % number) * 512
    for name in ('data', 'second'):
        fd = os.open(directory + '/' + name, os.O_RDWR)
        if number % 2:
            for page in range(pages):
                os.pwrite(fd, content, page * 4096)
            os.close(fd)
        else:
            mapped = mmap.mmap(fd, pages * 4096)
            os.close(fd)
            for page in range(pages):
                mapped[page * 4096:(page + 1) * 4096] = content
            mapped.close()
    time.sleep(0.2)
`;

/** Holds a file as `how` says until its input ends. */
const holder = `
import mmap, os, sys
path, how = sys.argv[1:3]
fd = os.open(path, os.O_RDONLY if how == 'reading' else os.O_RDWR)
if how == 'mapped':
    mapped = mmap.mmap(fd, 4096)
    mapped[0:5] = b'dirty'
    os.close(fd)
print('ready', flush=True)
sys.stdin.read()
`;

async function mountedVm(t: Test): Promise<{ readonly trial: Trial; readonly host: TrialHost }> {
  const { trial, host } = await Trial.create('written');
  t.teardown(() => trial[Symbol.asyncDispose]());
  const original = join(trial.root, 'original');
  await mkdir(original);
  for (const name of ['data', 'second']) {
    await writeFile(join(original, name), Buffer.alloc(pages * pageBytes, '00000000'));
  }
  await host.isr(['import', trial.vmName, original, '--at', trial.mountPath], trial.url);
  await host.isr(['mount', trial.vmName, '--engine', 'kernel'], trial.url);
  return { trial, host };
}

/** The number that fills a file; undefined when there is more than one. */
function numberIn(path: string): number | undefined {
  const content = readFileSync(path, 'latin1');
  const number = content.slice(0, 8);
  return content === number.repeat(content.length / 8) ? Number(number) : undefined;
}

for (const [how, refused] of [
  ['open', true],
  ['mapped', true],
  ['reading', false],
] as const) {
  t.test(`a file that a program holds ${how}`, async (t) => {
    const { trial, host } = await mountedVm(t);
    const { url, vmName, mountPath } = trial;
    await writeFile(join(mountPath, 'second'), 'changed');
    const program = spawn('python3', ['-c', holder, join(mountPath, 'data'), how], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    t.teardown(() => program.kill());
    await once(program.stdout, 'data');
    if (refused) {
      const error = await host.isrError(['publish', vmName], url);
      t.match(error, { code: 'FILE_SYSTEM_BUSY', exitCode: 4, message: /open for writing: data/ });
    } else t.match(await host.isr(['publish', vmName], url), { version: 2 });
    const exited = once(program, 'exit');
    program.stdin.end();
    await exited;
    await writeFile(join(mountPath, 'second'), 'changed again');
    t.match(await host.isr(['publish', vmName], url), { version: refused ? 2 : 3 });
    await host.isr(['umount', vmName], url);
    const exported = join(trial.root, 'exported');
    await host.isr(['export', vmName, exported], url);
    const start = how === 'mapped' ? 'dirty' : '00000';
    t.equal(readFileSync(join(exported, 'data'), 'latin1').slice(0, 5), start);
  });
}

t.test('versions that are published while a program writes are whole', async (t) => {
  const { trial, host } = await mountedVm(t);
  const { url, vmName, mountPath } = trial;
  const program = spawn('python3', ['-c', writer, mountPath, String(pages)], { stdio: 'inherit' });
  t.teardown(() => program.kill());
  const published: number[] = [];
  let refusals = 0;
  for (let attempt = 0; attempt < 60 && published.length < 6; attempt += 1) {
    const { exitCode, stdout, stderr } = await host.run(['publish', vmName], url);
    if (exitCode === 0) {
      const { outcome, version } = JSON.parse(stdout) as PublishResult;
      if (outcome === 'published') published.push(version ?? 0);
    } else {
      t.match(stderr, /FILE_SYSTEM_BUSY/);
      refusals += 1;
    }
    await sleep(50);
  }
  const exited = once(program, 'exit');
  program.kill();
  await exited;
  t.comment(`${published.length} versions, ${refusals} refusals`);
  t.ok(published.length >= 2, 'some get through');
  await host.isr(['umount', vmName], url);
  let last = 0;
  for (const version of published) {
    const exported = join(trial.root, `exported-${version}`);
    await host.isr(['export', vmName, exported, '--version', String(version)], url);
    const data = numberIn(join(exported, 'data'));
    const second = numberIn(join(exported, 'second'));
    if (data === undefined || second === undefined) t.fail(`version ${version} is torn`);
    else {
      t.ok(second === data || second === data - 1, `${data} and ${second}, as they were written`);
      t.ok(data >= last, 'versions only go forward');
      last = data;
    }
  }
});
