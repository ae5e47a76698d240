/** A resume brings into the page cache what earlier ones touched, and never over what the guest has written. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { TrialHost } from '../fixtures/trial-host.js';
import { Trial } from '../fixtures/trial.js';
import { mountVm, type DaemonClient, type DaemonStatus } from '../src/daemon/index.js';
import { findMount } from '../src/fuse/index.js';
import { openHostHome } from '../src/host/index.js';
import { runPython } from './support/mount-contract.js';

const vmName = 'replayed';
const chunkBytes = 128 * 1024;
const chunks = 256;

/** Scattered over the file, in no order that read-ahead would guess. */
const touchedChunks = Array.from({ length: 60 }, (_, turn) => (turn * 101 + 7) % chunks);

/** Touches one byte of each chunk through a mapping, as a guest does. */
const touch = `
import mmap, sys
with open(sys.argv[1], 'rb', buffering=0) as file:
    with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        mapped.madvise(mmap.MADV_RANDOM)
        for chunk in map(int, sys.argv[2].split(',')): mapped[chunk * ${chunkBytes} + 4096]
`;

/** Writes a page of each chunk through a mapping, waits for a line, and says whether they are still what it wrote. */
const writePages = `
import mmap, sys
pages = [int(chunk) * ${chunkBytes} + 8192 for chunk in sys.argv[2].split(',')]
with open(sys.argv[1], 'r+b', buffering=0) as file:
    with mmap.mmap(file.fileno(), 0) as mapped:
        for turn in range(20):
            for at in pages: mapped[at:at + 4096] = (at + turn).to_bytes(8, 'big') * 512
            for at in pages: assert mapped[at:at + 4096] == (at + turn).to_bytes(8, 'big') * 512, ('lost', turn, at)
with open(sys.argv[1], 'rb', buffering=0) as file:
    for at in pages:
        file.seek(at)
        assert file.read(4096) == (at + 19).to_bytes(8, 'big') * 512, ('lost', at)
`;

async function python(source: string, ...args: readonly string[]): Promise<void> {
  const { exitCode, stderr } = await runPython(source, ...args);
  if (exitCode !== 0) throw new Error(stderr);
}

interface Lab {
  readonly trial: Trial;
  readonly host: TrialHost;
  readonly image: string;
  readonly content: Buffer;
  /** Mounts it as for a resume. */
  readonly resume: (prefetch?: boolean) => Promise<DaemonClient>;
}

async function openLab(t: Test): Promise<Lab> {
  const { trial, host } = await Trial.create(vmName);
  t.teardown(() => trial[Symbol.asyncDispose]());
  const directory = join(trial.root, 'source');
  await mkdir(directory);
  const content = randomBytes(chunks * chunkBytes);
  await writeFile(join(directory, 'mem'), content);
  await host.isr(['import', vmName, directory, '--at', trial.mountPath], trial.url);
  const home = await openHostHome(host.home);
  const { repositoryId, url: repositoryUrl } = trial;
  const mount = { vmName, version: undefined, mountPath: undefined, ephemeral: true, allowOther: false };
  return {
    ...{ trial, host, content, image: join(trial.mountPath, 'mem') },
    resume: (prefetch = true) =>
      mountVm({
        ...{ home, repositoryId, repositoryUrl },
        mount: { ...mount, engine: 'kernel', resuming: { prefetch } },
      }),
  };
}

async function whenReplayed(client: DaemonClient): Promise<DaemonStatus> {
  for (;;) {
    const status = await client.status();
    if (status.replay?.isDone === true) return status;
    await sleep(20);
  }
}

t.test('what one resume touched is in the page cache of the next one before it asks', async (t) => {
  const { resume, image } = await openLab(t);
  const first = await resume();
  t.equal((await first.status()).replay, undefined, 'there is nothing to replay yet');
  await python(touch, image, touchedChunks.join(','));
  await first.unmount();

  const second = await resume();
  const replayed = await whenReplayed(second);
  t.equal(replayed.replay?.chunks, touchedChunks.length);
  t.equal(replayed.replay?.localChunks, touchedChunks.length);
  const leftOut = touchedChunks.length - (replayed.replay?.pulledChunks ?? 0);
  t.ok(leftOut > 0 && leftOut < 10, 'all but a sample');
  await python(touch, image, touchedChunks.join(','));
  const touched = await second.status();
  const asked = touched.fetch.localHits + touched.fetch.memoryHits;
  t.ok(
    asked - replayed.fetch.localHits - replayed.fetch.memoryHits <= 2 * leftOut,
    'only the sample was asked for',
  );
  await second.unmount();

  const third = await resume();
  t.equal((await whenReplayed(third)).replay?.chunks, touchedChunks.length, 'the trace stays');
  await third.unmount();
});

t.test('a replay of what nobody wants any more ends by itself', async (t) => {
  const { resume, image } = await openLab(t);
  const first = await resume();
  await python(touch, image, touchedChunks.join(','));
  await first.unmount();
  const others = Array.from({ length: 60 }, (_, turn) => (turn * 101 + 57) % chunks).filter(
    (chunk) => !touchedChunks.includes(chunk),
  );
  for (let turn = 0; turn < 3; turn += 1) {
    const client = await resume();
    await whenReplayed(client);
    await python(touch, image, others.join(','));
    await client.unmount();
  }
  const last = await resume();
  t.equal((await whenReplayed(last)).replay?.chunks, others.length);
  await last.unmount();
});

t.test('nothing is brought without being asked for', async (t) => {
  const { resume, image } = await openLab(t);
  const first = await resume();
  await python(touch, image, touchedChunks.join(','));
  await first.unmount();
  const second = await resume(false);
  t.equal((await second.status()).replay, undefined);
  await second.unmount();
});

t.test('what a guest writes while a replay brings the same chunks stays what it wrote', async (t) => {
  const { resume, image } = await openLab(t);
  const first = await resume();
  await python(touch, image, touchedChunks.join(','));
  await first.unmount();
  const second = await resume();
  await python(writePages, image, touchedChunks.join(','));
  await whenReplayed(second);
  await second.unmount();
});

t.test('a mount that is needed no more goes while its replay waits for the store', async (t) => {
  const { resume, image, trial } = await openLab(t);
  const first = await resume();
  await python(touch, image, touchedChunks.join(','));
  await first.unmount();
  const far = await trial.addHost();
  const home = await openHostHome(far.home);
  const client = await mountVm({
    home,
    repositoryId: trial.repositoryId,
    repositoryUrl: trial.farUrl('rttMs=1500'),
    mount: {
      ...{ vmName, version: undefined, mountPath: undefined, ephemeral: true, allowOther: false },
      ...{ engine: 'kernel', resuming: { prefetch: true } },
    },
  });
  await client.unmount();
  t.equal(await findMount(trial.mountPath), undefined);
});
