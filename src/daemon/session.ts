import createDebug from 'debug';
import { ResourceStack, type ProgressListener } from '../base/index.js';
import { createFetcher, warmFiles, type Fetcher, type WarmRequest } from '../fetch/index.js';
import { discardOverlay, openOverlay, readOverlaySummary, type VmFileSystem } from '../fs/index.js';
import { readSeen, writeSeen, type HostHome, type VmPaths } from '../host/index.js';
import {
  LeaseHeld,
  loadManifest,
  publishVersion,
  Repository,
  VersionMissing,
  VmMissing,
  type Branch,
  type Commit,
  type HeldLease,
  type LeaseState,
  type Manifest,
  type Published,
  type VersionNumber,
  type VmHead,
  type VmHistory,
} from '../repo/index.js';
import { openStore } from '../store/index.js';
import { EphemeralMount, OldVersionNeedsEphemeral, OverlayBehind, VmBusy } from './errors.js';
import { lockVm } from './vm-lock.js';
import type { PublishResult, UnmountResult, WarmResult } from './types.js';

const debug = createDebug('isr:daemon:session');

export interface SessionRequest {
  readonly home: HostHome;
  readonly repositoryUrl: string;
  readonly vmName: string;
  /** A version number or a branch name; undefined: the newest version. */
  readonly version: string | undefined;
  readonly ephemeral: boolean;
  /** `use`: what a mount needs. `publish`: only to publish an overlay that is there, even one whose lease was lost. */
  readonly purpose: 'use' | 'publish';
  readonly signal?: AbortSignal;
}

/** What a session works on: a version, or a branch that lost its lease. */
export type Origin =
  | { readonly kind: 'version'; readonly commit: Commit }
  | { readonly kind: 'branch'; readonly branch: Branch };

interface SessionParts {
  readonly request: SessionRequest;
  readonly paths: VmPaths;
  readonly resources: ResourceStack;
  readonly repository: Repository;
  readonly history: VmHistory;
  readonly fetcher: Fetcher;
  readonly fileSystem: VmFileSystem;
  readonly origin: Origin;
  readonly manifest: Manifest;
  readonly lease: HeldLease | undefined;
}

/**
 * One VM on this host, opened for work: its repository, lease, overlay and fetcher. The daemon serves one through an
 * engine; `isr publish` opens one without a mount. Holds the VM's lock for its whole life.
 */
export class VmSession implements AsyncDisposable {
  readonly repository: Repository;
  readonly fetcher: Fetcher;
  readonly fileSystem: VmFileSystem;
  readonly vmName: string;
  readonly ephemeral: boolean;
  readonly #parts: SessionParts;
  #origin: Origin;
  #manifest: Manifest;
  #lease: HeldLease | undefined;
  #publishing: Promise<PublishResult> | undefined;

  private constructor(parts: SessionParts) {
    this.repository = parts.repository;
    this.fetcher = parts.fetcher;
    this.fileSystem = parts.fileSystem;
    this.vmName = parts.request.vmName;
    this.ephemeral = parts.request.ephemeral;
    this.#parts = parts;
    this.#origin = parts.origin;
    this.#manifest = parts.manifest;
    this.#lease = parts.lease;
  }

  /** Errors: those of opening a repository, `VmMissing`, `LeaseHeld`, `VmBusy`, and the ones of `errors.ts`. */
  static async open(request: SessionRequest): Promise<VmSession> {
    const resources = new ResourceStack();
    try {
      return new VmSession(await openParts(request, resources));
    } catch (error) {
      await resources[Symbol.asyncDispose]();
      throw error;
    }
  }

  get paths(): VmPaths {
    return this.#parts.paths;
  }

  get origin(): Origin {
    return this.#origin;
  }

  get mountPath(): string {
    return originCommit(this.#origin).mountPath;
  }

  /** The lease as the store shows it now. */
  async lease(signal: AbortSignal): Promise<LeaseState> {
    return (await this.#parts.history.head({ signal })).lease;
  }

  /** Makes every acknowledged change flushed: it then survives power loss on this host. */
  async flush(): Promise<void> {
    await this.fileSystem.flush();
  }

  /**
   * Publishes the overlay as the next version, or saves it as a branch if the lease was lost. Changes wait meanwhile;
   * refused while files are open for writing. When it fails, the overlay is as it was. `VmBusy` while another publish runs.
   */
  async publish(options: {
    readonly releaseLease: boolean;
    readonly signal?: AbortSignal;
    readonly onProgress?: ProgressListener;
  }): Promise<PublishResult> {
    if (this.#publishing !== undefined) throw new VmBusy(this.vmName);
    this.#publishing = this.#publish(options);
    try {
      return await this.#publishing;
    } finally {
      this.#publishing = undefined;
    }
  }

  /** Resolves when no publish is under way: closing earlier would take the ground from under it. */
  async whenPublished(): Promise<void> {
    await this.#publishing?.catch(() => undefined);
  }

  async #publish(options: {
    readonly releaseLease: boolean;
    readonly signal?: AbortSignal;
    readonly onProgress?: ProgressListener;
  }): Promise<PublishResult> {
    if (this.#parts.request.ephemeral || this.#origin.kind === 'branch')
      throw new EphemeralMount(this.vmName);
    const startedMs = performance.now();
    const dirtyBytes = this.fileSystem.dirty().bytes;
    const summarize = (published: Published): PublishResult => ({
      outcome: published.outcome,
      version: published.outcome === 'published' ? published.commit.version : undefined,
      branch: published.outcome === 'branched' ? published.branch.name : undefined,
      dirtyBytes,
      storedBytes: published.outcome === 'unchanged' ? 0 : published.storedBytes,
      seconds: (performance.now() - startedMs) / 1000,
    });
    this.fileSystem.freeze();
    try {
      const published = await this.#publishFrozen(this.#origin.commit, options);
      if (published.outcome === 'published') await this.#adopt(published);
      if (options.releaseLease) this.#lease = undefined;
      return summarize(published);
    } finally {
      this.fileSystem.thaw();
    }
  }

  /** Chunks of the base version: how many there are, and how many of them are on this host. */
  async residency(signal: AbortSignal): Promise<{ readonly total: number; readonly local: number }> {
    let total = 0;
    let local = 0;
    for (const inode of this.#manifest.inodes.values()) {
      if (inode.kind !== 'file') continue;
      const file = await this.fetcher.openFile(inode.content).residency({ fetchClass: 'background', signal });
      total += file.chunks;
      local += file.localChunks;
    }
    return { total, local };
  }

  /** Fetches ahead of use into the local cache. */
  warm(
    request: WarmRequest,
    options: { readonly signal?: AbortSignal; readonly onProgress?: ProgressListener },
  ): Promise<WarmResult> {
    return warmFiles(this.#manifest, this.fetcher, request, options);
  }

  /**
   * Flushes and closes everything. Gives the lease back when nothing unpublished is left; unpublished changes stay on
   * this host, those of an ephemeral session are thrown away.
   */
  async close(): Promise<UnmountResult> {
    const { bytes: dirtyBytes, changedFiles } = this.fileSystem.dirty();
    const changed = changedFiles > 0;
    await this.fileSystem.flush();
    if (!changed && this.#lease !== undefined) await this.#releaseLease(this.#lease);
    await this[Symbol.asyncDispose]();
    return this.ephemeral ? { dirtyBytes: 0, changedFiles: 0 } : { dirtyBytes, changedFiles };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.resources[Symbol.asyncDispose]();
  }

  async #publishFrozen(
    parent: Commit,
    options: {
      readonly releaseLease: boolean;
      readonly signal?: AbortSignal;
      readonly onProgress?: ProgressListener;
    },
  ): Promise<Published> {
    await this.fileSystem.flush();
    return publishVersion({
      repository: this.repository,
      vmName: this.vmName,
      mountPath: parent.mountPath,
      source: this.fileSystem.publishSource(this.repository.header.chunkBytes),
      parent: parent.version,
      lease: this.#lease ?? 'lost',
      releaseLease: options.releaseLease,
      host: this.#parts.request.home.identity,
      reader: this.fetcher,
      onSealed: (reference, kind, sealed) => this.fetcher.keepSealed(reference, kind, sealed),
      ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
  }

  /** The published content becomes the base; the overlay starts empty again. */
  async #adopt(published: Extract<Published, { outcome: 'published' }>): Promise<void> {
    await this.fileSystem.rebase(versionIdentity(published.commit), published.files);
    this.#origin = { kind: 'version', commit: published.commit };
    this.#manifest = await loadManifest(published.commit.manifest, this.fetcher);
    await rememberSeen(this.#parts.paths, this.#parts.history);
  }

  /** A lease that cannot be given back now is only a nuisance to others (`isr lease break`): never a reason to fail. */
  async #releaseLease(lease: HeldLease): Promise<void> {
    this.#lease = undefined;
    try {
      await this.#parts.history.releaseLease(lease);
      await rememberSeen(this.#parts.paths, this.#parts.history);
    } catch (error) {
      debug('the lease of %s was not given back: %o', this.vmName, error);
    }
  }
}

async function openParts(request: SessionRequest, resources: ResourceStack): Promise<SessionParts> {
  const { home, vmName } = request;
  const repository = await openRepository(home, request.repositoryUrl);
  resources.use(repository.store);
  resources.use(repository);
  const history = repository.history(vmName);
  const paths = await home.makeVmPaths(repository.header.repositoryId, vmName);
  resources.defer(lockVm(paths, vmName));

  const seen = await readSeen(paths);
  const head = await history.head({
    ...(seen === undefined ? {} : { seen }),
    ...(request.signal === undefined ? {} : { signal: request.signal }),
  });
  await rememberSeen(paths, history);
  const overlayDirectory = request.ephemeral ? `${paths.overlay}-ephemeral` : paths.overlay;
  if (request.ephemeral) {
    await discardOverlay(overlayDirectory);
    resources.defer(() => discardOverlay(overlayDirectory));
  }
  const origin = await chooseOrigin(request, history, head, overlayDirectory);
  const lease = await takeLease(request, history, head, origin);
  if (lease !== undefined) await rememberSeen(paths, history);

  const fetcher = resources.use(
    await createFetcher({
      repository,
      cachePath: home.cachePath,
      localCacheBytes: home.configuration.localCacheBytes,
      memoryCacheBytes: home.configuration.memoryCacheBytes,
      chunkBytes: repository.header.chunkBytes,
    }),
  );
  const manifest = await loadManifest(originCommit(origin).manifest, fetcher);
  const fileSystem = resources.use(
    await openOverlay({
      directory: overlayDirectory,
      base: { manifest, identity: originIdentity(origin) },
      openFile: (map) => fetcher.openFile(map),
      chunkMemory: fetcher.sharedMemory,
    }),
  );
  return { request, paths, resources, repository, history, fetcher, fileSystem, origin, manifest, lease };
}

/** Opens the store, finds which repository it is, and opens it with this host's key. The caller closes it, then its store. */
export async function openRepository(home: HostHome, url: string): Promise<Repository> {
  const store = await openStore(url);
  try {
    const header = await Repository.readHeader(store);
    const secrets = await home.loadSecrets(header.repositoryId);
    return await Repository.open(store, secrets, { codecThreads: home.configuration.codecThreads });
  } catch (error) {
    await store[Symbol.asyncDispose]();
    throw error;
  }
}

async function rememberSeen(paths: VmPaths, history: VmHistory): Promise<void> {
  const seen = history.seenPosition();
  if (seen !== undefined) await writeSeen(paths, seen);
}

/** Which version or branch the session works on; refuses what would mix versions or could never be published. */
async function chooseOrigin(
  request: SessionRequest,
  history: VmHistory,
  head: VmHead,
  overlayDirectory: string,
): Promise<Origin> {
  if (head.latest === undefined) throw new VmMissing(request.vmName);
  const wanted = await findOrigin(request, history, head.latest);
  const isNewest = wanted.kind === 'version' && wanted.commit.version === head.latest.version;
  if (!isNewest && !request.ephemeral) {
    throw new OldVersionNeedsEphemeral(request.vmName, request.version ?? '');
  }
  const overlay = await readOverlaySummary(overlayDirectory);
  if (overlay === undefined || overlay.identity === originIdentity(wanted)) return wanted;
  if (overlay.changedFiles === 0) {
    await discardOverlay(overlayDirectory);
    return wanted;
  }
  const baseVersion = Number(overlay.identity) as VersionNumber;
  if (request.purpose === 'publish') return { kind: 'version', commit: await history.commit(baseVersion) };
  throw new OverlayBehind(request.vmName, baseVersion, head.latest.version);
}

async function findOrigin(request: SessionRequest, history: VmHistory, latest: Commit): Promise<Origin> {
  const wanted = request.version;
  if (wanted === undefined) return { kind: 'version', commit: latest };
  if (/^[1-9]\d*$/.test(wanted)) {
    return { kind: 'version', commit: await history.commit(Number(wanted) as VersionNumber) };
  }
  const branch = (await history.branches()).find(({ name }) => name === wanted);
  if (branch === undefined) throw new VersionMissing(request.vmName, wanted);
  return { kind: 'branch', branch };
}

/**
 * A session that only publishes goes on without the lease when that was lost: its work then becomes a branch,
 * which is better than leaving it on this host.
 */
async function takeLease(
  request: SessionRequest,
  history: VmHistory,
  head: VmHead,
  origin: Origin,
): Promise<HeldLease | undefined> {
  if (request.ephemeral) return undefined;
  if (request.purpose === 'use') return history.acquireLease(request.home.identity);
  if (origin.kind === 'version' && origin.commit.version !== head.latest?.version) return undefined;
  try {
    return await history.acquireLease(request.home.identity);
  } catch (error) {
    if (error instanceof LeaseHeld) return undefined;
    throw error;
  }
}

function originCommit(origin: Origin): Branch['commit'] {
  return origin.kind === 'version' ? origin.commit : origin.branch.commit;
}

/** What the overlay remembers as its base. */
function originIdentity(origin: Origin): string {
  return origin.kind === 'version' ? versionIdentity(origin.commit) : `branch ${origin.branch.name}`;
}

function versionIdentity(commit: Commit): string {
  return String(commit.version);
}
