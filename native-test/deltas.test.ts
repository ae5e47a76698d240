/** A VM that comes back to a host which has an older version of it: of chunks that changed a little, little is fetched. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import t from 'tap';
import type { DaemonStatus } from '../src/daemon/index.js';
import { Trial } from '../fixtures/trial.js';
import { runPython } from './support/mount-contract.js';

const chunkBytes = 128 * 1024;
const chunks = 48;

/** Changes a page of every other chunk: at its beginning, in its middle and at its end. */
const changePages = `import os, sys
file = os.open(sys.argv[1], os.O_RDWR)
for chunk in range(0, ${chunks}, 2):
    os.pwrite(file, bytes([chunk + int(sys.argv[2])]) * 4096, chunk * ${chunkBytes} + chunk % 32 * 4096)
os.close(file)`;

t.test('two hosts take turns', async (t) => {
  const { trial, host: first } = await Trial.create('deltas');
  t.teardown(() => trial[Symbol.asyncDispose]());
  const { vmName, url, mountPath } = trial;
  const original = join(trial.root, 'original');
  await mkdir(original);
  await writeFile(join(original, 'memory'), randomBytes(chunks * chunkBytes));
  await first.isr(['import', vmName, original, '--at', mountPath], url);
  const second = await trial.addHost();
  await second.isr(['warm', vmName, '--all'], url);
  const third = await trial.addHost();

  // On a faster link neither a delta nor a lookaside place would pay.
  const link = trial.farUrl('mbps=50&rttMs=40');
  let content: Buffer | undefined;
  for (const [position, host] of [first, second, first].entries()) {
    await host.isr(['mount', vmName], link);
    if (content !== undefined) {
      t.ok(content.equals(await readFile(join(mountPath, 'memory'))), 'what came is what was written');
      const { fetch } = await host.isr<DaemonStatus>(['status', vmName], url);
      t.equal(fetch.deltas.chunks, chunks / 2);
      t.equal(fetch.errors, 0);
      const bytes = Object.values(fetch.fetches).reduce((sum, each) => sum + each.bytes, 0);
      t.ok(bytes < (chunks * chunkBytes) / 8, `${bytes} bytes of ${chunks * chunkBytes}`);
    }
    await runPython(changePages, join(mountPath, 'memory'), String(position + 1));
    content = await readFile(join(mountPath, 'memory'));
    await host.isr(['publish', vmName], url);
    await host.isr(['umount', vmName], url);
  }
  t.match(await first.isr(['verify', vmName], url), { intact: true });

  // Two versions behind, through another's cache.
  await third.isr(['mount', vmName, '--tier', second.home], link);
  t.ok(content?.equals(await readFile(join(mountPath, 'memory'))));
  const { fetch } = await third.isr<DaemonStatus>(['status', vmName], url);
  t.equal(fetch.deltas.chunks, chunks / 2);
  await third.isr(['umount', vmName], url);
});
