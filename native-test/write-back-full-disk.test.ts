/** Pages that were changed through mappings are not lost when the local disk is full: they wait for room. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Trial } from '../fixtures/trial.js';
import type { DaemonStatus } from '../src/daemon/index.js';
import { runProgram, runPython } from './support/mount-contract.js';
import { SmallDisk } from './support/small-disk.js';

const changedBytes = 8 * 1024 * 1024;

/** Changes every page through a mapping, and has them written back. */
const mapper = `
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
mapped = mmap.mmap(fd, int(sys.argv[2]))
for page in range(0, len(mapped), 4096):
    mapped[page:page + 8] = b'%08d' % page
print('changed', flush=True)
mapped.flush()
print('flushed', flush=True)
`;

const checker = `
import sys
content = open(sys.argv[1], 'rb').read()
for page in range(0, int(sys.argv[2]), 4096):
    if content[page:page + 8] != b'%08d' % page:
        sys.exit('page %d is not what was written' % (page // 4096))
`;

t.test('a full disk keeps write-back waiting, and freeing space lets it go on', async (t) => {
  // First, to go last: a host's home lies in it.
  const disk = await SmallDisk.mount(t, 32 * 1024 * 1024);
  const { trial, host: publisher } = await Trial.create('mapped');
  t.teardown(() => trial[Symbol.asyncDispose]());
  const original = join(trial.root, 'original');
  await mkdir(original);
  await writeFile(join(original, 'mem'), Buffer.alloc(changedBytes));
  await writeFile(join(original, 'text'), 'read me');
  await publisher.isr(['import', 'mapped', original, '--at', trial.mountPath], trial.url);
  const host = await trial.addHost(join(disk.path, 'home'));
  t.teardown(() => host.killGuestAndUnmount(trial.repositoryId, 'mapped'));
  await host.isr(['mount', 'mapped', '--engine', 'kernel'], trial.url);
  const status = () => host.isr<DaemonStatus>(['status', 'mapped'], trial.url);
  await status();
  disk.fill();
  t.teardown(() => disk.free());

  const memory = join(trial.mountPath, 'mem');
  const program = spawn('python3', ['-c', mapper, memory, String(changedBytes)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  program.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
  const exited = once(program, 'exit');
  while ((await status()).engine.waitingForSpaceSince === undefined) await sleep(100);
  t.equal(said, 'changed\n', 'it waits');
  t.equal((await runProgram('cat', [join(trial.mountPath, 'text')])).stdout, 'read me', 'reads go on');
  const refused = await runPython(
    'import sys; open(sys.argv[1], "ab").write(b"x" * 8192)',
    join(trial.mountPath, 'text'),
  );
  t.match(refused.stderr, /No space left on device/, 'write(2) is told');

  disk.free();
  t.same(await exited, [0, null]);
  t.equal(said, 'changed\nflushed\n');
  t.equal((await status()).engine.waitingForSpaceSince, undefined);
  await host.isr(['umount', 'mapped'], trial.url);
  await host.isr(['mount', 'mapped'], trial.url);
  const checked = await runPython(checker, memory, String(changedBytes));
  t.equal(checked.exitCode, 0, checked.stderr);
  t.match(await host.isr(['publish', 'mapped'], trial.url), { outcome: 'published', version: 2 });
  await host.isr(['umount', 'mapped'], trial.url);
});
