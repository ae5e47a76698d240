/** Chunk reads: tiers, in-flight sharing, priorities, decoding. Never knows FUSE. */
export { LocalCacheUnusable } from './errors.js';
export { createFetcher, type FetcherOptions } from './fetcher.js';
export type { CacheFiles, LocalCacheStatus } from './local-cache.js';
export { cacheContent, evictCache, verifyCache, type CacheContent } from './local-cache/maintenance.js';
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
  WarmOptions,
  WarmResult,
} from './types.js';
export { warmFiles, type WarmRequest } from './warm-files.js';
