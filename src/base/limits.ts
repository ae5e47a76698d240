import { availableParallelism } from 'node:os';

/**
 * Every bound of the program, in one place, with its reason. Values that a user may want to change are defaults
 * of the configuration; the rest are part of the format or protect memory.
 */
export const limits = {
  /** Default chunk: a compromise between bytes per demand miss and requests per byte (docs/architecture.md). */
  chunkBytes: 128 * 1024,
  chunkBytesMin: 16 * 1024,
  chunkBytesMax: 4 * 1024 * 1024,

  /** Plaintext that goes into one pack: large enough that a store's cost per object vanishes, small enough that a few fit in memory. */
  packPlaintextBytes: 32 * 1024 * 1024,

  /** The same of the first pack, for an upload to begin soon; each next one may have twice as much. */
  packPlaintextBytesFirst: 4 * 1024 * 1024,

  /** Packs being uploaded at once by a publish, which keeps them in memory: one on its way while the next is sent off. */
  packUploadsInFlight: 2,

  /**
   * Packs of earlier attempts, or stored ahead, whose chunks a publish knows at once, around the last one that was of use
   * (8 GiB of chunks that were stored ahead, 17 MB of memory); and reads of their indexes that are under way at once.
   */
  earlierPacksKnown: 512,
  earlierPackReadsInFlight: 8,

  /** Packs of unfinished publishes that a host remembers: 2 TiB of chunks, 2 MB on disk. */
  earlierPacksRecorded: 65_536,

  /** What a publish reads from a file at a time (at least one chunk): enough that the cost of a read vanishes. */
  publishReadBytes: 1024 * 1024,

  /** Reads of a publish that are under way or being sealed: keeps the disk and all codec threads busy. */
  publishReadsInFlight: 8,

  /** Chunks that an export reads and writes at once: hides the latency of a distant store. */
  exportChunksInFlight: 16,

  /** Chunks that verify looks at together to find neighbours in packs. */
  verifyWindowChunks: 1024,

  /** One read of verify, and the gap between two wanted blobs that is cheaper to read than another request. */
  verifyRangeBytes: 4 * 1024 * 1024,
  verifyGapBytes: 64 * 1024,

  /** Ranges that verify has in memory at once, and chunks of each that it has open. */
  verifyRangesInFlight: 4,
  verifyOpensPerRange: 4,

  /** Blobs that verify remembers as checked, since several files and places may refer to one; and packs. */
  verifyBlobsRemembered: 131_072,

  /** Damages that a report of verify lists; more are counted. */
  verifyDamagesListed: 10_000,

  /** Between two reports of progress: what a person can follow. */
  progressIntervalMs: 200,

  /** Chunks of one publish whose ids are remembered, so that equal ones are stored once: 16 GiB of distinct chunks, 25 MB of memory. */
  publishIdsRemembered: 131_072,

  /** Entries in a chunk-map node: 512 chunks of 128 KiB are 64 MiB; a node is about 16 KiB when sealed. */
  mapNodeEntries: 512,

  /** Map nodes that a search for data or holes looks through before other work gets its turn: about a millisecond. */
  mapNodesPerTurn: 256,

  /** Runs of pages that such a search looks at in a turn: each may be a system call. */
  pageRunsPerTurn: 512,

  /** Longest blob we open: guards memory against a forged length before authentication. */
  blobBytesMax: 64 * 1024 * 1024,

  /** Derived pack keys that a thread keeps: deriving one costs 20 us, and neighbouring chunks share packs. */
  packKeysCached: 256,

  /** Jobs that wait for a codec thread, of all priorities: what 256 waiting kernel requests, replay and a pack in the making can ask for at once, with room. */
  codecQueueJobs: 4096,

  /** Longest object that is read in one piece: four packs. Guards memory against a store that answers without end. */
  wholeObjectBytesMax: 128 * 1024 * 1024,

  /** What a directory store reads of a file at a time when its content is wanted in pieces. */
  storeReadPieceBytes: 256 * 1024,

  /** Connections to a distant store: what a daemon's fetches and a publish need at once, with some room. */
  storeConnections: 24,

  /** How long connecting may take, and how long nothing may come or go, before a request is given up. */
  storeConnectMs: 5_000,
  storeIdleMs: 20_000,

  /** Times that a web server may say that an object is elsewhere, and servers that it may name. */
  httpRedirects: 5,
  httpOrigins: 4,

  /** From a web server that sends whole objects when asked for a range, ranges are taken that end before this. */
  httpUnrangedBytesMax: 1024 * 1024,

  /** Longest answer of a web server that is not an object, and of which nothing is wanted but the connection. */
  httpMessageBytesMax: 64 * 1024,

  /** Objects of a web server whose validators are remembered, the latest ones: 3 MB of memory. */
  httpValidatorsRemembered: 16_384,

  /** Longest log entry (commit or lease) we read. */
  logEntryBytesMax: 64 * 1024,

  /** Times that appending to a VM's log starts over because another host was faster; each loss means that somebody else succeeded. */
  logAppendAttempts: 16,

  /** Positions of a log that are asked for at once where a store cannot list: hides its round trips. */
  logProbesInFlight: 8,

  /** Names or branches that are read from the store at once while listing them. */
  recordReadsInFlight: 8,

  /** Inodes in one VM directory: the manifest is held in memory, about 0.4 KiB each as text and 2 KiB while it is decoded. */
  manifestInodesMax: 100_000,

  /** Longest file name, as in Linux. */
  fileNameBytesMax: 255,

  /** Largest file: 2^53 - 1 would be exact in JavaScript; 8 EiB is Linux's own limit. */
  fileBytesMax: 2 ** 50,

  /** Decoded chunks kept in memory by one daemon. */
  memoryCacheBytes: 16 * 1024 * 1024,

  /** Decoded chunk-map nodes kept in memory by one daemon. */
  mapCacheBytes: 16 * 1024 * 1024,

  /** Sealed chunks kept on this host's disk, shared by all VMs. */
  localCacheBytes: 20 * 1024 * 1024 * 1024,

  /** What pins may take of the local cache: what is not pinned always has the rest. Their entries are held in memory: 100 bytes each. */
  cachePinnedShare: 0.75,
  cachePinnedEntries: 1_000_000,

  /** How long a publish may take over moving the VM's pin: to walk its chunk map, which is on this host as a rule. */
  pinMoveMs: 10_000,

  /** Store requests that one daemon has under way at once; `demandReserved` of them only ever serve demand. */
  storeRequestsInFlight: 16,
  storeRequestsReservedForDemand: 4,

  /** Background requests at once while no demand is under way: enough to fill a link that was not measured yet. */
  storeRequestsBackground: 4,

  /** Background requests at once while demand is under way: they share its link, and progress must not end either. */
  storeRequestsBackgroundDuringDemand: 1,

  /** How long after a demand the next is expected: a guest touches memory again as soon as it has what it waited for. */
  demandLingerMs: 25,

  /** How long a manifest may take that should be in the local cache: a mount without the store is refused then. */
  localManifestMs: 5_000,

  /** First and longest pause between two probes of a store that does not answer. */
  storeRetryMs: 250,
  storeRetryMsMax: 5_000,

  /** Keys in one answer to a listing and in one request to delete: the most that S3 takes. */
  s3KeysPerListing: 1000,
  s3KeysPerDeletion: 1000,

  /** Longest answer of S3 that is not an object: a listing of 1000 keys has 300 KB. */
  s3MessageBytesMax: 8 * 1024 * 1024,

  /** What is hashed of an upload before other work gets its turn: about a millisecond. */
  s3HashStepBytes: 1024 * 1024,

  /**
   * How often a command, or a publish, asks a store that does not answer before it gives up: about 2 seconds, and 7 for writes
   * and for stores that have answered before. Fetches of a mount have no such limit.
   */
  storeReadAttempts: 4,
  storeWriteAttempts: 6,

  /** First and longest pause before a request is made again whose answer was lost, while others are answered. */
  requestRetryMs: 10,
  requestRetryMsMax: 1_000,

  /** Failures in a row, of any requests, after which the store is taken to be away: everybody then waits for one probe. */
  storeFailuresBeforeOutage: 4,

  /** Answers about one blob that did not verify before it counts as damaged in the store: they may have been damaged on their way. */
  damagedAnswersMax: 4,

  /**
   * A request is given up that brings less than `progressBytes` in a time worked out from what the link was like, between
   * `tryMs` (a store may take a second over a request) and `tryMsMax` (also while nothing is known); when it happens
   * again the time doubles, up to `tryMsLongest`.
   */
  storePatience: { tryMs: 1_000, tryMsMax: 15_000, tryMsLongest: 120_000, progressBytes: 4096 },

  /** Answers from which the link is estimated; what one needs to tell its bandwidth; demands whose times are kept. */
  linkSamples: 32,
  linkRateSample: { bytesMin: 128 * 1024, shortBytesMin: 16 * 1024, shortMsMin: 100 },
  linkDemandSamples: 128,
  linkDemandSamplesMin: 16,

  /** A demand is slow when it takes so much longer than nearly all did, but not before so long: on a fast link timers are as slow. */
  hedgeDelayMsMin: 5,
  hedgeDelayFactor: 1.1,

  /** How much of a second a cap on bandwidth may be used up at once. */
  capBurstSeconds: 0.25,

  /** Second requests for slow demands, as a share of the first ones; and how many may be saved up. */
  hedgeShare: 0.05,
  hedgesSaved: 4,

  /**
   * One warm request, until the link is known: large enough that requests per byte vanish, small enough that demand is not
   * long behind it. Then four times what the link holds, and at least `Ms` of its time, within bounds: `Max` also bounds
   * memory.
   */
  warmRangeBytes: 1024 * 1024,
  warmRangeMsMin: 20,
  warmRangeBytesMin: 256 * 1024,
  warmRangeBytesMax: 4 * 1024 * 1024,

  /**
   * One request of a replay, beside which a guest makes demands: half of what the link holds, at least so much of its time (a
   * request costs a millisecond of processor time), and at least about a chunk; and before the link is known.
   */
  replayRange: { bytesUnknown: 256 * 1024, bytesMin: 32 * 1024, msMin: 4 },

  /**
   * Lookaside places: how long one may take over a blob before it counts as failed; after how many look-ups it is judged
   * by what they saved; how long one that does not pay is left alone; and what is remembered of the packs that it lacks.
   */
  tierTryMs: 5_000,
  tierLookUpsJudged: 64,
  tierPauseMs: 60_000,
  tierPacksRemembered: 65_536,
  tierMemoryMs: 10 * 60_000,

  /** Look-ups in lookaside places that are under way at once; each holds a sealed and an open chunk. */
  tierLookUpsInFlight: 8,

  /** A gap between two wanted blobs that is cheaper to fetch than another request. */
  warmGapBytes: 64 * 1024,

  /** Neighbours that are wanted urgently at once come with one request of at most this; the gap counts, since somebody waits. */
  demandRangeBytes: 1024 * 1024,
  demandGapBytes: 4 * 1024,

  /** Chunks among which warming looks for neighbours of the one that is wanted next. */
  warmLookAheadChunks: 512,

  /** Files up to this size are device states and configurations, which a resume reads whole whatever the guest does. */
  warmSmallFileBytes: 1024 * 1024,

  /** Chunks that are here and wait to be put into a lookaside place as well. */
  warmCopiesWaiting: 32,

  /** What a prediction fetches of what is wanted first, to measure a link that was not measured yet. */
  planProbeBytes: 1024 * 1024,

  /** What a resume takes until the guest runs where all is local, for predictions (docs/benchmarks.md). */
  resumeStartMs: 700,

  /** Warm ranges in memory at once, in transit or being verified. */
  warmRangesInFlight: 4,

  /** Fetched around a chunk-map node, because its neighbours are likely next; and how many such ranges are remembered. */
  mapRangeBytes: 128 * 1024,
  mapRangesKept: 8,

  /** Local cache entries being read and opened at once; each holds a sealed and an open chunk. */
  localReadsInFlight: 16,

  /** Local cache entries being written at once; a fetch waits for its turn, so that a slow disk cannot fill memory. */
  localWritesInFlight: 16,

  /** How long after this process evicted something the local cache counts as tight. */
  localCacheTightMs: 60_000,

  /** How long the local cache is left alone after a failed write, so that a full disk does not cost every read. */
  localCachePauseMs: 30_000,

  /**
   * The time of last use of a cache entry is at most this wrong, and written at most this often; how long after the use, so
   * that a resume that uses hundreds in a moment does not wait for it; and entries whose last use is remembered.
   */
  localCacheUseMs: 5 * 60_000,
  localCacheUseDelayMs: 2_000,
  localCacheUsesRemembered: 16_384,

  /** Chunks that one read of a file works on at once. */
  chunksPerRead: 16,

  /** Data files of an overlay that are open at once, beside the descriptors of sockets, packs and the hypervisor's handles. */
  overlayOpenFiles: 128,

  /** Descriptors that these leave to the rest of the process; how many are given back at once where they do not, and what stays open. */
  overlayDescriptorsLeft: 8,
  overlayDescriptorsGivenBack: 32,
  overlayOpenFilesMin: 2,

  /** Descriptors that an overlay keeps for a time when there are no others: files that are being synced at once need one each. */
  overlaySpareDescriptors: 4,

  /** Records that an overlay's journal gathers before it is written anew: bounds its size on disk and the time to open it. */
  overlayJournalBytes: 16 * 1024 * 1024,

  /**
   * Bytes at the journal's end that are kept for the records without which nothing can be flushed or published when the
   * disk is full; and for those too that give names and content up.
   */
  overlayJournalReserveBytes: 16 * 1024,
  overlayJournalRemovalBytes: 64 * 1024,

  /** Commits that an overlay remembers to have been made from it while their fate is unknown: one is the rule. */
  overlayAnnouncedCommits: 16,

  /** Where the numbering of inodes begins anew: half of what `fuse-native` can tell apart. */
  inodeNumbersRestart: 2 ** 31,

  /**
   * What is fetched ahead of a program that reads a file from start to end: at first, and after that twice as much each time up
   * to the most: a round trip of 30 ms at 1 Gb/s is 4 MiB.
   */
  streamAheadBytesMin: 1024 * 1024,
  streamAheadBytesMax: 4 * 1024 * 1024,

  /** Files that are open through one mount at once. */
  openHandles: 65_536,

  /** What one copy_file_range copies of data before its caller has to ask again, and how much of it in one turn; holes cost nothing. */
  copyBytes: 4 * 1024 * 1024,
  copyStepBytes: 1024 * 1024,

  /** Calls of copy_file_range under way at once: each holds a step in memory, perhaps until the store answers. */
  copiesInFlight: 16,

  /**
   * Changes of names that a worker remembers of the one before it, by request: each of its threads can have made one
   * that the kernel was not told of.
   */
  requestsRecalled: 1024,

  /** Names of one inode, and bytes of a symbolic link and of extended attributes (one value; all of an inode), as in Linux and ext4. */
  linkCountMax: 65_000,
  symlinkTargetBytesMax: 4095,
  extendedAttributeBytesMax: 64 * 1024,
  extendedAttributesBytesMax: 64 * 1024,

  /** Pieces of files, 128 KiB each, that threads other than the file system's can read: 2 GiB with 1 MiB of memory. A power of two. */
  localReadWindows: 16_384,

  /** Threads of one mount that answer reads of local data, each about 8 MB: one core is left to whoever reads. The first runs always, others while there is a crowd. */
  kernelServingThreads: Math.max(1, Math.min(4, availableParallelism() - 1)),

  /** Kernel requests that may wait for the store at once; more are answered when others finish. */
  kernelRequestsWaiting: 256,

  /** Memory that requests may hold while they wait; then no more are taken from the kernel until some are answered. */
  kernelBytesWaiting: 256 * 1024 * 1024,

  /** Longest line that QEMU may send over QMP: its answers are a few kilobytes. */
  qmpLineBytesMax: 1024 * 1024,

  /** How much of a hypervisor's log an error reads, and how many of its lines it shows. */
  hypervisorLogTailBytes: 4096,
  hypervisorLogTailLines: 8,

  /** Reads of a saved device state that are under way at once when resuming: hides round trips of a store. */
  savedStateReadsInFlight: 8,

  /**
   * What is fetched around demands while their link idles. The first piece on each side, both of which compressed are about
   * what 100 Mb/s carry in a round trip of 20 ms; then twice as much each time, up to the most, for so many pieces around a
   * demand; around so many demands. It begins about as long after the demand as a link of 100 Mb/s needs for its chunk, or a
   * quarter of a shorter round trip.
   */
  surroundings: {
    ...{ pieceBytes: 256 * 1024, pieceBytesMax: 2 * 1024 * 1024, piecesMax: 10, piecesInFlight: 3 },
    ...{ centres: 16, delayMs: 5 },
  },

  /**
   * What is opened of the local cache for one read-ahead; one that needs more is refused as if it were not local. A
   * hypervisor's fault reads ahead by a huge page, of which the guest soon wants a few pages: opening all of it made a
   * resume open four times as many chunks as it touched (docs/benchmarks.md). Programs read ahead by less than this.
   */
  openBytesAhead: 512 * 1024,

  /**
   * Chunks that a trace names: 8 GiB of 128 KiB, more than a resume touches, and 130 KiB to fetch. Files that they belong
   * to, of those that a hypervisor opens.
   */
  traceTouches: 65_536,
  traceFiles: 1024,

  /** Longest trace that is read: four times what the most touches take, of paths of usual length. Guards memory. */
  traceBytesMax: 1024 * 1024,

  /** Touches later than this are the guest's daily life and not its resume; a slow link needs minutes for one. */
  traceDurationMs: 10 * 60_000,

  /** Resumes that a trace remembers of each chunk, a bit each: part of the format. */
  traceResumes: 8,

  /** How long a suspend or unmount waits for its trace to be stored. */
  traceWriteTimeoutMs: 5_000,

  /** Traces of a VM that stay in the store: to look at, and for readers that found one while it was replaced. */
  tracesKept: 8,

  /** Times that writing a trace starts over because another host wrote one; after that it is dropped: it is only advice. */
  traceWriteAttempts: 4,

  /**
   * What a publish may store again of chunks that did not change, to have them beside others that a resume wants: as a
   * part of those that it stores anyway. Stored bytes stay close to what changed.
   */
  layoutRewriteFraction: 0.05,

  /**
   * A delta is stored with a chunk that changed: of at most this part of its sealed bytes; and of all that a publish stores of
   * chunks at most such a part for deltas, once there were so many bytes of them.
   */
  deltaBytesFraction: 1 / 4,
  deltaBudgetFraction: 1 / 12,
  deltaBudgetFreeBytes: 64 * 1024,

  /** Deltas that an index names, those of earlier versions included: the newest ones. */
  deltaIndexEntries: 4096,

  /** What is fetched around a delta because its neighbours may be wanted: at most, and while the link is not known. */
  deltaSpare: { bytesMax: 32 * 1024, bytesUnknown: 8 * 1024 },

  /** How many deltas may be applied one after the other, until a base is at hand. */
  deltaChainMax: 8,

  /** Chunks that are being made with deltas at once; each holds three open chunks. */
  deltasInFlight: 8,

  /** How long chunks wait for the index of deltas, which is asked for when a fetcher begins. */
  deltaIndexMs: 500,

  /** How long making a chunk may take before the chunk itself is fetched, whatever became of its delta. */
  deltaTryMs: 5_000,

  /** What making a chunk with a delta takes of time, next to which it must save as much on the link. */
  deltaMs: 2,

  /**
   * A chunk counts as quiet when it was not written for this long, up to twice as long. Pages that are changed through a
   * mapping reach the daemon when the kernel writes them back, some 35 seconds later and as often again: less than that
   * would take the pages that change all the time for quiet ones.
   */
  trickleQuietMs: 60_000,

  /** What is stored ahead with one pack, so that uploads come in short pieces; less than the least waits for more. */
  trickleRoundBytes: 16 * 1024 * 1024,
  trickleRoundBytesMin: 2 * 1024 * 1024,

  /** Chunks that were stored ahead and are remembered, so that equal ones are stored once. */
  trickleIdsRemembered: 131_072,

  /** Before a fill that failed goes on: longer each time that nothing came. */
  fillRetryMs: { first: 1_000, most: 60_000 },

  /** How often a fill looks whether all is still here, and brings what was evicted meanwhile, before it gives up. */
  fillChecks: 4,

  /** Waits of programs that are recorded one by one, about 300 bytes each; and files that are told apart in their sums. */
  stallsRecorded: 2048,
  stallFiles: 256,

  /** How often the record of waits is written down, if there were any. */
  stallsWrittenEveryMs: 15_000,

  /** When a replay is held back: so many touches of chunks that the trace does not name, and so few others to each of them. */
  replayDoubt: { untracedMin: 6, tracedPerUntraced: 1 },

  /** Bytes of replayed chunks that are on this host and wait for the kernel to read them. */
  replayLocalBytes: 32 * 1024 * 1024,

  /** Chunks that the kernel reads at once for a replay: what it has begun to read, demand waits for. */
  replayBatchChunks: 16,

  /**
   * Of so many chunks that a replay would bring into the page cache, one is left out, and so is at least `replayProbesMin` and at most
   * `replayProbesMax`: whether the guest asks for these tells how good the trace still is.
   */
  replayChunksPerProbe: 32,
  replayProbesMin: 4,
  replayProbesMax: 64,

  /** Codec threads: sealing and opening chunks off the event loop. */
  codecThreads: 2,
} as const;
