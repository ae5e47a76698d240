import { spawn, type ChildProcess } from 'node:child_process';
import { open, readFile } from 'node:fs/promises';
import createDebug from 'debug';
import { Cancelled } from '../base/index.js';
import type { HostHome, VmPaths } from '../host/index.js';
import { withIoFlusher } from '../system/index.js';
import { ControlClient } from './control-client.js';
import { AlreadyMounted, DaemonDied, RemoteError, type WireError } from './errors.js';
import { findDaemon, settleDaemon } from './record.js';
import type { DaemonClient, MountRequest, WithoutStore } from './types.js';
import { workerProgram } from './worker-program.js';

const debug = createDebug('isr:daemon');

/** What the launching command tells the daemon over the start-up channel. Keys are read by the daemon itself. */
export interface StartMessage {
  readonly homePath: string;
  readonly repositoryUrl: string;
  readonly mount: MountRequest;
}

/** What the daemon answers, once. */
export type ReadyMessage =
  | { readonly ready: { readonly mountPath: string; readonly withoutStore: WithoutStore | undefined } }
  | { readonly error: WireError };

type Ready = Extract<ReadyMessage, { readonly ready: unknown }>['ready'];

/** Lines of the daemon's log that an error shows. */
const logTailLines = 5;

/**
 * Mounts a VM by a daemon of its own, which outlives this process. Returns when the mount is usable. A mount that a
 * dead daemon left behind is cleared first. Errors: `AlreadyMounted`, and everything that mounting can say.
 */
export async function mountVm(options: {
  readonly home: HostHome;
  readonly repositoryId: string;
  readonly repositoryUrl: string;
  readonly mount: MountRequest;
  readonly signal?: AbortSignal;
  /** Called when it was mounted although the store is away. */
  readonly onWithoutStore?: ((about: WithoutStore) => void) | undefined;
}): Promise<DaemonClient> {
  const { vmName } = options.mount;
  const paths = await options.home.makeVmPaths(options.repositoryId, vmName);
  const found = await settleDaemon(paths, vmName);
  if (found.state === 'alive') throw new AlreadyMounted(vmName, found.record.mountPath);

  const log = await open(paths.daemonLog, 'a', 0o600);
  try {
    const { execPath, parameters } = workerProgram(vmName);
    const child = withIoFlusher(() =>
      spawn(execPath, parameters, {
        cwd: '/',
        detached: true,
        stdio: ['ignore', log.fd, log.fd, 'ipc'],
      }),
    );
    const { mountPath, withoutStore } = await startUp(child, paths, options);
    if (withoutStore !== undefined) options.onWithoutStore?.(withoutStore);
    return clientOf(paths, vmName, { mountPath, ephemeral: options.mount.ephemeral });
  } finally {
    await log.close();
  }
}

/** The daemon of a mounted VM; undefined when it is not mounted (what a dead daemon left does not count). */
export async function connectDaemon(paths: VmPaths, vmName: string): Promise<DaemonClient | undefined> {
  const found = await findDaemon(paths);
  return found.state === 'alive' ? clientOf(paths, vmName, found.record) : undefined;
}

function clientOf(
  paths: VmPaths,
  vmName: string,
  mount: { readonly mountPath: string; readonly ephemeral: boolean },
): DaemonClient {
  const isAlive = async (): Promise<boolean> => (await findDaemon(paths)).state === 'alive';
  return new ControlClient(vmName, paths.controlSocket, mount, isAlive);
}

function startUp(
  child: ChildProcess,
  paths: VmPaths,
  options: {
    readonly home: HostHome;
    readonly repositoryUrl: string;
    readonly mount: MountRequest;
    readonly signal?: AbortSignal;
  },
): Promise<Ready> {
  const start: StartMessage = {
    homePath: options.home.path,
    repositoryUrl: options.repositoryUrl,
    mount: options.mount,
  };
  return new Promise((resolve, reject) => {
    let answered = false;
    let cancelled = false;
    const cancel = (): void => {
      cancelled = true;
      child.kill('SIGTERM');
    };
    options.signal?.addEventListener('abort', cancel, { once: true });
    child.once('error', reject);
    const onDeath = (): void => {
      options.signal?.removeEventListener('abort', cancel);
      if (answered) return;
      const { vmName } = options.mount;
      if (cancelled) {
        settleDaemon(paths, vmName).then(() => reject(new Cancelled(`isr mount ${vmName}`)), reject);
      } else {
        afterDeath(paths, vmName).then(resolve, reject);
      }
    };
    child.once('exit', () => {
      // What it said last may still be on its way.
      if (child.connected) child.once('disconnect', onDeath);
      else onDeath();
    });
    child.once('message', (message) => {
      if (cancelled) return;
      answered = true;
      options.signal?.removeEventListener('abort', cancel);
      child.disconnect();
      child.unref();
      const answer = message as ReadyMessage;
      if ('error' in answer) reject(new RemoteError(answer.error));
      else resolve(answer.ready);
    });
    child.send(start, (error) => {
      // It has ended, which `exit` tells as well.
      if (error !== null) debug('not told how to start: %o', error);
    });
  });
}

/**
 * The first worker has died and said nothing: either before the mount was announced, and nothing is left of it, or after
 * that, and another worker goes on.
 */
async function afterDeath(paths: VmPaths, vmName: string): Promise<Ready> {
  const found = await settleDaemon(paths, vmName);
  if (found.state === 'alive') return { mountPath: found.record.mountPath, withoutStore: undefined };
  throw new DaemonDied(vmName, paths.daemonLog, await logTail(paths.daemonLog));
}

async function logTail(path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return text.trimEnd().split('\n').slice(-logTailLines).join('\n');
}
