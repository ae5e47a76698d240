import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import { LimitExceeded, limits } from '../../base/index.js';
import { DamagedObject } from '../errors.js';
import type { SealingSecrets } from '../format/key-schedule.js';
import { Sealer } from '../format/sealer.js';
import type { BlobKind, BlobReference } from '../types.js';
import type { SealJob, SealOutcome, ThreadJob, ThreadResult } from './messages.js';
import { PriorityQueue, withPriority, type CodecPriority } from './priority-queue.js';
import { sealUnlessKnown } from './seal-unless-known.js';

/**
 * Seals and opens blobs off the event loop. Threads start with the first job that needs one and end with the pool.
 *
 * At most `limits.codecQueueJobs` jobs wait: more are refused with `LimitExceeded`. A producer should keep about
 * `jobsToKeepBusy` jobs under way; more only hold memory.
 *
 * Closing is idempotent and finishes the jobs that were begun.
 */
export interface CodecPool extends AsyncDisposable {
  readonly jobsToKeepBusy: number;

  /**
   * Zero check, identify, compare with `unlessId`, compress, seal; behind every waiting `open`.
   * A `plaintext` that covers the whole of its buffer is transferred: the caller's view is empty afterwards. One on a
   * SharedArrayBuffer is read in place and must not change meanwhile. Any other is copied.
   */
  seal(job: SealJob): Promise<SealOutcome>;

  /**
   * The verified plaintext, in memory of its own; throws `DamagedObject`. `sealed` stays the caller's and must not
   * change before the call returns its promise. Jobs without a priority are demand.
   */
  open(
    sealed: Uint8Array,
    reference: BlobReference,
    kind: BlobKind,
    options?: { readonly priority?: CodecPriority },
  ): Promise<Uint8Array>;
}

const threadFile = fileURLToPath(new URL('worker.js', import.meta.url));

/** Map nodes and manifests up to this size are worked on in place: the way to a thread and back costs more. */
const inPlaceBytesMax = 32 * 1024;

export function createCodecPool(
  secrets: SealingSecrets,
  options: { readonly threads?: number } = {},
): CodecPool {
  return new PiscinaCodecPool(secrets, options.threads ?? limits.codecThreads);
}

class PiscinaCodecPool implements CodecPool {
  readonly jobsToKeepBusy: number;
  readonly #secrets: SealingSecrets;
  readonly #threads: number;
  #inPlace: Sealer | undefined;
  #pool: Piscina<ThreadJob, ThreadResult> | undefined;
  #jobs = 0;
  #closing: Promise<void> | undefined;

  constructor(secrets: SealingSecrets, threads: number) {
    this.#secrets = { repositoryId: secrets.repositoryId, encryptionKey: secrets.encryptionKey };
    this.#threads = threads;
    this.jobsToKeepBusy = 2 * threads;
  }

  async seal(job: SealJob): Promise<SealOutcome> {
    if (worksInPlace(job.kind, job.plaintext)) return sealUnlessKnown(this.#sealer(), job);
    const plaintext = transferableView(job.plaintext);
    const result = await this.#run({ ...job, plaintext, work: 'seal' }, plaintext, 'background');
    if (result.outcome === 'opened' || result.outcome === 'damaged')
      throw new Error(`sealing: ${result.outcome}`);
    return result;
  }

  async open(
    sealed: Uint8Array,
    reference: BlobReference,
    kind: BlobKind,
    options: { readonly priority?: CodecPriority } = {},
  ): Promise<Uint8Array> {
    if (worksInPlace(kind, sealed)) return this.#sealer().open(sealed, reference, kind);
    const copy = isShared(sealed) ? sealed : Uint8Array.from(sealed);
    const result = await this.#run(
      { work: 'open', sealed: copy, reference, kind },
      copy,
      options.priority ?? 'demand',
    );
    if (result.outcome === 'damaged') throw new DamagedObject(result.key, result.what);
    if (result.outcome !== 'opened') throw new Error(`opening: ${result.outcome}`);
    return result.plaintext;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#pool?.close() ?? Promise.resolve();
    await this.#closing;
  }

  async #run(job: ThreadJob, bytes: Uint8Array, priority: CodecPriority): Promise<ThreadResult> {
    if (this.#closing !== undefined) throw new Error('the codec pool is closed');
    if (this.#jobs >= limits.codecQueueJobs) {
      throw new LimitExceeded(`More than ${limits.codecQueueJobs} blobs wait for a codec thread.`);
    }
    this.#jobs += 1;
    try {
      const transferList = bytes.buffer instanceof ArrayBuffer ? [bytes.buffer] : [];
      return await this.#startedPool().run(withPriority(job, priority), { transferList });
    } finally {
      this.#jobs -= 1;
    }
  }

  #startedPool(): Piscina<ThreadJob, ThreadResult> {
    this.#pool ??= new Piscina<ThreadJob, ThreadResult>({
      filename: threadFile,
      minThreads: this.#threads,
      maxThreads: this.#threads,
      taskQueue: new PriorityQueue(),
      workerData: this.#secrets,
      recordTiming: false,
      execArgv: [],
    });
    return this.#pool;
  }

  #sealer(): Sealer {
    this.#inPlace ??= new Sealer(this.#secrets);
    return this.#inPlace;
  }
}

function worksInPlace(kind: BlobKind, bytes: Uint8Array): boolean {
  return kind !== 'chunk' && bytes.length <= inPlaceBytesMax;
}

function isShared(bytes: Uint8Array): boolean {
  return bytes.buffer instanceof SharedArrayBuffer;
}

/** Sending a view of a larger buffer would send, or take away, all of it. */
function transferableView(bytes: Uint8Array): Uint8Array {
  return isShared(bytes) || bytes.byteLength === bytes.buffer.byteLength ? bytes : Uint8Array.from(bytes);
}
