import type { HostIdentity } from '../repo/index.js';

/**
 * This host's state and cache: everything under `ISR_HOME`. Layout (docs/operations.md lists each file):
 *
 *     config.toml                          optional
 *     host.json                            identity
 *     keys/REPOSITORY.json                 repository keys, mode 0600
 *     cache/v1/                            sealed chunks, shared by all VMs
 *     vms/REPOSITORY/VM/                   one directory a VM: see VmPaths
 */
export interface HostHome {
  readonly path: string;
  readonly identity: HostIdentity;
  readonly configuration: Configuration;
  readonly cachePath: string;
  keyPath(repositoryId: string): string;
  /** Paths of one VM's state; `create` makes the directories (mode 0700). */
  vmPaths(repositoryId: string, vmName: string): VmPaths;
  /** VMs of a repository that have state on this host. */
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

/** `config.toml` in `ISR_HOME`; every key is optional there, and flags and environment win over it. */
export interface Configuration {
  readonly repository: string | undefined;
  readonly engine: string | undefined;
  readonly localCacheBytes: number;
  readonly memoryCacheBytes: number;
  readonly codecThreads: number;
}
