/**
 * Versions of VM directories in a store: keys, sealing, packs, chunk maps, manifests, the log of commits and leases,
 * publishing, verifying, exporting. The format is described in docs/format.md. Never knows a mount.
 */
export type {
  BlobId,
  BlobKind,
  BlobReader,
  BlobReference,
  Branch,
  Commit,
  FileMap,
  HostIdentity,
  InodeMetadata,
  LeaseState,
  LogPosition,
  Manifest,
  ManifestInode,
  MapEntry,
  PackId,
  PublishSource,
  SourceFile,
  SourceInode,
  Timestamps,
  VersionNumber,
  VmHead,
} from './types.js';
