import { Cancelled, LimitExceeded, limits, type ProgressListener } from '../../base/index.js';
import { LeaseHeld, LeaseLost, ReadOnlyKey } from '../errors.js';
import type { VmHistory } from '../history.js';
import { decodeDeltaIndex } from '../format/delta.js';
import { decodeManifest, encodeManifest } from '../format/manifest.js';
import { packKey } from '../format/object-keys.js';
import { loadManifest } from '../load-manifest.js';
import type { Repository } from '../repository.js';
import type {
  BlobKind,
  BlobReader,
  BlobReference,
  Branch,
  ChunkDelta,
  Commit,
  CommitDraft,
  FileMap,
  HeldLease,
  HostIdentity,
  Manifest,
  ManifestInode,
  PackId,
  PublishSource,
  SourceFile,
  SourceInode,
  VersionNumber,
} from '../types.js';
import { ContentWriter, type EarlierChunk } from './content-writer.js';
import { EarlierPacks } from './earlier-packs.js';
import type { WantedChunk } from './layout.js';
import { sameDirectory } from './same-directory.js';
import { throttled } from '../throttled.js';

export interface PublishRequest {
  readonly repository: Repository;
  /** The VM's; for a caller that goes on with what it has seen of the log. */
  readonly history?: VmHistory;
  readonly vmName: string;
  /** The fixed absolute path of the VM's directory. */
  readonly mountPath: string;
  /** The caller keeps it, and closes it if it needs closing. */
  readonly source: PublishSource;
  /** The version that the source was made from; undefined for a VM's first. */
  readonly parent: VersionNumber | undefined;
  /** Undefined: an import while nobody holds the lease. `lost`: known to be lost, so the work becomes a branch. */
  readonly lease: HeldLease | 'lost' | undefined;
  /** Give the lease back in the same step that publishes. */
  readonly releaseLease?: boolean;
  readonly host: HostIdentity;
  /** For the map nodes and the manifest of earlier versions. */
  readonly reader: BlobReader;
  /** The parent's index of deltas (`Commit.deltas`): what it names is of use to hosts that have earlier versions. */
  readonly parentsDeltas?: BlobReference | undefined;
  /** What a chunk of the parent holds, if it is at hand: then a delta to it is stored as well. */
  readonly earlierChunk?: EarlierChunk;
  /** Called for each new blob, before it is durable, for instance to keep it in a cache; waited for. */
  readonly onSealed?: (reference: BlobReference, kind: BlobKind, sealed: Uint8Array) => void | Promise<void>;
  /**
   * Packs that `onPackBegun` of earlier attempts named, in that order: chunks in them are not uploaded again. Packs that
   * are not in the store do no harm.
   */
  readonly earlierPacks?: readonly PackId[];
  /** Called before a pack of chunks is uploaded; waited for. */
  readonly onPackBegun?: (packId: PackId) => Promise<void>;
  /**
   * What a resume is expected to want, in that order: what of it is stored lies together, so that few requests bring it.
   * Give it in the same order when a publish is taken up again.
   */
  readonly layout?: readonly WantedChunk[];
  /** The number of the VM's newest trace: for readers whose store cannot list. */
  readonly trace?: number | undefined;
  /**
   * Chunks of the layout that did not change may be stored again to lie with the others: up to this part of the bytes that
   * are stored of it anyway; 0 is never. By default `limits.layoutRewriteFraction`.
   */
  readonly rewriteFraction?: number;
  /**
   * Called when everything is stored, before the commit (or branch) is made; waited for. If it rejects, neither is made.
   * The commit that exists afterwards is told by its manifest's place, which is never used twice.
   */
  readonly beforeCommit?: (draft: CommitDraft) => Promise<void>;
  /** In bytes of the files, holes and unchanged parts included. */
  readonly onProgress?: ProgressListener;
  readonly signal?: AbortSignal;
}

export type Published =
  | {
      readonly outcome: 'published';
      readonly commit: Commit;
      /** The new map of every file, by inode number. */
      readonly files: ReadonlyMap<number, FileMap>;
      readonly storedBytes: number;
    }
  | {
      /** The source equals its parent (but for access and change times): no version was made. */
      readonly outcome: 'unchanged';
      /** The parent. */
      readonly commit: Commit;
      readonly files: ReadonlyMap<number, FileMap>;
      readonly storedBytes: number;
    }
  | {
      /** The lease was lost meanwhile: the work is complete and readable, but not a version. */
      readonly outcome: 'branched';
      readonly branch: Branch;
      readonly reason: LeaseLost;
      readonly files: ReadonlyMap<number, FileMap>;
      readonly storedBytes: number;
    };

/**
 * Makes the VM's next version of a source: packs of changed chunks, then map nodes and manifest, then the commit.
 * Unchanged chunks of the parent are referenced; equal chunks are stored once. Until the commit exists nothing of it
 * can be seen; whatever goes wrong before leaves at worst objects that nothing refers to.
 *
 * Rejects with `LeaseHeld` (no lease given and somebody has it), `ReadOnlyKey`, `LimitExceeded`, `Cancelled`, and what
 * the store, the reader and the source reject with. Memory: see `ContentWriter`, and the manifest.
 */
export async function publishVersion(request: PublishRequest): Promise<Published> {
  await refuseEarly(request);
  const published = await attempt(request, request.earlierPacks ?? []);
  // Somebody removed a pack between its use and the commit: then none of them is to be trusted.
  return published ?? (await attempt(request, [])) ?? Promise.reject(new Error('no earlier pack was used'));
}

/** Undefined when a pack of an earlier attempt vanished meanwhile. */
async function attempt(
  request: PublishRequest,
  earlierPackIds: readonly PackId[],
): Promise<Published | undefined> {
  const { repository, signal } = request;
  const options = signal === undefined ? {} : { signal };
  const earlierPacks = new EarlierPacks(repository, earlierPackIds, options);
  const inodes = [...request.source.inodes()];
  const sources = inodes.flatMap((inode) => (inode.kind === 'file' ? [inode.content] : [])).sort(bySize);
  const progress = progressOf(sources, request.onProgress);
  const content = new ContentWriter({
    repository: request.repository,
    reader: request.reader,
    onSealed: request.onSealed,
    earlierChunk: request.earlierChunk,
    onPosition: progress.at,
    onLaidOut: progress.atLeast,
    rewriteFraction: request.rewriteFraction ?? limits.layoutRewriteFraction,
    signal: request.signal,
    earlierPacks,
    onPackBegun: request.onPackBegun,
  });
  try {
    await content.layOut(request.layout ?? [], inodes);
    const maps = await content.writeFiles(sources);
    const manifest = manifestOf(inodes, new Map(sources.map((source, position) => [source, maps[position]])));
    const parent = content.isEmpty ? await unchangedParent(request, manifest) : undefined;
    if (parent !== undefined) return await settleUnchanged(request, parent, manifest);
    const reference = await content.writeBlob(encodeChecked(manifest), 'manifest');
    const deltas = (await content.finish(() => parentsDeltas(request))) ?? request.parentsDeltas;
    if (!(await earlierPacks.areThere())) return undefined;
    if (request.signal?.aborted === true) throw new Cancelled('Publishing');
    return await commit(request, manifest, { reference, deltas, storedBytes: content.storedBytes });
  } finally {
    await content.settle();
  }
}

/** What the commit would be refused for anyway need not wait until everything is stored. */
async function refuseEarly({ repository, vmName, lease, signal }: PublishRequest): Promise<void> {
  if (repository.secrets.signingSeed === undefined) throw new ReadOnlyKey('publish a version');
  if (lease !== undefined) return;
  const head = await repository.history(vmName).head(signal === undefined ? {} : { signal });
  if (head.lease.state === 'held') throw new LeaseHeld(vmName, head.lease.holder, head.lease.since);
}

interface StoredContent {
  /** Of the manifest. */
  readonly reference: BlobReference;
  /** Of the index of deltas. */
  readonly deltas: BlobReference | undefined;
  readonly storedBytes: number;
}

/** What an index names: a short way and nothing else. Where it cannot be had, there is none. Never rejects. */
async function parentsDeltas({
  reader,
  signal,
  parentsDeltas: index,
}: PublishRequest): Promise<readonly ChunkDelta[]> {
  if (index === undefined) return [];
  try {
    const plaintext = await reader.readBlob(index, 'delta-index', signal === undefined ? {} : { signal });
    return decodeDeltaIndex(plaintext, packKey(index.packId));
  } catch {
    return [];
  }
}

/** Makes a version of what is stored, or a branch where the right to do so is gone. */
async function commit(
  request: PublishRequest,
  manifest: Manifest,
  { reference, deltas, storedBytes }: StoredContent,
): Promise<Published> {
  const { repository, vmName, mountPath, host, parent, lease } = request;
  const files = filesOf(manifest);
  let logicalBytes = 0;
  for (const map of files.values()) logicalBytes += map.sizeBytes;
  const createdAt = new Date();
  const draft = {
    vmName,
    mountPath,
    host,
    createdAt,
    manifest: reference,
    logicalBytes,
    storedBytes,
    parent,
    ...(request.trace === undefined ? {} : { trace: request.trace }),
    ...(deltas === undefined ? {} : { deltas }),
  };
  await request.beforeCommit?.(draft);
  const history = request.history ?? repository.history(vmName);
  const saveBranch = async (reason: LeaseLost): Promise<Published> => {
    return { outcome: 'branched', branch: await history.saveBranch(draft), reason, files, storedBytes };
  };
  if (lease === 'lost') return saveBranch(new LeaseLost(vmName, 'the lease was lost before'));
  try {
    const releaseLease = request.releaseLease === true;
    const commit = await history.appendCommit(draft, lease, { releaseLease });
    return { outcome: 'published', commit, files, storedBytes };
  } catch (error) {
    if (error instanceof LeaseLost) return saveBranch(error);
    throw error;
  }
}

/** The parent's commit, if a version of this directory would say nothing that the parent does not. */
async function unchangedParent(request: PublishRequest, manifest: Manifest): Promise<Commit | undefined> {
  const { repository, vmName, mountPath, parent, reader, signal } = request;
  if (parent === undefined) return undefined;
  const commit = await repository.history(vmName).commit(parent);
  if (commit.mountPath !== mountPath) return undefined;
  const before = await loadManifest(commit.manifest, reader, signal === undefined ? {} : { signal });
  return sameDirectory(before, manifest) ? commit : undefined;
}

async function settleUnchanged(
  { repository, vmName, lease, releaseLease }: PublishRequest,
  parent: Commit,
  manifest: Manifest,
): Promise<Published> {
  const isHeld = lease !== undefined && lease !== 'lost';
  if (isHeld && releaseLease === true) await repository.history(vmName).releaseLease(lease);
  return { outcome: 'unchanged', commit: parent, files: filesOf(manifest), storedBytes: 0 };
}

function manifestOf(
  inodes: readonly SourceInode[],
  maps: ReadonlyMap<SourceFile, FileMap | undefined>,
): Manifest {
  const byNumber = new Map<number, ManifestInode>();
  for (const inode of inodes) byNumber.set(inode.number, manifestInode(inode, maps));
  return { inodes: byNumber };
}

function manifestInode(
  inode: SourceInode,
  maps: ReadonlyMap<SourceFile, FileMap | undefined>,
): ManifestInode {
  if (inode.kind !== 'file') return inode;
  const content = maps.get(inode.content);
  if (content === undefined) throw new Error(`inode ${inode.number} was not written`);
  return { ...inode, content };
}

/** Decodes what was encoded: a version that cannot be read back must not come to exist. */
function encodeChecked(manifest: Manifest): Uint8Array {
  if (manifest.inodes.size > limits.manifestInodesMax) {
    throw new LimitExceeded(`A VM directory may hold at most ${limits.manifestInodesMax} files.`);
  }
  const encoded = encodeManifest(manifest);
  if (encoded.length > limits.blobBytesMax) {
    throw new LimitExceeded(
      `The list of files needs ${encoded.length} bytes; it may have ${limits.blobBytesMax}.`,
    );
  }
  decodeManifest(encoded, 'that is about to be published');
  return encoded;
}

function filesOf(manifest: Manifest): ReadonlyMap<number, FileMap> {
  const files = new Map<number, FileMap>();
  for (const inode of manifest.inodes.values()) {
    if (inode.kind === 'file') files.set(inode.number, inode.content);
  }
  return files;
}

/**
 * Small files first: a resume begins with configuration and device state, and has all of them before it touches the first
 * page of memory.
 */
function bySize(one: SourceFile, other: SourceFile): number {
  return one.sizeBytes - other.sizeBytes;
}

/**
 * Turns positions within files, which come one file after the other, into progress over all of them. What is done of files
 * before their turn counts until positions have caught up.
 */
function progressOf(
  files: readonly SourceFile[],
  onProgress: ProgressListener | undefined,
): {
  readonly at: (file: SourceFile, doneBytes: number) => void;
  readonly atLeast: (doneBytes: number) => void;
} {
  let totalBytes = 0;
  let mostBytes = 0;
  const startOf = new Map<SourceFile, number>();
  for (const file of files) {
    startOf.set(file, totalBytes);
    totalBytes += file.sizeBytes;
  }
  const report = throttled(onProgress);
  const atLeast = (doneBytes: number): void => {
    mostBytes = Math.min(Math.max(mostBytes, doneBytes), totalBytes);
    report({ doneBytes: mostBytes, totalBytes });
  };
  return { at: (file, doneBytes) => atLeast((startOf.get(file) ?? 0) + doneBytes), atLeast };
}
