/**
 * Every bound of the program, in one place, with its reason. Values that a user may want to change are defaults
 * of the configuration; the rest are part of the format or protect memory.
 */
export const limits = {
  /** Default chunk: a compromise between bytes per demand miss and requests per byte (docs/architecture.md). */
  chunkBytes: 128 * 1024,
  chunkBytesMin: 16 * 1024,
  chunkBytesMax: 4 * 1024 * 1024,

  /** Plaintext that goes into one pack: large enough that a store's cost per object vanishes, small enough that two fit in memory. */
  packPlaintextBytes: 32 * 1024 * 1024,

  /** Entries in a chunk-map node: 512 chunks of 128 KiB are 64 MiB; a node is about 16 KiB when sealed. */
  mapNodeEntries: 512,

  /** Longest blob we open: guards memory against a forged length before authentication. */
  blobBytesMax: 64 * 1024 * 1024,

  /** Longest log entry (commit or lease) we read. */
  logEntryBytesMax: 64 * 1024,

  /** Inodes in one VM directory: the manifest is held in memory. */
  manifestInodesMax: 200_000,

  /** Longest file name, as in Linux. */
  fileNameBytesMax: 255,

  /** Largest file: 2^53 - 1 would be exact in JavaScript; 8 EiB is Linux's own limit. */
  fileBytesMax: 2 ** 50,

  /** Decoded chunks kept in memory by one daemon. */
  memoryCacheBytes: 64 * 1024 * 1024,

  /** Decoded chunk-map nodes kept in memory by one daemon. */
  mapCacheBytes: 16 * 1024 * 1024,

  /** Sealed chunks kept on this host's disk, shared by all VMs. */
  localCacheBytes: 20 * 1024 * 1024 * 1024,

  /** Store requests that one daemon has under way at once; `demandReserved` of them only ever serve demand. */
  storeRequestsInFlight: 16,
  storeRequestsReservedForDemand: 4,

  /** Kernel requests that may wait for the store at once; more are answered when others finish. */
  kernelRequestsWaiting: 256,

  /** Codec threads: sealing and opening chunks off the event loop. */
  codecThreads: 2,
} as const;
