/** A worker that dies while the store is away is replaced like any other. */
import { createHash, randomBytes } from 'node:crypto';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { runProgram } from './support/mount-contract.js';
import { eventually, SupervisedMount } from './support/supervised-mount.js';

const hashOf = (content: Uint8Array): string => createHash('sha256').update(content).digest('hex');

t.test('a worker that dies while the store is away is replaced: only what is not here waits', async (t) => {
  const local = randomBytes(300_000);
  const mount = await SupervisedMount.make(t, { local, far: 'from afar' });
  const { storePath, mountPath } = mount.trial;
  const sumOfLocal = `${hashOf(local)}  ${join(mountPath, 'local')}\n`;
  t.equal((await runProgram('sha256sum', [join(mountPath, 'local')])).stdout, sumOfLocal);
  // What was read is given to its reader first, and kept on this host after that.
  await eventually('what was read is kept', async () => {
    const { fetch } = await (await mount.client()).status();
    return fetch.blobsInFlight === 0;
  });
  await rename(storePath, `${storePath}.away`);
  for (const round of ['one', 'two']) {
    await mount.killWorker();
    const written = join(mountPath, round);
    t.equal((await runProgram('cp', [join(mountPath, 'local'), written])).exitCode, 0);
    t.equal((await runProgram('cmp', [join(mountPath, 'local'), written])).exitCode, 0);
  }
  const reading = runProgram('cat', [join(mountPath, 'far')]);
  await mount.killWorker();
  t.equal((await runProgram('sha256sum', [join(mountPath, 'local')])).stdout, sumOfLocal);
  await rename(`${storePath}.away`, storePath);
  t.match(await reading, { exitCode: 0, stdout: 'from afar' });
  t.match(await (await mount.client()).publish({ releaseLease: false }), {
    outcome: 'published',
    version: 2,
  });
  await mount.endInOrder(t);
});

t.test('what was published is the ground of the next worker, without the store', async (t) => {
  const mount = await SupervisedMount.make(t, { file: 'content' });
  const { storePath, mountPath } = mount.trial;
  const client = await mount.client();
  const append = (text: string) =>
    runProgram('sh', ['-c', `printf '%s' '${text}' >> '${join(mountPath, 'file')}'`]);
  await append(' two');
  t.match(await client.publish({ releaseLease: false }), { outcome: 'published', version: 2 });
  await rename(storePath, `${storePath}.away`);
  await mount.killWorker();
  t.match(await client.status(), { version: 2, changedFiles: 0 });
  await append(' three');
  t.match(await client.status(), { version: 2, changedFiles: 1 });
  await rename(`${storePath}.away`, storePath);
  t.match(await client.publish({ releaseLease: true }), { outcome: 'published', version: 3 });
  t.equal(await mount.content('file'), 'content two three');
  await mount.endInOrder(t);
});
