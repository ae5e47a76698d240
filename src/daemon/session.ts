import createDebug from 'debug';
import { ResourceStack, systemErrorCode, type ProgressListener } from '../base/index.js';
import type { Fetcher } from '../fetch/index.js';
import { openOverlay, type VmFileSystem } from '../fs/index.js';
import { readSeen, writeSeen, type HostHome, type VmPaths } from '../host/index.js';
import {
  LeaseHeld,
  loadManifest,
  publishVersion,
  Repository,
  type Commit,
  type FileMap,
  type HeldLease,
  type LeaseState,
  type Manifest,
  type Published,
  type StoredTrace,
  type RepositoryHeader,
  type RepositorySecrets,
  type VersionNumber,
  type VmHead,
  type VmHistory,
} from '../repo/index.js';
import { openStore, StoreRefused, StoreUnreachable, type ObjectStore } from '../store/index.js';
import type { FileLock } from '../system/index.js';
import { likelyTouches } from '../trace/index.js';
import { announcementOf, findOwnBranch, findOwnCommit, isMadeFrom } from './announced-commit.js';
import { EphemeralMount, VmBusy } from './errors.js';
import { dropOverlay, takeInodeNumbers } from './inode-numbers.js';
import {
  findGround,
  groundThatGoesOn,
  originCommit,
  originIdentity,
  versionIdentity,
  type Ground,
  type GroundRequest,
  type Origin,
} from './origin.js';
import { followWithPin } from './follow-pin.js';
import { freezeWhenClosed } from './freeze-when-closed.js';
import { GroundRecord } from './ground-record.js';
import { readKnownHead, rememberHead } from './known-head.js';
import { PackRecord } from './pack-record.js';
import { Trickle, type TrickleOptions, type TrickleStatus } from './trickle/index.js';
import { takeVmLock } from './vm-lock.js';
import { openFetcher, OpenVersion } from './open-version.js';
import { findKnownGround, isHeldElsewhere, LeaseWhenBack, loadLocalManifest } from './without-store.js';
import type { PublishResult, UnmountResult, WithoutStore } from './types.js';

const debug = createDebug('isr:daemon:session');

/** Which process of a mount has the session. */
export interface MountedSession {
  /** How many processes served the mount before. */
  readonly life: number;
  /** The VM's lock, inherited from them. */
  readonly lock: FileLock | undefined;
  /** What they found at the repository's URL: with it, the store may be away. */
  readonly repository: RepositoryHeader | undefined;
}

export interface SessionRequest {
  readonly home: HostHome;
  readonly repositoryUrl: string;
  readonly vmName: string;
  /** A version number or a branch name; undefined: the newest version. */
  readonly version: string | undefined;
  readonly ephemeral: boolean;
  /** `use`: what a mount needs. `publish`: only to publish an overlay that is there, even one whose lease was lost. */
  readonly purpose: 'use' | 'publish';
  /** Lookaside places, asked before those of the configuration. */
  readonly tiers?: readonly string[] | undefined;
  /** For a mount: the session's files and lock can pass to another process. */
  readonly mount?: MountedSession;
  readonly signal?: AbortSignal;
}

interface PublishOptions {
  readonly releaseLease: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: ProgressListener;
}

interface SessionParts {
  readonly request: SessionRequest;
  readonly paths: VmPaths;
  readonly resources: ResourceStack;
  readonly repository: Repository;
  readonly history: VmHistory;
  readonly fetcher: Fetcher;
  readonly fileSystem: VmFileSystem;
  readonly ground: Ground;
  /** Not yet read where the overlay was there. */
  readonly manifest: Manifest | undefined;
  readonly record: GroundRecord;
  readonly lease: HeldLease | undefined;
  readonly lock: FileLock;
  /** Set where the store was away. */
  readonly away: Away | undefined;
  readonly needsLease: boolean;
}

interface Away {
  readonly reason: StoreUnreachable;
  readonly seenAt: Date;
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
  /** What the overlay lies over. */
  #base: Origin;
  #manifest: Manifest | undefined;
  readonly #packs: PackRecord;
  #trickle: Trickle | undefined;
  #lease: HeldLease | undefined;
  #publishing: Promise<PublishResult> | undefined;
  /** The version that the overlay is, unless it was changed since; it could not become empty then. */
  #unadopted: Commit | undefined;
  /** The newest version that a caller of `publish` heard of. */
  #reported: VersionNumber | undefined;
  readonly #leaseWhenBack: LeaseWhenBack | undefined;

  private constructor(parts: SessionParts) {
    this.repository = parts.repository;
    this.fetcher = parts.fetcher;
    this.fileSystem = parts.fileSystem;
    this.vmName = parts.request.vmName;
    this.ephemeral = parts.request.ephemeral;
    this.#parts = parts;
    this.#origin = parts.ground.origin;
    this.#base = parts.ground.base;
    this.#manifest = parts.manifest;
    this.#packs = new PackRecord(parts.paths);
    this.#lease = parts.lease;
    const { origin } = this;
    if (origin.kind === 'version' && isMadeFrom(this.fileSystem.announced, origin.commit)) {
      this.#unadopted = origin.commit;
    }
    // A mount that goes on may have begun without the lease, too.
    if ((parts.away !== undefined || goesOn(parts.request)) && parts.needsLease) {
      this.#leaseWhenBack = new LeaseWhenBack(() => this.#leaseToPublish());
      parts.resources.use(this.#leaseWhenBack);
    }
  }

  /** Errors: those of opening a repository, `VmMissing`, `LeaseHeld`, `VmBusy`, and the ones of `errors.ts`. */
  static async open(request: SessionRequest): Promise<VmSession> {
    const resources = new ResourceStack();
    try {
      const session = new VmSession(await openParts(request, resources));
      // Where programs wait for a mount that goes on, or the store is away, that can wait until it is published or closed.
      const isOnline = !goesOn(request) && session.#parts.away === undefined;
      if (request.purpose === 'use' && isOnline) await session.#adoptEarlier();
      await session.#record();
      return session;
    } catch (error) {
      // The next process goes on with what this one holds for the mount: it just ends.
      if (!goesOn(request)) await resources[Symbol.asyncDispose]();
      throw error;
    }
  }

  get home(): HostHome {
    return this.#parts.request.home;
  }

  get paths(): VmPaths {
    return this.#parts.paths;
  }

  /** The descriptor that holds the VM's lock. */
  get lockFd(): number {
    return this.#parts.lock.fd;
  }

  get origin(): Origin {
    return this.#origin;
  }

  /** Set where the store was away when the session was opened. */
  get withoutStore(): WithoutStore | undefined {
    const { away } = this.#parts;
    if (away === undefined) return undefined;
    const { reason, seenAt } = away;
    return {
      ...{ seenAt: seenAt.toISOString(), reason: reason.message },
      lease: this.#leaseWhenBack?.state ?? 'none',
    };
  }

  get history(): VmHistory {
    return this.#parts.history;
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
   * refused while files are open for writing. When it fails, the overlay is as it was. Goes on where an earlier publish
   * stopped, and tells of its version if that exists already. `VmBusy` while another publish runs.
   */
  async publish(options: PublishOptions): Promise<PublishResult> {
    if (this.#publishing !== undefined) throw new VmBusy(this.vmName);
    this.#publishing = this.#publishAndFollow(options);
    try {
      return await this.#publishing;
    } finally {
      this.#publishing = undefined;
    }
  }

  /** Begins to store what is quiet ahead of the next publish, where there can be one. Once. */
  startTrickle(options: TrickleOptions): void {
    const { repository, fetcher, fileSystem } = this;
    const canPublish =
      !this.ephemeral &&
      this.#origin.kind === 'version' &&
      repository.store.capabilities.writes &&
      repository.secrets.signingSeed !== undefined;
    if (!canPublish) return;
    const parts = { ...options, repository, fetcher, fileSystem, packs: this.#packs };
    this.#trickle = this.#parts.resources.use(new Trickle(parts));
  }

  /** Undefined where nothing is stored ahead. */
  get trickle(): TrickleStatus | undefined {
    return this.#trickle?.status();
  }

  /** Resolves when no publish is under way: closing earlier would take the ground from under it. */
  async whenPublished(): Promise<void> {
    await this.#publishing?.catch(() => undefined);
  }

  /** Moving a pin keeps no change waiting. */
  async #publishAndFollow(options: PublishOptions): Promise<PublishResult> {
    const result = await this.#publishWithoutTrickle(options);
    const origin = this.#origin;
    if (result.outcome !== 'published' || origin.kind === 'branch' || this.#manifest === undefined)
      return result;
    const { home } = this.#parts.request;
    const { repositoryId } = this.repository.header;
    await followWithPin(origin.commit, this.#manifest, { home, repositoryId, fetcher: this.fetcher });
    return result;
  }

  /** What is stored ahead, and which packs it is in, stays as it is meanwhile. */
  async #publishWithoutTrickle(options: PublishOptions): Promise<PublishResult> {
    let isPublished = false;
    await this.#trickle?.pause();
    try {
      const result = await this.#publish(options);
      isPublished = true;
      return result;
    } finally {
      this.#trickle?.goOn({ isPublished });
    }
  }

  async #publish(options: PublishOptions): Promise<PublishResult> {
    if (this.#parts.request.ephemeral || this.#origin.kind === 'branch')
      throw new EphemeralMount(this.vmName);
    if (!this.repository.store.capabilities.writes) throw cannotPublishTo(this.repository.store, this.vmName);
    const startedMs = performance.now();
    await this.#leaseWhenBack?.[Symbol.asyncDispose]();
    const dirtyBytes = this.fileSystem.dirty().bytes;
    await freezeWhenClosed(this.fileSystem);
    try {
      const { outcome, version, branch, storedBytes } =
        (await this.#settleEarlier(this.#origin.commit)) ??
        (await this.#publishFrozen(this.#origin.commit, options));
      if (options.releaseLease) await this.#giveLeaseBack();
      await this.#packs.remove();
      this.#reported = version ?? this.#reported;
      return {
        ...{ outcome, version, branch, dirtyBytes, storedBytes },
        seconds: (performance.now() - startedMs) / 1000,
      };
    } finally {
      this.fileSystem.thaw();
    }
  }

  /** Chunks of the base version: how many there are, and how many of them are on this host. */
  async residency(signal: AbortSignal): Promise<{ readonly total: number; readonly local: number }> {
    let total = 0;
    let local = 0;
    for (const inode of (await this.readManifest(signal)).inodes.values()) {
      if (inode.kind !== 'file') continue;
      const file = await this.fetcher.openFile(inode.content).residency({ fetchClass: 'background', signal });
      total += file.chunks;
      local += file.localChunks;
    }
    return { total, local };
  }

  /**
   * What comes before an end in order: flushes everything, and gives the lease back when nothing unpublished is left. Unpublished
   * changes stay on this host; those of an ephemeral session go with it.
   */
  async conclude(): Promise<UnmountResult> {
    await this.#trickle?.pause();
    await this.#leaseWhenBack?.[Symbol.asyncDispose]();
    await this.#adoptEarlier();
    const { bytes: dirtyBytes, changedFiles } = this.dirty();
    const changed = changedFiles > 0;
    await this.fileSystem.flush();
    if (!changed) await this.#giveLeaseBack();
    return this.ephemeral ? { dirtyBytes: 0, changedFiles: 0 } : { dirtyBytes, changedFiles };
  }

  /** What no version has: bytes of whole pages, and how many inodes were changed, made or removed. */
  dirty(): { readonly bytes: number; readonly changedFiles: number } {
    return this.#isPublished ? { bytes: 0, changedFiles: 0 } : this.fileSystem.dirty();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.resources[Symbol.asyncDispose]();
  }

  /** The version that the overlay lies over. Fetched when it is first wanted, where a worker goes on without the store. */
  async readManifest(signal: AbortSignal | undefined): Promise<Manifest> {
    const options = signal === undefined ? {} : { signal };
    this.#manifest ??= await loadManifest(originCommit(this.#base).manifest, this.fetcher, options);
    return this.#manifest;
  }

  /** What the overlay lies over now, to fetch it ahead of use; stays the session's. */
  openVersion(): OpenVersion {
    return new OpenVersion({
      ...{ home: this.#parts.request.home, repository: this.repository, history: this.history },
      ...{ fetcher: this.fetcher, commit: originCommit(this.#base), version: this.#parts.request.version },
      ofVersion: this.#base.kind === 'version' ? String(this.#base.commit.version) : this.#base.branch.name,
      readManifest: (signal) => this.readManifest(signal),
    });
  }

  /** Only a mount goes on. */
  async #record(): Promise<void> {
    if (this.#parts.request.mount === undefined) return;
    await this.#parts.record.write({ origin: this.#origin, base: this.#base });
  }

  /** The overlay is the newest version, but still shows it as changes to the one before. */
  get #isPublished(): boolean {
    return this.#unadopted !== undefined && isMadeFrom(this.fileSystem.announced, this.#unadopted);
  }

  /**
   * What became of a commit that was announced when nobody heard of its end. If it exists, the next version is made from
   * it; if the overlay is what it says, there is nothing to publish, and the result is its.
   */
  async #settleEarlier(base: Commit): Promise<Outcome | undefined> {
    const { announced } = this.fileSystem;
    const { history, request } = this.#parts;
    const since = Math.min(base.version, Number(originIdentity(this.#base))) as VersionNumber;
    const own = await findOwnCommit(history, request.home.identity, announced, since);
    if (own === undefined) return undefined;
    // Whoever made it may have died before it recorded that.
    await readHead(history, this.#parts.paths);
    const { commit } = own;
    this.#origin = { kind: 'version', commit };
    if (!own.isCurrent) return undefined;
    await this.#adopt(commit);
    const outcome = commit.version === this.#reported ? 'unchanged' : 'published';
    const told = outcome === 'published' ? commit : undefined;
    return { outcome, version: told?.version, branch: undefined, storedBytes: told?.storedBytes ?? 0 };
  }

  async #publishFrozen(parent: Commit, options: PublishOptions): Promise<Outcome> {
    const { history, request } = this.#parts;
    const [stored] = await Promise.all([this.#newestTrace(options), this.fileSystem.flush()]);
    const lease = await this.#leaseToPublish();
    if (lease === 'lost') {
      const branch = await findOwnBranch(history, request.home.identity, this.fileSystem.announced);
      if (branch !== undefined) return branchedAs(branch.name, branch.commit.storedBytes);
    }
    const published = await publishVersion({
      repository: this.repository,
      history,
      vmName: this.vmName,
      mountPath: parent.mountPath,
      source: this.fileSystem.publishSource(this.repository.header.chunkBytes),
      parent: parent.version,
      parentsDeltas: parent.deltas,
      lease,
      releaseLease: options.releaseLease,
      host: request.home.identity,
      reader: this.fetcher,
      layout: stored === undefined ? [] : likelyTouches(stored.trace),
      trace: stored?.number,
      rewriteFraction: request.home.configuration.rewritePercent / 100,
      earlierPacks: await this.#packs.read(),
      onPackBegun: async (packId) => {
        // One that is not recorded serves this publish all the same.
        await this.#packs.add(packId, 'publish');
      },
      beforeCommit: (draft) => this.fileSystem.announceCommit(announcementOf(draft)),
      earlierChunk: (reference) => this.fetcher.readHeld(reference),
      onSealed: (reference, kind, sealed) => this.fetcher.keepSealed(reference, kind, sealed),
      ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    return this.#conclude(published, options.releaseLease);
  }

  /** What resumes touched, as far as is known. That is advice: whatever is wrong with it, there is none. */
  async #newestTrace({ signal }: PublishOptions): Promise<StoredTrace | undefined> {
    try {
      const options = signal === undefined ? {} : { signal };
      const stored = await this.#parts.history.newestTrace(options);
      return stored?.trace.chunkBytes === this.repository.header.chunkBytes ? stored : undefined;
    } catch (error) {
      debug('the traces of %s cannot be read: %o', this.vmName, error);
      return undefined;
    }
  }

  /** From here on nothing fails: what was published is published. */
  async #conclude(published: Published, leaseReleased: boolean): Promise<Outcome> {
    const { outcome, storedBytes } = published;
    if (leaseReleased || outcome === 'branched') this.#lease = undefined;
    switch (outcome) {
      case 'published':
        await rememberHead(this.#parts.paths, {
          ...{ position: published.commit.position, latest: published.commit },
          lease: leaseState(this.#lease),
        });
        await this.#adopt(published.commit, published.files);
        return { outcome, version: published.commit.version, branch: undefined, storedBytes };
      case 'unchanged':
        return { outcome, version: undefined, branch: undefined, storedBytes: 0 };
      case 'branched':
        return branchedAs(published.branch.name, storedBytes);
    }
  }

  /** The lease may have been given back with an earlier publish, or was not needed yet. */
  async #leaseToPublish(): Promise<HeldLease | 'lost'> {
    if (this.#lease !== undefined) return this.#lease;
    const { history, request } = this.#parts;
    const head = await history.head();
    if (head.latest?.version !== originVersion(this.#origin)) return 'lost';
    try {
      this.#lease = await history.acquireLease(request.home.identity);
      await rememberLease(this.#parts.paths, history, head, this.#lease);
      return this.#lease;
    } catch (error) {
      if (error instanceof LeaseHeld) return 'lost';
      throw error;
    }
  }

  /**
   * A version that was made from the overlay becomes its base, and the overlay empty. Where that fails (the local disk is
   * full), the overlay goes on over its old base, with the same content; it is tried again when it is published or closed.
   */
  async #adopt(commit: Commit, files?: ReadonlyMap<number, FileMap>): Promise<void> {
    this.#origin = { kind: 'version', commit };
    this.#unadopted = commit;
    try {
      if (files !== undefined) await this.#rebase(commit, files);
      this.#manifest = await loadManifest(commit.manifest, this.fetcher);
      if (files === undefined) await this.#rebase(commit, filesOf(this.#manifest));
      await rememberSeen(this.#parts.paths, this.#parts.history);
    } catch (error) {
      debug('after version %d of %s: %o', commit.version, this.vmName, error);
    }
  }

  async #rebase(commit: Commit, files: ReadonlyMap<number, FileMap>): Promise<void> {
    if (!isMadeFrom(this.fileSystem.announced, commit)) throw new Error('the overlay is not this version');
    await this.#record();
    await this.fileSystem.rebase(versionIdentity(commit), files);
    this.#base = { kind: 'version', commit };
    this.#unadopted = undefined;
  }

  /** Does what an earlier publish could not do any more, if the overlay is still what it published. */
  async #adoptEarlier(): Promise<void> {
    const { origin } = this;
    if (origin.kind === 'branch' || !isMadeFrom(this.fileSystem.announced, origin.commit)) return;
    this.fileSystem.freeze({ force: true });
    try {
      await this.#adopt(origin.commit);
    } finally {
      this.fileSystem.thaw();
    }
  }

  /**
   * Also a lease that an earlier process took for this host. One that cannot be given back now is only a nuisance to others
   * (`isr lease break`): never a reason to fail.
   */
  async #giveLeaseBack(): Promise<void> {
    const { history, paths } = this.#parts;
    try {
      const lease = this.#lease ?? (this.#mayHoldLease ? await this.#leaseOfThisHost() : undefined);
      this.#lease = undefined;
      if (lease === undefined) return;
      const before = await readKnownHead(paths);
      const wasHeld = await history.releaseLease(lease);
      await rememberSeen(paths, history);
      if (wasHeld && before !== undefined) await rememberLease(paths, history, before.head, undefined);
    } catch (error) {
      debug('the lease of %s was not given back: %o', this.vmName, error);
    }
  }

  /** A session that only publishes, goes on with a mount, or began without the store did not ask for the lease when it was opened. */
  get #mayHoldLease(): boolean {
    const { request } = this.#parts;
    const beganWithoutIt = goesOn(request) || this.#parts.away !== undefined;
    return request.purpose === 'publish' || (beganWithoutIt && !request.ephemeral);
  }

  async #leaseOfThisHost(): Promise<HeldLease | undefined> {
    const { history, request } = this.#parts;
    const { lease } = await readHead(history, this.#parts.paths);
    const isOurs = lease.state === 'held' && lease.holder.hostId === request.home.identity.hostId;
    return isOurs ? history.acquireLease(lease.holder) : undefined;
  }
}

/** Whether the session is one of a mount that outlived the process which opened it before. */
function goesOn(request: SessionRequest): boolean {
  return (request.mount?.life ?? 0) > 0;
}

async function openParts(request: SessionRequest, resources: ResourceStack): Promise<SessionParts> {
  const { home, vmName } = request;
  const { repository, away: awayAtOnce } = await openRepositoryOrKnown(request);
  resources.use(repository.store);
  resources.use(repository);
  const paths = await home.makeVmPaths(repository.header.repositoryId, vmName);
  const lock = request.mount?.lock ?? takeVmLock(paths, vmName);
  resources.defer(lock.release);

  const overlayDirectory = request.ephemeral ? `${paths.overlay}-ephemeral` : paths.overlay;
  if (request.ephemeral) {
    if (!goesOn(request)) await dropOverlay(paths, overlayDirectory);
    resources.defer(() => dropOverlay(paths, overlayDirectory));
  }
  const groundRequest = {
    ...{ vmName, version: request.version, ephemeral: request.ephemeral, purpose: request.purpose },
    ...{ host: home.identity, paths, overlayDirectory },
  };
  const history = repository.history(vmName, await readSeen(paths));
  const record = new GroundRecord(overlayDirectory);
  const needsLease = !request.ephemeral && request.purpose === 'use' && repository.store.capabilities.writes;
  const { ground, lease, away } = goesOn(request)
    ? {
        ground: await groundThatGoesOn(groundRequest, history, record),
        ...{ lease: undefined, away: undefined },
      }
    : await begin(request, history, groundRequest, needsLease, awayAtOnce);

  const fetcher = resources.use(await openFetcher(home, repository, request.tiers ?? []));
  const { deltas } = originCommit(ground.base);
  if (deltas !== undefined && away === undefined) fetcher.useDeltas(deltas);
  const manifest = ground.hasOverlay ? undefined : await manifestOf(ground, fetcher, away);
  const fileSystem = resources.use(
    await openOverlay({
      directory: overlayDirectory,
      base: { manifest, identity: originIdentity(ground.base) },
      openFile: (map) => fetcher.openFile(map),
      chunkMemory: fetcher.sharedMemory,
      ...(manifest === undefined
        ? {}
        : { firstInodeNumber: await takeInodeNumbers(paths, manifest.inodes.size) }),
      ...(request.mount === undefined ? {} : { mount: request.mount }),
    }),
  );
  return {
    ...{ request, paths, resources, repository, history, fetcher, fileSystem },
    ...{ ground, manifest, record, lease, lock, away, needsLease },
  };
}

function manifestOf(ground: Ground, fetcher: Fetcher, away: Away | undefined): Promise<Manifest> {
  const reference = originCommit(ground.base).manifest;
  return away === undefined
    ? loadManifest(reference, fetcher)
    : loadLocalManifest(reference, fetcher, away.reason);
}

interface Beginning {
  readonly ground: Ground;
  readonly lease: HeldLease | undefined;
  readonly away: Away | undefined;
}

/** As the store says, or, for what is to be used while it is away, as this host knows. */
async function begin(
  request: SessionRequest,
  history: VmHistory,
  groundRequest: GroundRequest,
  needsLease: boolean,
  awayAtOnce: StoreUnreachable | undefined,
): Promise<Beginning> {
  try {
    if (awayAtOnce !== undefined) throw awayAtOnce;
    return {
      ...(await findGroundAndLease(request, history, groundRequest, needsLease)),
      away: undefined,
    };
  } catch (reason) {
    if (!(reason instanceof StoreUnreachable) || request.purpose !== 'use') throw reason;
    const { ground, seenAt } = await findKnownGround(groundRequest, history, reason);
    return { ground, lease: undefined, away: { reason, seenAt } };
  }
}

/** The repository, also where its store is away and this host knows which one it is. */
async function openRepositoryOrKnown(
  request: SessionRequest,
): Promise<{ readonly repository: Repository; readonly away: StoreUnreachable | undefined }> {
  const { home, repositoryUrl } = request;
  try {
    const repository = await openRepository(home, repositoryUrl, request.mount?.repository);
    return { repository, away: undefined };
  } catch (away) {
    const known = away instanceof StoreUnreachable ? await home.repositoryAt(repositoryUrl) : undefined;
    if (!(away instanceof StoreUnreachable) || known === undefined || request.purpose !== 'use') throw away;
    return { repository: await openRepository(home, repositoryUrl, known), away };
  }
}

/** Times that a session begins anew because a version appeared before it had the lease; then it has it. */
const groundAttempts = 3;

/**
 * Where to begin, and the right to publish from there. A session that only publishes takes that when it needs it; where
 * nothing can be written it cannot be taken, but what another host holds is respected.
 */
async function findGroundAndLease(
  request: SessionRequest,
  history: VmHistory,
  groundRequest: GroundRequest,
  needsLease: boolean,
): Promise<{ readonly ground: Ground; readonly lease: HeldLease | undefined }> {
  const { paths, host } = groundRequest;
  for (let attempt = 1; ; attempt += 1) {
    const head = await readHead(history, paths, request.signal);
    const ground = await findGround(groundRequest, history, head);
    if (!needsLease) {
      const { lease } = head;
      if (!request.ephemeral && request.purpose === 'use' && isHeldElsewhere(lease, host))
        throw new LeaseHeld(request.vmName, lease.holder, lease.since);
      return { ground, lease: undefined };
    }
    const lease = await history.acquireLease(host);
    await rememberSeen(paths, history);
    await rememberLease(paths, history, head, lease);
    // Nobody else wrote between the look and the lease.
    const seen = history.seenPosition()?.position ?? 0;
    if (seen <= head.position + 1 || attempt === groundAttempts) return { ground, lease };
  }
}

async function readHead(history: VmHistory, paths: VmPaths, signal?: AbortSignal): Promise<VmHead> {
  const head = await history.head(signal === undefined ? {} : { signal });
  await rememberSeen(paths, history);
  await rememberHead(paths, head);
  return head;
}

/** After the lease was taken or given back. `before`: the log as it was then, unless somebody else wrote since. */
async function rememberLease(
  paths: VmPaths,
  history: VmHistory,
  before: VmHead,
  lease: HeldLease | undefined,
): Promise<void> {
  const seen = history.seenPosition();
  if (seen === undefined || seen.position > before.position + 1) return;
  await rememberHead(paths, {
    ...{ position: seen.position, latest: before.latest },
    lease: leaseState(lease),
  });
}

function leaseState(lease: HeldLease | undefined): LeaseState {
  return lease === undefined ? { state: 'free' } : { state: 'held', ...lease };
}

interface Outcome extends Pick<PublishResult, 'outcome' | 'branch' | 'storedBytes'> {
  readonly version: VersionNumber | undefined;
}

function cannotPublishTo({ description }: ObjectStore, vmName: string): StoreRefused {
  return new StoreRefused({
    store: description,
    key: undefined,
    reason: 'it can only be read, so nothing can be published through it',
    remedy:
      `The changes of ${vmName} stay on this host. Publish them through a URL of this repository that takes writes: ` +
      `isr umount ${vmName} && isr --repo URL publish ${vmName} (isr --repo URL suspend ${vmName} for a saved guest).`,
  });
}

function branchedAs(branch: string, storedBytes: number): Outcome {
  return { outcome: 'branched', version: undefined, branch, storedBytes };
}

function filesOf(manifest: Manifest): ReadonlyMap<number, FileMap> {
  const files = new Map<number, FileMap>();
  for (const inode of manifest.inodes.values()) {
    if (inode.kind === 'file') files.set(inode.number, inode.content);
  }
  return files;
}

function originVersion(origin: Origin): VersionNumber | undefined {
  return origin.kind === 'version' ? origin.commit.version : undefined;
}

/**
 * Opens the store, finds which repository it is, and opens it with this host's key. The caller closes it, then its store.
 * `known`: which it was when this was done before; then the store may be away.
 */
export async function openRepository(
  home: HostHome,
  url: string,
  known?: RepositoryHeader,
): Promise<Repository> {
  const store = await openStore(url, { unseen: known !== undefined });
  try {
    const { codecThreads } = home.configuration;
    const { repositoryId } = known ?? (await Repository.readHeader(store));
    const secrets = await home.loadSecrets(repositoryId);
    return known === undefined
      ? await openAndRemember(home, url, store, secrets)
      : Repository.reopen(store, known, secrets, { codecThreads });
  } catch (error) {
    await store[Symbol.asyncDispose]();
    throw error;
  }
}

/** Only what the key confirms is used when the store is away. */
async function openAndRemember(
  home: HostHome,
  url: string,
  store: ObjectStore,
  secrets: RepositorySecrets,
): Promise<Repository> {
  const { codecThreads } = home.configuration;
  const repository = await Repository.open(store, secrets, { codecThreads });
  try {
    await home.rememberRepository(url, repository.header);
    return repository;
  } catch (error) {
    await repository[Symbol.asyncDispose]();
    throw error;
  }
}

/** What was seen guards against a store that goes back in time; a full disk must not keep a VM from being published. */
async function rememberSeen(paths: VmPaths, history: VmHistory): Promise<void> {
  const seen = history.seenPosition();
  if (seen === undefined) return;
  try {
    await writeSeen(paths, seen);
  } catch (error) {
    if (!['ENOSPC', 'EDQUOT'].includes(systemErrorCode(error) ?? '')) throw error;
    debug('what was seen of %s is not recorded: %o', history.vmName, error);
  }
}
