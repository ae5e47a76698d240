import { InvalidInput, ResourceStack } from '../base/index.js';
import { rememberHead } from '../daemon/index.js';
import { openHostHome, readSeen, writeSeen, type HostHome, type VmPaths } from '../host/index.js';
import { Repository, VmMissing, type Commit, type VmHead, type VmHistory } from '../repo/index.js';
import { openStore, type ObjectStore } from '../store/index.js';
import type { VmTarget } from '../vm/index.js';
import type { Output } from './output.js';

/** Options that every command takes. */
export interface GlobalOptions {
  readonly repo?: string;
  readonly home?: string;
  readonly json?: boolean;
}

/** A VM's log and what it says now. */
export interface VmLog {
  readonly history: VmHistory;
  readonly head: VmHead;
}

/** What a command works with: opened when first asked for, closed with the context. */
export class CommandContext implements AsyncDisposable {
  readonly output: Output;
  /** Fires on Ctrl-C, SIGTERM and SIGHUP. */
  readonly signal: AbortSignal;
  readonly #options: GlobalOptions;
  readonly #resources = new ResourceStack();
  #home: Promise<HostHome> | undefined;
  #repository: Promise<Repository> | undefined;

  constructor(parts: {
    readonly options: GlobalOptions;
    readonly output: Output;
    readonly signal: AbortSignal;
  }) {
    this.#options = parts.options;
    this.output = parts.output;
    this.signal = parts.signal;
  }

  home(): Promise<HostHome> {
    this.#home ??= openHostHome(this.#options.home);
    return this.#home;
  }

  /** From `--repo`, else `ISR_REPO`, else the configuration; undefined when none says. */
  async repositoryUrlIfNamed(): Promise<string | undefined> {
    const { configuration } = await this.home();
    return this.#options.repo ?? process.env['ISR_REPO'] ?? configuration.repository;
  }

  async repositoryUrl(): Promise<string> {
    const url = await this.repositoryUrlIfNamed();
    if (url !== undefined && url !== '') return url;
    throw new InvalidInput('No repository is named.', {
      remedy: 'Name one with --repo URL, ISR_REPO, or `repository` in config.toml.',
    });
  }

  /** The store behind the repository's URL. `create`: make the place if it is not there. */
  async store(options: { readonly create: boolean }): Promise<ObjectStore> {
    return this.#resources.use(await openStore(await this.repositoryUrl(), options));
  }

  /** The repository, opened with this host's key for it. */
  repository(): Promise<Repository> {
    this.#repository ??= this.#openRepository();
    return this.#repository;
  }

  /** The repository's id, without asking the store if this host knows it. */
  async repositoryId(): Promise<string> {
    const home = await this.home();
    const known = await home.repositoryAt(await this.repositoryUrl());
    return (known ?? (await this.repository()).header).repositoryId;
  }

  /** Where this host keeps its state of the VM. */
  async vmPaths(vmName: string): Promise<VmPaths> {
    const home = await this.home();
    return home.vmPaths(await this.repositoryId(), vmName);
  }

  /** The VM, for the sequences of `vm/`. */
  async target(vmName: string): Promise<VmTarget> {
    return {
      home: await this.home(),
      repositoryId: await this.repositoryId(),
      repositoryUrl: await this.repositoryUrl(),
      vmName,
    };
  }

  /**
   * What the VM's log says now, checked against what this host saw before. The VM need not exist yet.
   * Errors: `InvalidVmName`, `RolledBack`, and what reading the store throws.
   */
  async log(vmName: string): Promise<VmLog> {
    const repository = await this.repository();
    const history = repository.history(vmName);
    const home = await this.home();
    const seen = await readSeen(home.vmPaths(repository.header.repositoryId, vmName));
    const head = await history.head({ signal: this.signal, ...(seen === undefined ? {} : { seen }) });
    await this.rememberSeen(history);
    if (head.latest !== undefined)
      await rememberHead(home.vmPaths(repository.header.repositoryId, vmName), head);
    return { history, head };
  }

  /** The same for a VM that must exist: `VmMissing`. */
  async logOfExisting(vmName: string): Promise<VmLog & { readonly latest: Commit }> {
    const { history, head } = await this.log(vmName);
    if (head.latest === undefined) throw new VmMissing(vmName);
    return { history, head, latest: head.latest };
  }

  /** Remembers the newest position of a log, after reading or appending to it. */
  async rememberSeen(history: VmHistory): Promise<void> {
    const seen = history.seenPosition();
    if (seen === undefined) return;
    const home = await this.home();
    const { repositoryId } = (await this.repository()).header;
    await writeSeen(await home.makeVmPaths(repositoryId, history.vmName), seen);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources[Symbol.asyncDispose]();
  }

  async #openRepository(): Promise<Repository> {
    const home = await this.home();
    const store = await this.store({ create: false });
    const { repositoryId } = await Repository.readHeader(store);
    const secrets = await home.loadSecrets(repositoryId);
    const { codecThreads } = home.configuration;
    const repository = this.#resources.use(await Repository.open(store, secrets, { codecThreads }));
    // Only what the key confirms is used when the store is away.
    await home.rememberRepository(await this.repositoryUrl(), repository.header);
    return repository;
  }
}
