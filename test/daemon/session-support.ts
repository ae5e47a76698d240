import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { VmSession, type SessionRequest } from '../../src/daemon/index.js';
import { rootInode, type VmFileSystem } from '../../src/fs/index.js';
import { openHostHome, type HostHome } from '../../src/host/index.js';
import { directorySource, publishVersion, Repository } from '../../src/repo/index.js';
import { openStore } from '../../src/store/index.js';

export const vmName = 'vm';
const readWrite = 2;

/** A published VM with the files `disk` (four pages) and `text`, and the home of a host that has its key. */
export class SessionLab {
  readonly root: string;
  readonly url: string;
  readonly home: HostHome;
  readonly #t: Test;

  private constructor(t: Test, root: string, home: HostHome) {
    this.#t = t;
    this.root = root;
    this.url = `file://${join(root, 'store')}`;
    this.home = home;
  }

  static async create(t: Test): Promise<SessionLab> {
    const root = mkdtempSync(join(tmpdir(), 'isr-session-'));
    t.teardown(() => rmSync(root, { recursive: true, force: true }));
    const lab = new SessionLab(t, root, await openHostHome(join(root, 'host-1')));
    const original = join(root, 'original');
    mkdirSync(original);
    writeFileSync(join(original, 'disk'), Buffer.alloc(4 * 4096, 'v1'));
    writeFileSync(join(original, 'text'), 'first');
    const store = await openStore(lab.url, { create: true });
    const { repository } = await Repository.create(store, {
      keepSecrets: (secrets) => lab.home.saveSecrets(secrets),
    });
    await publishVersion({
      ...{ repository, vmName, mountPath: '/vm', parent: undefined, lease: undefined },
      source: await directorySource(original, { chunkBytes: repository.header.chunkBytes }),
      host: lab.home.identity,
      reader: repository.blobs,
    });
    await repository[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
    return lab;
  }

  /** Another host with the key. */
  async addHost(name: string): Promise<HostHome> {
    const home = await openHostHome(join(this.root, name));
    const [repositoryId] = await this.home.repositoriesWithState();
    if (repositoryId !== undefined) await home.saveSecrets(await this.home.loadSecrets(repositoryId));
    return home;
  }

  /** The host as it is after SIGKILL of everything that runs on it now. */
  async killed(home: HostHome = this.home): Promise<HostHome> {
    const copy = mkdtempSync(join(this.root, 'killed-'));
    cpSync(home.path, copy, { recursive: true, filter: (path) => !path.includes('/run/') });
    return openHostHome(copy);
  }

  async open(home: HostHome, options: Partial<SessionRequest> = {}): Promise<VmSession> {
    const session = await VmSession.open({
      ...{ home, repositoryUrl: this.url, vmName, version: undefined },
      ...{ ephemeral: false, purpose: 'use' },
      ...options,
    });
    this.#t.teardown(() => session[Symbol.asyncDispose]());
    return session;
  }

  /** A session that leaves when `work` is done, as `isr publish` or `isr umount` would. */
  async with<T>(
    home: HostHome,
    options: Partial<SessionRequest>,
    work: (session: VmSession) => Promise<T>,
  ): Promise<T> {
    const session = await this.open(home, options);
    try {
      return await work(session);
    } finally {
      await session[Symbol.asyncDispose]();
    }
  }
}

export async function write(
  fileSystem: VmFileSystem,
  name: string,
  offset: number,
  text: string,
): Promise<void> {
  const handle = await fileSystem.open(fileSystem.lookup(rootInode, name).inode, readWrite);
  try {
    await fileSystem.write(handle, offset, Buffer.from(text));
  } finally {
    fileSystem.release(handle);
  }
}

export async function read(fileSystem: VmFileSystem, name: string, length = 20): Promise<string> {
  const handle = await fileSystem.open(fileSystem.lookup(rootInode, name).inode, 0);
  try {
    const into = Buffer.alloc(length);
    const count = await fileSystem.read(handle, 0, into, 'demand');
    return into.toString('latin1', 0, Number(count));
  } finally {
    fileSystem.release(handle);
  }
}

/** Makes a method of an object fail until the returned function is called. */
export function breakMethod<K extends string>(
  object: Record<K, (...parameters: never[]) => Promise<unknown>>,
  method: K,
  error: Error,
  when: (...parameters: unknown[]) => boolean = () => true,
): () => void {
  const whole = object[method].bind(object) as (...parameters: unknown[]) => Promise<unknown>;
  Object.defineProperty(object, method, {
    configurable: true,
    value: (...parameters: unknown[]) => (when(...parameters) ? Promise.reject(error) : whole(...parameters)),
  });
  return () => Reflect.deleteProperty(object, method);
}
