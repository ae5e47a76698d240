import type { HostIdentity, RepositoryHeader, RepositorySecrets } from '../repo/index.js';

/**
 * This host's state and cache: everything under `ISR_HOME`. Layout (docs/operations.md lists each file):
 *
 *     config.toml                          optional
 *     host.json                            identity
 *     keys/REPOSITORY.json                 repository keys, mode 0600
 *     repositories/HASH.json               which repository was seen at a URL (and endpoint)
 *     cache/v1/                            sealed chunks, shared by all VMs
 *     vms/REPOSITORY/VM/                   one directory a VM: see VmPaths
 *     run/                                 sockets; in /tmp where the home's path is too long for them
 *
 * Directories have mode 0700, files 0600; files are replaced atomically and durably.
 */
export interface HostHome {
  readonly path: string;
  readonly identity: HostIdentity;
  readonly configuration: Configuration;
  readonly cachePath: string;
  /** The limit of the local cache as the configuration says it now: it may have changed since the home was opened. */
  localCacheBytesNow(): number;
  /** Writes that limit into `config.toml` of the home. `InvalidConfiguration`. */
  setLocalCacheBytes(bytes: number): Promise<void>;
  keyPath(repositoryId: string): string;
  /** `KeyMissing`, `HomeDamaged`. */
  loadSecrets(repositoryId: string): Promise<RepositorySecrets>;
  /**
   * Keeps keys, durably. Never replaces a key that can sign by a read-only one; `KeyConflict` when another key of
   * this repository is here.
   */
  saveSecrets(secrets: RepositorySecrets): Promise<void>;
  /**
   * Which repository is at this URL, as last seen from here: commands about local state, and mounts, work without the store.
   * An `s3:` URL means another place with another endpoint. `InvalidInput` where that cannot be told.
   */
  repositoryAt(url: string): Promise<RepositoryHeader | undefined>;
  rememberRepository(url: string, header: RepositoryHeader): Promise<void>;
  /** Repositories with a directory under `vms/`. Sorted. */
  repositoriesWithState(): Promise<readonly string[]>;
  /** Paths of one VM's state. The VM's name must be a valid one. Makes nothing. */
  vmPaths(repositoryId: string, vmName: string): VmPaths;
  /** The same, and makes `directory` and `run`. */
  makeVmPaths(repositoryId: string, vmName: string): Promise<VmPaths>;
  /** VMs of a repository that have state on this host beyond the record of what was seen. Sorted. */
  vmsWithState(repositoryId: string): Promise<readonly string[]>;
}

export interface VmPaths {
  readonly directory: string;
  /** The overlay's own directory; absent when there is none. */
  readonly overlay: string;
  /** What is mounted and by whom (JSON), written by the daemon. */
  readonly daemonRecord: string;
  readonly controlSocket: string;
  readonly daemonLog: string;
  /** The newest log position and its hash that this host has seen: guards against a store that rolls back. */
  readonly seenRecord: string;
  /** For the hypervisor: sockets, console logs. Short enough for a Unix socket inside (under 90 characters). */
  readonly run: string;
}

/**
 * What `config.toml` says, in the user's own configuration directory and in `ISR_HOME` (which wins), with defaults
 * filled in. Flags and environment win over it.
 */
export interface Configuration {
  readonly repository: string | undefined;
  readonly engine: string | undefined;
  readonly localCacheBytes: number;
  /** Lookaside places for every VM: directories or URLs. */
  readonly tiers: readonly string[];
  /** Caps on what fetches take of the network, in all and for what nobody waits for. */
  readonly bytesPerSecond: number | undefined;
  readonly backgroundBytesPerSecond: number | undefined;
  readonly requestsInFlight: number | undefined;
  /** Upload changes that have been quiet ahead of the next publish; and at most so much of them. */
  readonly trickle: boolean;
  readonly trickleBytesPerSecond: number | undefined;
  /** Bring all of a mounted version onto this host in the background; and at most so much of it. */
  readonly fill: boolean;
  readonly fillBytesPerSecond: number | undefined;
  readonly memoryCacheBytes: number;
  /** How much a publish may store again of chunks that did not change, of what it stores of a resume's; 0: nothing. */
  readonly rewritePercent: number;
  /** Whether neighbours of a demand are fetched while its link idles. Off only to measure what that is worth. */
  readonly betweenDemands: boolean;
  readonly codecThreads: number;
}
