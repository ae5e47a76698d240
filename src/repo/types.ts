import type { MaybePromise } from '../base/index.js';

/** 16 random bytes in lower-case hex; names a pack object and salts its key. */
export type PackId = string & { readonly __brand: 'PackId' };

/** 16 bytes in lower-case hex: truncated HMAC-SHA-256 of a blob's plaintext under the repository's identity key. */
export type BlobId = string & { readonly __brand: 'BlobId' };

/** Counts from 1 within a VM. */
export type VersionNumber = number & { readonly __brand: 'VersionNumber' };

/** Position in a VM's log of commits and lease changes; counts from 1 without gaps. */
export type LogPosition = number & { readonly __brand: 'LogPosition' };

/** Which promise a sealed blob was made for; part of the authenticated data, so one can never stand in for another. */
export type BlobKind = 'chunk' | 'map-node' | 'manifest' | 'delta' | 'delta-index';

/** Where a sealed blob lies and what it must contain. Immutable; equal ids have equal plaintext. */
export interface BlobReference {
  readonly packId: PackId;
  /** Position of the sealed bytes in the pack object. */
  readonly offsetBytes: number;
  readonly sealedBytes: number;
  /** The AEAD nonce counter within the pack. */
  readonly counter: number;
  readonly id: BlobId;
}

/** That a chunk can be made out of an earlier one, where that is at hand, and where the delta lies that does it. */
export interface ChunkDelta {
  readonly chunkId: BlobId;
  readonly base: BlobReference;
  readonly delta: BlobReference;
}

/** What a chunk map says of one chunk (or of one subtree): all zero, or a blob. */
export type MapEntry = 'zero' | BlobReference;

/**
 * The content of one regular file in one version: the root of its chunk map. A tree of height 0 is a single chunk;
 * height h covers `mapNodeEntries ** h` chunks. Bytes past `sizeBytes` in the last chunk are zero.
 */
export interface FileMap {
  readonly sizeBytes: number;
  readonly chunkBytes: number;
  readonly height: number;
  readonly root: MapEntry;
}

/** Reads and authenticates sealed blobs; `fetch/` implements it with tiers, `repo/` directly over a store. */
export interface BlobReader {
  /** Plaintext, verified. The caller must not modify it: it may be shared. */
  readBlob(
    reference: BlobReference,
    kind: BlobKind,
    options?: { readonly signal?: AbortSignal },
  ): Promise<Uint8Array>;
}

export interface Timestamps {
  readonly accessTimeNs: bigint;
  readonly modifyTimeNs: bigint;
  readonly changeTimeNs: bigint;
}

export interface InodeMetadata extends Timestamps {
  /** Permission bits (07777), without the file type. */
  readonly permissions: number;
  readonly uid: number;
  readonly gid: number;
  /** Extended attributes: name to value. */
  readonly extendedAttributes: ReadonlyMap<string, Uint8Array>;
}

/** An inode of a version. Numbers are local to the manifest; 1 is the VM directory itself. Link counts follow from the entries. */
export type ManifestInode = InodeMetadata & { readonly number: number } & (
    | { readonly kind: 'file'; readonly content: FileMap }
    | { readonly kind: 'directory'; readonly entries: ReadonlyMap<string, number> }
    | { readonly kind: 'symlink'; readonly target: string }
    | { readonly kind: 'fifo' }
  );

/** The whole VM directory of one version. */
export interface Manifest {
  readonly inodes: ReadonlyMap<number, ManifestInode>;
}

/** Who published or holds something, for people and for fencing. */
export interface HostIdentity {
  /** 16 random bytes in hex, made once per `ISR_HOME`. */
  readonly hostId: string;
  readonly hostName: string;
}

/** The record that makes a version exist. */
export interface Commit {
  readonly version: VersionNumber;
  readonly vmName: string;
  /** The fixed absolute path of the VM's directory. */
  readonly mountPath: string;
  readonly host: HostIdentity;
  readonly createdAt: Date;
  readonly manifest: BlobReference;
  /** Sum of file sizes. */
  readonly logicalBytes: number;
  /** Sealed bytes that this version added to the store. */
  readonly storedBytes: number;
  /** Version this one was made from; undefined for the first. */
  readonly parent: VersionNumber | undefined;
  /** The VM's newest trace when this was made, where readers that cannot list begin to look; it may be gone. */
  readonly trace?: number | undefined;
  /** The index of deltas that make chunks of this version out of earlier ones: a blob of kind `delta-index`. */
  readonly deltas?: BlobReference | undefined;
  readonly position: LogPosition;
}

/** A commit before the log gave it its place. */
export type CommitDraft = Omit<Commit, 'position' | 'version'>;

/** Work that lost its lease: complete, readable, but not a version. */
export interface Branch {
  /** Unique within the VM: `HOST-vN-TIMESTAMP`. */
  readonly name: string;
  readonly commit: CommitDraft;
}

export type LeaseState =
  | { readonly state: 'free' }
  | {
      readonly state: 'held';
      readonly holder: HostIdentity;
      readonly leaseNumber: LogPosition;
      readonly since: Date;
    };

/** The right to publish a VM's next version, as this host holds it. */
export interface HeldLease {
  readonly vmName: string;
  readonly holder: HostIdentity;
  /** The log position that gave the lease; a later one fences it. */
  readonly leaseNumber: LogPosition;
  readonly since: Date;
}

/** How far a host has seen a VM's log; kept by the host to notice a store that goes back in time. */
export interface SeenPosition {
  readonly position: LogPosition;
  /** SHA-256 of the stored log entry, in hex. */
  readonly digest: string;
}

/** The newest state of a VM's log. */
export interface VmHead {
  /** 0 where nothing was written yet. */
  readonly position: LogPosition | 0;
  readonly latest: Commit | undefined;
  readonly lease: LeaseState;
}

/**
 * A directory that `publish` turns into a version: a plain directory, or a mounted file system's base plus overlay.
 * The source must not change until `publish` returns.
 */
export interface PublishSource {
  inodes(): Iterable<SourceInode>;
}

export type SourceInode = InodeMetadata & { readonly number: number } & (
    | { readonly kind: 'file'; readonly content: SourceFile }
    | { readonly kind: 'directory'; readonly entries: ReadonlyMap<string, number> }
    | { readonly kind: 'symlink'; readonly target: string }
    | { readonly kind: 'fifo' }
  );

export interface SourceFile {
  readonly sizeBytes: number;
  /** The map that unchanged chunks are taken from; undefined for a new file. */
  readonly base: FileMap | undefined;
  /**
   * Ranges of chunk indexes that may differ from `base` (from all-zero where there is no base), ascending, not
   * overlapping. Chunks outside are taken over from `base`; chunks past its end are zero.
   */
  changedChunks(): AsyncIterable<ChangedRange>;
  /**
   * Fills `into` (whole chunks, starting at chunk `first`); bytes past the end of the file must be zero. Several reads
   * may be under way at once, also outside of the changed ranges. `into` may lie in shared memory.
   */
  readChunks(first: number, into: Uint8Array): MaybePromise<void>;
  /** Called once, after the last read: checks that the file did not change meanwhile, frees what reading needed. */
  finish?(): Promise<void>;
}

/** Consecutive chunks that may have changed. */
export interface ChangedRange {
  readonly first: number;
  readonly count: number;
  /** Every chunk of the range is known to be zero now: it is not read, and costs nothing however long it is. */
  readonly zero?: true;
}

/** The first touch of a chunk during a resume. */
export interface Touch {
  /** Of the file within the VM directory, without a slash in front, as `manifestPaths` has it. */
  readonly path: string;
  readonly chunkIndex: number;
  /** Since the resume began, whole milliseconds. */
  readonly atMs: number;
}

/** A chunk of a trace. */
export interface TraceEntry extends Touch {
  /** Which of the last `limits.traceResumes` resumes touched it: bit 0 is the newest one. Never 0. */
  readonly seenIn: number;
}

/** What resumes of a VM touched, merged: of use for the version that it is of, and for the next ones. */
export interface Trace {
  /** That was resumed last. */
  readonly version: VersionNumber;
  readonly recordedAt: Date;
  /** What `chunkIndex` counts. */
  readonly chunkBytes: number;
  /** Resumes that were merged into it. */
  readonly resumes: number;
  /** In the order of first touch; no chunk twice. */
  readonly entries: readonly TraceEntry[];
}

/** A trace in its place among the VM's. */
export interface StoredTrace {
  /** Grows with each trace that is written. */
  readonly number: number;
  readonly storedBytes: number;
  readonly trace: Trace;
}
