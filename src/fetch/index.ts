/** Chunk reads: tiers, in-flight sharing, priorities, decoding. Never knows FUSE. */
export type { BaseFile, FetchClass, Fetcher, FetchOptions, FetchStatus } from './types.js';
