/**
 * Versions of VM directories in a store: keys, sealing, packs, chunk maps, manifests, the log of commits and leases,
 * publishing, verifying, exporting. The format is described in docs/format.md. Never knows a mount.
 */
export {
  DamagedObject,
  InvalidKeyFile,
  InvalidVmName,
  LeaseHeld,
  LeaseLost,
  ReadOnlyKey,
  RepositoryExists,
  RepositoryMissing,
  RolledBack,
  UnknownFormat,
  VersionMissing,
  VmMissing,
  WrongKey,
  WrongPassphrase,
} from './errors.js';
export { ChunkMap } from './chunk-map.js';
export { NodeCache } from './chunk-map/node-cache.js';
export { chunkCount, sameFileMap, type PlacedChunk } from './chunk-map/shape.js';
export { createCodecPool, type CodecPool } from './codec/pool.js';
export type { KeepJob, KeepOutcome, OpenFileJob, SealJob, SealOutcome } from './codec/messages.js';
export type { CodecPriority } from './codec/priority-gate.js';
export {
  blobCounterMax,
  firstBlobCounter,
  Sealer,
  sealOverheadBytes,
  type SealedIdentity,
  type SealedKind,
} from './format/sealer.js';
export { exportVersion, type ExportRequest } from './export.js';
export { ExportFailed, TargetNotEmpty } from './export/errors.js';
export type { WrittenTree } from './export/tree-writer.js';
export { exportKey, importKey } from './keys/key-file.js';
export { readOnlySecrets, type RandomBytes, type RepositorySecrets } from './keys/secrets.js';
export type { PackIndexEntry } from './format/pack.js';
export type { RepositoryHeader } from './format/header.js';
export { checkVmName } from './format/vm-name.js';
export { loadManifest } from './load-manifest.js';
export {
  directorySource,
  type DirectorySource,
  type DirectorySourceOptions,
} from './publish/directory-source.js';
export { SourceChanged, SourceUnreadable, UnsupportedFile } from './publish/errors.js';
export { EarlierPacks, type StoredChunks } from './publish/earlier-packs.js';
export type { SourceChunk, WantedChunk } from './publish/layout.js';
export { storeAhead, type StoreAheadRequest } from './publish/store-ahead.js';
export { publishVersion, type Published, type PublishRequest } from './publish/publish.js';
export { manifestPaths } from './manifest-paths.js';
export { verifyVersion, type VerifyReport, type VerifyRequest } from './verify.js';
export type { Damage } from './verify/report.js';
export type { VmHistory } from './history.js';
export { Repository, type RepositoryOptions } from './repository.js';
export type { SealingSecrets } from './format/key-schedule.js';
export { applyDelta, decodeDeltaIndex } from './format/delta.js';
export { packKey } from './format/object-keys.js';
export { isChunkSize, mapHeight } from './format/manifest.js';
export type {
  BlobId,
  BlobKind,
  BlobReader,
  BlobReference,
  Branch,
  ChangedRange,
  ChunkDelta,
  Commit,
  CommitDraft,
  FileMap,
  HeldLease,
  HostIdentity,
  InodeMetadata,
  LeaseState,
  LogPosition,
  Manifest,
  ManifestInode,
  MapEntry,
  PackId,
  PublishSource,
  SeenPosition,
  SourceFile,
  SourceInode,
  StoredTrace,
  Timestamps,
  Touch,
  Trace,
  TraceEntry,
  VersionNumber,
  VmHead,
} from './types.js';
