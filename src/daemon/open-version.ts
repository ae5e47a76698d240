import createDebug from 'debug';
import type { ProgressListener } from '../base/index.js';
import {
  createFetcher,
  lookasideDirectory,
  pinBlobs,
  versionBlobs,
  type Fetcher,
  type FetchOptions,
  type VersionBlob,
} from '../fetch/index.js';
import type { HostHome } from '../host/index.js';
import {
  loadManifest,
  VersionMissing,
  type BlobReference,
  type Commit,
  type CommitDraft,
  type Manifest,
  type Repository,
  type Trace,
  type VmHistory,
} from '../repo/index.js';
import {
  planWarming,
  warmOrder,
  warmVersion,
  type WarmPlan,
  type WarmRequest,
  type WarmResult,
  type WarmScope,
  type WarmVersion,
} from '../warm/index.js';

const debug = createDebug('isr:daemon:warm');

interface OpenVersionParts {
  readonly home: HostHome;
  readonly repository: Repository;
  readonly history: VmHistory;
  readonly commit: CommitDraft;
  /** Its number, or the name of a branch. */
  readonly ofVersion: string;
  /** As it was asked for; undefined: as the newest. */
  readonly version: string | undefined;
  readonly fetcher: Fetcher;
  readonly readManifest: (signal: AbortSignal | undefined) => Promise<Manifest>;
}

interface WarmingOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: ProgressListener;
}

/** Opens a version to fetch it ahead of use: without a lease, an overlay or a lock, so any number of processes may. */
export async function openVersion(request: {
  readonly home: HostHome;
  /** Stays its owner's. */
  readonly repository: Repository;
  readonly history: VmHistory;
  readonly commit: Commit;
  readonly tiers: readonly string[];
}): Promise<OpenVersion & AsyncDisposable> {
  const { home, repository, commit } = request;
  const fetcher = await openFetcher(home, repository, request.tiers);
  if (commit.deltas !== undefined) fetcher.useDeltas(commit.deltas);
  let manifest: Promise<Manifest> | undefined;
  const version = new OpenVersion({
    ...{ ...request, fetcher, ofVersion: String(commit.version), version: undefined },
    readManifest: (signal) =>
      (manifest ??= loadManifest(commit.manifest, fetcher, signal === undefined ? {} : { signal })),
  });
  return Object.assign(version, { [Symbol.asyncDispose]: () => fetcher[Symbol.asyncDispose]() });
}

/** A version of which chunks can be read, and so made local ahead of use. Holds nothing of its own. */
export class OpenVersion {
  readonly #parts: OpenVersionParts;

  constructor(parts: OpenVersionParts) {
    this.#parts = parts;
  }

  /** Where its manifest is. */
  get manifestReference(): BlobReference {
    return this.#parts.commit.manifest;
  }

  /** See `warmVersion`. `InvalidInput` for a lookaside place that cannot be one. */
  async warm(request: WarmRequest, options: WarmingOptions): Promise<WarmResult> {
    const { home, repository, commit } = this.#parts;
    const version = await this.describe(options);
    // First, so that nothing that comes is evicted while the rest does.
    if (request.pin === true) await this.#pin(version, request.scope, options);
    if (request.to === undefined) return warmVersion(version, request, options);
    const lookaside = await openFetcher(home, repository, [home.cachePath], lookasideDirectory(request.to));
    try {
      await loadManifest(commit.manifest, lookaside, signalOf(options));
      return await warmVersion(version, request, { ...options, lookaside });
    } finally {
      await lookaside[Symbol.asyncDispose]();
    }
  }

  /** See `planWarming`. */
  async planWarming(scope: WarmScope, options: WarmingOptions): Promise<WarmPlan> {
    return planWarming(await this.describe(options), scope, signalOf(options));
  }

  /** `CachePinsFull`. */
  async #pin(version: WarmVersion, scope: WarmScope, options: WarmingOptions): Promise<void> {
    const { home, repository, history, ofVersion } = this.#parts;
    await pinBlobs({
      cachePath: home.cachePath,
      limitBytes: home.localCacheBytesNow(),
      name: {
        repositoryId: repository.header.repositoryId,
        vmName: history.vmName,
        version: this.#parts.version,
      },
      ofVersion,
      blobs: this.#blobsOf(version, scope, { fetchClass: 'background', ...signalOf(options) }),
      ...signalOf(options),
    });
  }

  /** With everything that leads to the chunks of the scope. */
  async *#blobsOf(
    version: WarmVersion,
    scope: WarmScope,
    options: FetchOptions,
  ): AsyncGenerator<VersionBlob, void> {
    const { manifest, fetcher } = version;
    const blobs = versionBlobs({ manifest, reference: this.#parts.commit.manifest }, fetcher, options);
    for await (const blob of blobs) if (blob.kind !== 'chunk' || scope.kind === 'all') yield blob;
    if (scope.kind === 'all') return;
    for await (const { reference } of warmOrder(version, scope, options)) yield { reference, kind: 'chunk' };
  }

  /** What there is to fetch. Loads the manifest, and the trace if there is one that can be had. */
  async describe(options: { readonly signal?: AbortSignal }): Promise<WarmVersion> {
    const { fetcher, repository } = this.#parts;
    const [manifest, trace] = await Promise.all([
      this.#parts.readManifest(options.signal),
      this.#readTrace(options),
    ]);
    const { chunkBytes } = repository.header;
    return { manifest, trace, fetcher, chunkBytes, earlier: () => this.#readEarlier(options) };
  }

  /** Advice: whatever is wrong with it, there is none. */
  async #readTrace(options: WarmingOptions): Promise<Trace | undefined> {
    try {
      const trace = await this.#parts.history.readTrace(signalOf(options));
      return trace?.chunkBytes === this.#parts.repository.header.chunkBytes ? trace : undefined;
    } catch (error) {
      if (options.signal?.aborted === true) throw error;
      debug('no trace of %s: %o', this.#parts.history.vmName, error);
      return undefined;
    }
  }

  async #readEarlier(options: WarmingOptions): Promise<Manifest | undefined> {
    const { history, fetcher, commit } = this.#parts;
    if (commit.parent === undefined) return undefined;
    try {
      const parent = await history.commit(commit.parent);
      return await loadManifest(parent.manifest, fetcher, signalOf(options));
    } catch (error) {
      if (error instanceof VersionMissing) return undefined;
      throw error;
    }
  }
}

/** The fetcher of a host, with the caps and places of its configuration; with another cache than the host's where that is said. */
export async function openFetcher(
  home: HostHome,
  repository: Repository,
  tiers: readonly string[],
  lookaside?: string,
): Promise<Fetcher> {
  const { configuration } = home;
  const isLookaside = lookaside !== undefined;
  return createFetcher({
    repository,
    cachePath: lookaside ?? home.cachePath,
    localCacheBytes: isLookaside ? Number.MAX_SAFE_INTEGER : () => home.localCacheBytesNow(),
    repositoryId: repository.header.repositoryId,
    memoryCacheBytes: isLookaside ? 0 : configuration.memoryCacheBytes,
    tiers: [...tiers, ...configuration.tiers],
    caps: {
      bytesPerSecond: configuration.bytesPerSecond,
      backgroundBytesPerSecond: configuration.backgroundBytesPerSecond,
      requestsInFlight: configuration.requestsInFlight,
    },
    chunkBytes: repository.header.chunkBytes,
    betweenDemands: home.configuration.betweenDemands,
  });
}

function signalOf({ signal }: WarmingOptions): { readonly signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}
