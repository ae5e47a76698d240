/** Chunk reads: tiers, in-flight sharing, priorities, decoding. Never knows FUSE. */
export { CachePinsFull, LocalCacheUnusable } from './errors.js';
export { lookasideDirectory } from './tiers/lookaside-directory.js';
export { createFetcher, type FetcherOptions } from './fetcher.js';
export type { CacheFiles, LocalCacheStatus } from './local-cache.js';
export {
  cacheContent,
  evictCache,
  verifyCache,
  type CacheContent,
  type CacheVerification,
} from './local-cache/maintenance.js';
export { CacheRoom } from './local-cache/cache-room.js';
export type { Pin, PinName } from './local-cache/pin-file.js';
export {
  listPins,
  movePin,
  pinBlobs,
  pinnedBytes,
  pinnedBytesMax,
  removeDamagedPins,
  unpinBlobs,
  type PinnedBlob,
  type PinRequest,
  type PinResidency,
  type PinResult,
} from './local-cache/pins.js';
export {
  StallRecord,
  type DemandWait,
  type Stall,
  type StalledRequest,
  type StallFacts,
  type StallListener,
  type StallReport,
  type StallSums,
} from './stall-record.js';
export { TokenBucket } from './token-bucket.js';
export { noTime, waitParts, type WaitPart, type WaitParts } from './wait-clock.js';
export type {
  BaseFile,
  FetchClass,
  FetchClassStatus,
  Fetcher,
  FetchOptions,
  FetchStatus,
  FetchTrouble,
  LinkCaps,
  LinkStatus,
  SoughtBytes,
  TierStatus,
  WarmOptions as WarmChunksOptions,
  WarmResult as WarmChunksResult,
} from './types.js';
export { versionBlobs, type VersionBlob } from './version-blobs.js';
export { requestsFor } from './upcoming-blobs.js';
export { untilAborted } from './until-aborted.js';
