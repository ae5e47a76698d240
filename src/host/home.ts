import { createHash } from 'node:crypto';
import { mkdir, readdir, realpath } from 'node:fs/promises';
import { homedir, hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { systemErrorCode } from '../base/index.js';
import type { HostIdentity, RepositoryHeader, RepositorySecrets } from '../repo/index.js';
import { storePlace } from '../store/index.js';
import {
  mergeConfiguration,
  readConfigurationFile,
  userConfigurationPath,
  type ConfigurationFile,
} from './configuration.js';
import { setConfigured } from './change-configuration.js';
import { HomeUnusable, InvalidConfiguration } from './errors.js';
import { loadIdentity } from './identity.js';
import { readKeyFile, writeKeyFile } from './key-file.js';
import { LiveConfiguration } from './live-configuration.js';
import { readRepositoryRecord, writeRepositoryRecord } from './repository-record.js';
import { makePrivateDirectory, runDirectoryOf, vmRunDirectory } from './run-directory.js';
import type { Configuration, HostHome, VmPaths } from './types.js';

/**
 * Opens this host's home and makes it at first use. It is, in this order: `path`, `ISR_HOME`, `home` in the user's
 * configuration file, `$XDG_STATE_HOME/isr`, `~/.local/state/isr`.
 *
 * Errors: `InvalidConfiguration`, `HomeUnusable`, `HomeDamaged`.
 */
export async function openHostHome(
  path?: string,
  environment: NodeJS.ProcessEnv = process.env,
): Promise<HostHome> {
  const userPath = userConfigurationPath(environment, homedir());
  const userConfiguration = await readConfigurationFile(userPath);
  const wanted = path ?? environment['ISR_HOME'] ?? userConfiguration.home ?? defaultHome(environment);
  const userId = process.getuid?.() ?? 0;
  const home = await makeHome(resolve(wanted));
  const runDirectory = runDirectoryOf(home, userId);
  await makePrivateDirectory(runDirectory, userId);
  return new Home({
    path: home,
    runDirectory,
    identity: await loadIdentity(join(home, 'host.json'), hostname()),
    configuration: mergeConfiguration([userConfiguration, await readHomeConfiguration(home)]),
    live: new LiveConfiguration([userPath, configurationPath(home)]),
  });
}

class Home implements HostHome {
  readonly path: string;
  readonly identity: HostIdentity;
  readonly configuration: Configuration;
  readonly cachePath: string;
  readonly #runDirectory: string;
  readonly #live: LiveConfiguration;

  constructor(parts: {
    readonly path: string;
    readonly runDirectory: string;
    readonly identity: HostIdentity;
    readonly configuration: Configuration;
    readonly live: LiveConfiguration;
  }) {
    this.path = parts.path;
    this.identity = parts.identity;
    this.configuration = parts.configuration;
    this.cachePath = join(parts.path, 'cache', 'v1');
    this.#runDirectory = parts.runDirectory;
    this.#live = parts.live;
  }

  localCacheBytesNow(): number {
    return this.#live.current().localCacheBytes;
  }

  async setLocalCacheBytes(bytes: number): Promise<void> {
    await setConfigured(configurationPath(this.path), 'local_cache', bytes);
  }

  keyPath(repositoryId: string): string {
    return join(this.path, 'keys', `${pathSegment(repositoryId)}.json`);
  }

  loadSecrets(repositoryId: string): Promise<RepositorySecrets> {
    return readKeyFile(this.keyPath(repositoryId), repositoryId);
  }

  saveSecrets(secrets: RepositorySecrets): Promise<void> {
    return writeKeyFile(this.keyPath(secrets.repositoryId), secrets);
  }

  async repositoryAt(url: string): Promise<RepositoryHeader | undefined> {
    return readRepositoryRecord(await this.#repositoryRecord(url));
  }

  async rememberRepository(url: string, header: RepositoryHeader): Promise<void> {
    await writeRepositoryRecord(await this.#repositoryRecord(url), header);
  }

  async repositoriesWithState(): Promise<readonly string[]> {
    return (await readdir(join(this.path, 'vms'))).sort();
  }

  vmPaths(repositoryId: string, vmName: string): VmPaths {
    const directory = join(this.#vmsDirectory(repositoryId), pathSegment(vmName));
    const run = vmRunDirectory(this.#runDirectory, repositoryId, vmName);
    return {
      directory,
      overlay: join(directory, 'overlay'),
      daemonRecord: join(directory, 'daemon.json'),
      controlSocket: join(run, 'control'),
      daemonLog: join(directory, 'daemon.log'),
      seenRecord: join(directory, seenFileName),
      run,
    };
  }

  async makeVmPaths(repositoryId: string, vmName: string): Promise<VmPaths> {
    const paths = this.vmPaths(repositoryId, vmName);
    await mkdir(paths.directory, { recursive: true, mode: 0o700 });
    await mkdir(paths.run, { recursive: true, mode: 0o700 });
    return paths;
  }

  async vmsWithState(repositoryId: string): Promise<readonly string[]> {
    const directory = this.#vmsDirectory(repositoryId);
    const found: string[] = [];
    for (const vmName of await readDirectoryIfPresent(directory)) {
      const files = await readDirectoryIfPresent(join(directory, vmName));
      if (files.some((file) => !seenFileNames.includes(file))) found.push(vmName);
    }
    return found.sort();
  }

  /** Named by a hash of the place that the URL means: that can be long, and none of it is for reading here. */
  async #repositoryRecord(url: string): Promise<string> {
    const name = createHash('sha256')
      .update(await storePlace(url))
      .digest('hex')
      .slice(0, 32);
    return join(this.path, 'repositories', `${name}.json`);
  }

  #vmsDirectory(repositoryId: string): string {
    return join(this.path, 'vms', pathSegment(repositoryId));
  }
}

const seenFileName = 'seen.json';
/** What only says how the store was when it was seen last. */
const seenFileNames: readonly string[] = [seenFileName, 'known.json'];

function defaultHome(environment: NodeJS.ProcessEnv): string {
  return join(environment['XDG_STATE_HOME'] ?? join(homedir(), '.local', 'state'), 'isr');
}

async function makeHome(path: string): Promise<string> {
  try {
    for (const directory of ['keys', 'repositories', 'cache/v1', 'vms']) {
      await mkdir(join(path, directory), { recursive: true, mode: 0o700 });
    }
    return await realpath(path);
  } catch (cause) {
    const code = systemErrorCode(cause);
    if (code === undefined || code === 'ENOSPC') throw cause;
    throw new HomeUnusable(path, `it cannot be made (${code})`, { cause });
  }
}

function configurationPath(home: string): string {
  return join(home, 'config.toml');
}

async function readHomeConfiguration(home: string): Promise<ConfigurationFile> {
  const path = configurationPath(home);
  const configuration = await readConfigurationFile(path);
  if (configuration.home !== undefined) {
    throw new InvalidConfiguration(path, 'has an unknown key: home (only the user configuration has it)');
  }
  return configuration;
}

async function readDirectoryIfPresent(path: string): Promise<readonly string[]> {
  try {
    return await readdir(path);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT' || systemErrorCode(error) === 'ENOTDIR') return [];
    throw error;
  }
}

/** Names are validated where they come in; one that would leave its directory here is a programming error. */
function pathSegment(name: string): string {
  if (name === '' || name.startsWith('.') || /[/\0]/.test(name)) {
    throw new Error(`not a path segment: ${JSON.stringify(name)}`);
  }
  return name;
}
