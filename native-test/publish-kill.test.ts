/** `isr publish` is killed in the middle: the next one goes on with what is in the store. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, statSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Trial } from '../fixtures/trial.js';
import type { PublishResult } from '../src/daemon/index.js';

t.test('isr publish, killed among its packs, uploads none of them again', async (t) => {
  const { trial, host } = await Trial.create('big');
  t.teardown(() => trial[Symbol.asyncDispose]());
  const original = join(trial.root, 'original');
  await mkdir(original);
  await writeFile(join(original, 'disk'), 'small');
  await host.isr(['import', 'big', original, '--at', trial.mountPath], trial.url);
  await host.isr(['mount', 'big'], trial.url);
  const changedBytes = 160 * 1024 * 1024;
  await writeFile(join(trial.mountPath, 'disk'), randomBytes(changedBytes));
  await host.isr(['umount', 'big'], trial.url);
  const packs = (): number[] =>
    readdirSync(join(trial.storePath, 'pack'), { recursive: true, encoding: 'utf8' })
      .map((name) => statSync(join(trial.storePath, 'pack', name)))
      .filter((stats) => stats.isFile() && stats.size > 1_000_000)
      .map(({ size }) => size);
  // Slow enough that packs can be told apart.
  const url = trial.farUrl('mbps=500&rttMs=5');
  for (const wanted of [1, 3]) {
    const child = host.spawn(['publish', 'big'], url);
    child.stdout.resume();
    child.stderr.resume();
    const exited = once(child, 'exit');
    while (packs().length < wanted && child.exitCode === null) await sleep(10);
    child.kill('SIGKILL');
    await exited;
    t.match(await host.isr(['status', 'big'], trial.url), { situation: { code: 'publish-unfinished' } });
  }
  t.match(await host.isr<PublishResult>(['publish', 'big'], url), { outcome: 'published', version: 2 });
  const storedBytes = packs().reduce((sum, size) => sum + size, 0);
  t.ok(storedBytes < 1.05 * changedBytes, `${storedBytes} bytes in packs for ${changedBytes} changed`);
  t.match(await host.isr(['verify', 'big'], trial.url), { intact: true });
  t.match(await host.isr(['status', 'big'], trial.url), { situation: { code: 'idle' } });
});
