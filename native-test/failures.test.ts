/** What commands say, and what a program that reads a mount meets, while a store fails in each way. docs/operations.md has the table. */
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { CephCluster } from '../fixtures/ceph.js';
import { Nginx } from '../fixtures/nginx.js';
import type { TrialHost } from '../fixtures/trial-host.js';
import { Trial } from '../fixtures/trial.js';
import { connectDaemon, type DaemonStatus } from '../src/daemon/index.js';
import { FaultProxy, type WireFault } from '../test/support/fault-proxy.js';
import { eventually } from './support/supervised-mount.js';

type Failure = WireFault | 'refused';

/** `command` is left out where it would wait 20 seconds several times. `errno`: what a program gets; else it waits. */
const failures: readonly {
  readonly failure: Failure;
  readonly says: RegExp;
  readonly command?: { readonly code: string; readonly exitCode: number };
  readonly errno?: 'EIO';
}[] = [
  { failure: 'refused', says: /the connection was refused/, command: unreachable() },
  { failure: 'reset', says: /the connection broke off/, command: unreachable() },
  { failure: 'reset in the body', says: /broke off after \d+ of \d+ bytes/, command: unreachable() },
  { failure: 'truncated body', says: /broke off after \d+ of \d+ bytes/, command: unreachable() },
  { failure: 'wrong range', says: /with another range than it was asked for/, command: unreachable() },
  { failure: '500', says: /it answers 500/, command: unreachable() },
  { failure: '503 SlowDown', says: /it answers 503/, command: unreachable() },
  { failure: '403', says: /403/, command: { code: 'STORE_REFUSED', exitCode: 6 } },
  { failure: 'stalled body', says: /stood still|no byte|nothing came|did not/ },
  { failure: 'silence', says: /stood still|no byte|nothing came|did not/ },
  { failure: 'flipped bit', says: /damaged/, command: { code: 'DAMAGED_OBJECT', exitCode: 5 }, errno: 'EIO' },
];

function unreachable() {
  return { code: 'STORE_UNREACHABLE', exitCode: 6 } as const;
}

/** A store behind a proxy whose failures can be switched on. */
class FailingStore {
  readonly #proxy: FaultProxy;
  readonly #arm: (fault: WireFault | undefined) => void;

  private constructor(proxy: FaultProxy, arm: (fault: WireFault | undefined) => void) {
    this.#proxy = proxy;
    this.#arm = arm;
  }

  static async before(upstream: string): Promise<FailingStore> {
    let current: WireFault | undefined;
    const proxy = await FaultProxy.start(upstream, () => current);
    t.teardown(() => proxy[Symbol.asyncDispose]());
    return new FailingStore(proxy, (fault) => (current = fault));
  }

  get url(): string {
    return this.#proxy.url;
  }

  async fail(failure: Failure): Promise<void> {
    if (failure === 'refused') await this.#proxy.refuse();
    else this.#arm(failure);
  }

  async recover(failure: Failure): Promise<void> {
    if (failure === 'refused') await this.#proxy.accept();
    else this.#arm(undefined);
  }
}

const contents = new Map(failures.map(({ failure }) => [failure, randomBytes(50_000)]));
const fileOf = (failure: Failure): string => failure.replaceAll(' ', '-');

async function importFiles(trial: Trial, host: TrialHost): Promise<void> {
  const source = join(trial.root, 'source');
  await mkdir(source);
  for (const [failure, content] of contents) await writeFile(join(source, fileOf(failure)), content);
  await host.isr(['import', 'files', source, '--at', trial.mountPath], trial.url);
}

async function commandsFail(
  t: Test,
  { trial, host }: Subject,
  upstream: string,
  makeUrl: MakeUrl,
): Promise<void> {
  await Promise.all(
    failures.map(async ({ failure, says, command }) => {
      if (command === undefined) return;
      const store = await FailingStore.before(upstream);
      await store.fail(failure);
      const running = host.isrError(['export', 'files', join(trial.root, randomUUID())], makeUrl(store));
      t.match(await running, { ...command, message: says }, failure);
    }),
  );
}

async function programsWait(
  t: Test,
  { trial, host }: Subject,
  upstream: string,
  makeUrl: MakeUrl,
): Promise<void> {
  const store = await FailingStore.before(upstream);
  const url = makeUrl(store);
  await host.isr(['mount', 'files'], url);
  const client = await connectDaemon(await host.vmPaths(trial.repositoryId, 'files'), 'files');
  if (client === undefined) throw new Error('it is not mounted');
  const status = (): Promise<DaemonStatus> => client.status();
  for (const { failure, says, errno } of failures) {
    const troubleBefore = (await status()).fetch.trouble;
    await store.fail(failure);
    const reading = readFile(join(trial.mountPath, fileOf(failure))).catch((error: unknown) => error);
    try {
      if (errno !== undefined) {
        t.match(await reading, { code: errno }, failure);
        t.match((await status()).fetch.lastError, says, failure);
        continue;
      }
      await eventually(`the status tells of: ${failure}`, async () => {
        const { waitingForStore, trouble } = (await status()).fetch;
        const stoodStill = trouble.timeouts > troubleBefore.timeouts;
        return says.test(waitingForStore?.reason ?? '') || (stoodStill && !isTold(failure));
      });
    } finally {
      await store.recover(failure);
    }
    t.ok(contents.get(failure)?.equals((await reading) as Buffer), `${failure}: it got the right bytes`);
  }
  await host.isr(['umount', 'files'], url);
}

interface Subject {
  readonly trial: Trial;
  /** Has nothing of the VM. */
  readonly host: TrialHost;
}

/** What the VM's repository is called behind a failing store. Called just before a command is started. */
type MakeUrl = (store: FailingStore) => string;

/** Whether it is so quick that the store counts as away soon. */
function isTold(failure: Failure): boolean {
  return failure !== 'silence' && failure !== 'stalled body';
}

t.test('HTTP', async (t) => {
  const { trial, host } = await Trial.create('files');
  t.teardown(() => trial[Symbol.asyncDispose]());
  await importFiles(trial, host);
  const nginx = await Nginx.start(trial.storePath);
  t.teardown(() => nginx[Symbol.asyncDispose]());
  const subject = { trial, host: await trial.addHost() };
  const makeUrl: MakeUrl = (store) => store.url;
  await t.test('a command says so', (t) => commandsFail(t, subject, nginx.url, makeUrl));
  await t.test('a program waits for what can come right, and gets an errno for what cannot', (t) =>
    programsWait(t, subject, nginx.url, makeUrl),
  );
});

t.test('S3', async (t) => {
  const ceph = await CephCluster.start();
  t.teardown(() => ceph[Symbol.asyncDispose]());
  const before = { ...process.env };
  t.teardown(() => (process.env = before));
  Object.assign(process.env, ceph.environment);
  await ceph.makeBucket('isr');
  const { trial, host } = await Trial.create('files', [], `s3://isr/${randomUUID()}`);
  t.teardown(() => trial[Symbol.asyncDispose]());
  await importFiles(trial, host);
  const subject = { trial, host: await trial.addHost() };
  const makeUrl: MakeUrl = (store) => {
    process.env['AWS_ENDPOINT_URL_S3'] = store.url;
    return trial.url;
  };
  await t.test('a command says so', (t) => commandsFail(t, subject, ceph.access.endpoint, makeUrl));
  await t.test('a program waits for what can come right, and gets an errno for what cannot', (t) =>
    programsWait(t, subject, ceph.access.endpoint, makeUrl),
  );
});
