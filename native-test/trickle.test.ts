/** Changes of a mounted VM are stored ahead, also those that come through a mapping, and over the death of a worker. */
import { readdirSync, statSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { Trial } from '../fixtures/trial.js';
import { mountVm, type DaemonClient, type DaemonStatus } from '../src/daemon/index.js';
import { openHostHome } from '../src/host/index.js';
import { runPython } from './support/mount-contract.js';
import { eventually } from './support/supervised-mount.js';

const vmName = 'trickled';
const mebibyte = 1024 * 1024;
const changedBytes = 16 * mebibyte;

/** Fills the file through a shared mapping, as a hypervisor does, and has the kernel write it back. Prints a digest. */
const fill = `
import hashlib, mmap, os, sys
with open(sys.argv[1], 'r+b', buffering=0) as file:
    with mmap.mmap(file.fileno(), 0) as mapped:
        mapped[0:${changedBytes}] = os.urandom(${changedBytes})
        mapped.flush()
        print(hashlib.sha256(mapped).hexdigest())
`;

/** Changes a page through a mapping. Prints a digest. */
const touch = `
import hashlib, mmap, os, sys
with open(sys.argv[1], 'r+b', buffering=0) as file:
    with mmap.mmap(file.fileno(), 0) as mapped:
        mapped[5 * 4096:6 * 4096] = os.urandom(4096)
        mapped.flush()
        print(hashlib.sha256(mapped).hexdigest())
`;

const digest = `
import hashlib, sys
with open(sys.argv[1], 'rb') as file: print(hashlib.sha256(file.read()).hexdigest())
`;

async function python(source: string, ...parameters: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runPython(source, ...parameters);
  if (exitCode !== 0) throw new Error(stderr);
  return stdout.trim();
}

function storedBytes({ storePath }: Trial): number {
  const files = readdirSync(storePath, { recursive: true, withFileTypes: true }).filter((file) =>
    file.isFile(),
  );
  return files.reduce((sum, file) => sum + statSync(join(file.parentPath, file.name)).size, 0);
}

/** Undefined while a worker takes the place of another. */
async function statusOf(client: DaemonClient): Promise<DaemonStatus | undefined> {
  return client.status().catch(() => undefined);
}

async function untilAhead(client: DaemonClient, bytes: number): Promise<DaemonStatus> {
  let last: DaemonStatus | undefined;
  await eventually('it is stored ahead', async () => {
    last = await statusOf(client);
    return last?.trickle?.aheadBytes === bytes && !last.trickle.isUploading;
  });
  if (last === undefined) throw new Error('no status');
  return last;
}

t.test('a suspend sends only what was changed a moment ago', async (t) => {
  const { trial, host: publisher } = await Trial.create(vmName);
  t.teardown(() => trial[Symbol.asyncDispose]());
  const directory = join(trial.root, 'source');
  await mkdir(directory);
  await writeFile(join(directory, 'mem'), Buffer.alloc(2 * changedBytes));
  await publisher.isr(['import', vmName, directory, '--at', trial.mountPath], trial.url);
  const host = await trial.addHost();
  const mem = join(trial.mountPath, 'mem');
  const client = await mountVm({
    home: await openHostHome(host.home),
    repositoryId: trial.repositoryId,
    repositoryUrl: trial.url,
    mount: {
      ...{ vmName, version: undefined, mountPath: undefined, ephemeral: false, allowOther: false },
      ...{ engine: 'kernel', trickle: { bytesPerSecond: undefined, quietMs: 300 } },
    },
  });
  await python(fill, mem);
  const first = await untilAhead(client, changedBytes);
  t.ok((first.trickle?.uploadedBytes ?? 0) >= changedBytes);
  t.equal(first.version, 1);
  t.equal((await publisher.isr<{ versions: object[] }>(['versions', vmName], trial.url)).versions.length, 1);

  if (first.daemon.supervisorPid !== undefined) {
    process.kill(first.daemon.workerPid, 'SIGKILL');
    const next = await untilAhead(client, changedBytes);
    t.not(next.daemon.workerPid, first.daemon.workerPid);
    t.equal(next.trickle?.uploadedBytes, 0, 'all of it is found in the packs of the worker that died');
  }
  const content = await python(touch, mem);
  const stored = storedBytes(trial);
  t.match(await host.isr(['publish', vmName], trial.url), { outcome: 'published', version: 2 });
  const sentBytes = storedBytes(trial) - stored;
  t.ok(sentBytes < mebibyte, `${sentBytes} bytes of ${changedBytes}`);
  t.equal(await python(digest, mem), content);
  await host.isr(['umount', vmName], trial.url);

  await publisher.isr(['mount', vmName, '--version', '2', '--ephemeral'], trial.url);
  t.equal(await python(digest, mem), content, 'another host sees it');
  await publisher.isr(['umount', vmName], trial.url);
});
