import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { Piscina } from 'piscina';
import { limits, programPath } from '../../base/index.js';
import { DamagedObject } from '../errors.js';
import type { SealingSecrets } from '../format/key-schedule.js';
import { Sealer } from '../format/sealer.js';
import type { BlobKind, BlobReference } from '../types.js';
import type {
  KeepJob,
  KeepOutcome,
  OpenFileJob,
  SealJob,
  SealOutcome,
  ThreadJob,
  ThreadResult,
} from './messages.js';
import { PriorityGate, type CodecPriority } from './priority-gate.js';
import { sealUnlessKnown } from './seal-unless-known.js';

/**
 * Seals and opens blobs off the event loop. Threads start with the first job that needs one, or when told; they end with
 * the pool.
 *
 * At most `limits.codecQueueJobs` jobs wait: more are refused with `LimitExceeded`. A producer should keep about
 * `jobsToKeepBusy` jobs under way; more only hold memory.
 *
 * Closing is idempotent and finishes the jobs that were begun.
 */
export interface CodecPool extends AsyncDisposable {
  readonly jobsToKeepBusy: number;

  /** Starts the threads, for which the first job would wait for the better part of 100 ms. */
  start(): void;

  /**
   * Zero check, identify, compare with `unlessId`, compress, seal; background unless a priority is given.
   * A `plaintext` (or `base`) that covers the whole of its buffer is handed over: the caller's view is empty afterwards. One on a
   * SharedArrayBuffer is read in place; any other is copied. It must not change until the promise settles.
   */
  seal(job: SealJob, options?: { readonly priority?: CodecPriority }): Promise<SealOutcome>;

  /**
   * The verified plaintext, in memory of its own; throws `DamagedObject`. `sealed` stays the caller's and must not
   * change until the promise settles. Jobs without a priority are demand.
   */
  open(
    sealed: Uint8Array,
    reference: BlobReference,
    kind: BlobKind,
    options?: { readonly priority?: CodecPriority },
  ): Promise<Uint8Array>;

  /**
   * The verified plaintext of a chunk whose sealed bytes lie in a local file, read by the thread that opens them: neither
   * the event loop nor its memory see them. Undefined where the file is not there, cannot be read, or does not hold this
   * chunk; why, is for the caller to find out.
   */
  openFile(
    job: OpenFileJob,
    options?: { readonly priority?: CodecPriority },
  ): Promise<Uint8Array | undefined>;

  /**
   * Writes sealed bytes to files, each in one step and none that is not authentic; an outcome for each, in their order. For many
   * that nobody waits for: they cost this thread one message, and are not decompressed. The bytes are handed over: the
   * caller's views are empty afterwards.
   */
  keep(
    blobs: readonly KeepJob[],
    options?: { readonly priority?: CodecPriority },
  ): Promise<readonly KeepOutcome[]>;

  /** Which of the files are there: on a cold disk each look is a part of a millisecond, which is the thread's. */
  look(
    paths: readonly string[],
    options?: { readonly priority?: CodecPriority },
  ): Promise<readonly boolean[]>;
}

/** How long closing waits for threads that are still loading. */
const loadingMsMax = 5_000;

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
  readonly #gate: PriorityGate;
  #inPlace: Sealer | undefined;
  #pool: Piscina<ThreadJob, ThreadResult> | undefined;
  /** Resolves when all threads have loaded their program, or one cannot. */
  #loaded: Promise<void> = Promise.resolve();
  #closing: Promise<void> | undefined;

  constructor(secrets: SealingSecrets, threads: number) {
    this.#secrets = { repositoryId: secrets.repositoryId, encryptionKey: secrets.encryptionKey };
    this.#threads = threads;
    this.#gate = new PriorityGate({ width: threads, waitingMax: limits.codecQueueJobs });
    this.jobsToKeepBusy = 2 * threads;
  }

  start(): void {
    if (this.#closing === undefined) this.#startedPool();
  }

  async seal(job: SealJob, options: { readonly priority?: CodecPriority } = {}): Promise<SealOutcome> {
    if (worksInPlace(job.kind, job.plaintext)) return sealUnlessKnown(this.#sealer(), job);
    const result = await this.#run(options.priority ?? 'background', () => {
      const sendable = ownMemory(job.plaintext);
      const base = job.base === undefined ? undefined : ownMemory(job.base);
      const transfer = [sendable, ...(base === undefined ? [] : [base])].flatMap(handedOver);
      return { job: { ...job, work: 'seal', plaintext: sendable, base }, transfer };
    });
    switch (result.outcome) {
      case 'zero':
      case 'unchanged':
      case 'sealed':
        return result;
      default:
        throw new Error(`sealing ended with ${result.outcome}`);
    }
  }

  async open(
    sealed: Uint8Array,
    reference: BlobReference,
    kind: BlobKind,
    options: { readonly priority?: CodecPriority } = {},
  ): Promise<Uint8Array> {
    if (worksInPlace(kind, sealed)) return this.#sealer().open(sealed, reference, kind);
    const result = await this.#run(options.priority ?? 'demand', () => {
      const sendable = isShared(sealed) ? sealed : new Uint8Array(sealed);
      return { job: { work: 'open', sealed: sendable, reference, kind }, transfer: handedOver(sendable) };
    });
    if (result.outcome === 'damaged') throw new DamagedObject(result.key, result.what);
    if (result.outcome !== 'opened') throw new Error(`opening ended with ${result.outcome}`);
    return result.plaintext;
  }

  async openFile(
    job: OpenFileJob,
    options: { readonly priority?: CodecPriority } = {},
  ): Promise<Uint8Array | undefined> {
    const result = await this.#run(options.priority ?? 'demand', () => ({
      job: { ...job, work: 'openFile' },
      transfer: [],
    }));
    return result.outcome === 'opened' ? result.plaintext : undefined;
  }

  async keep(
    blobs: readonly KeepJob[],
    options: { readonly priority?: CodecPriority } = {},
  ): Promise<readonly KeepOutcome[]> {
    const result = await this.#run(options.priority ?? 'background', () => {
      const sendable = blobs.map((blob) => ({ ...blob, sealed: ownMemory(blob.sealed) }));
      const transfer = sendable.flatMap(({ sealed }) => handedOver(sealed));
      return { job: { work: 'keep', blobs: sendable }, transfer };
    });
    if (result.outcome !== 'keeping') throw new Error(`keeping ended with ${result.outcome}`);
    return result.blobs;
  }

  async look(
    paths: readonly string[],
    options: { readonly priority?: CodecPriority } = {},
  ): Promise<readonly boolean[]> {
    const result = await this.#run(options.priority ?? 'background', () => ({
      job: { work: 'look', paths },
      transfer: [],
    }));
    if (result.outcome !== 'looked') throw new Error(`looking ended with ${result.outcome}`);
    return result.areThere;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  /** `prepare` is called when a thread is free: until then no copy is made and nothing is handed over. */
  async #run(
    priority: CodecPriority,
    prepare: () => { readonly job: ThreadJob; readonly transfer: ArrayBuffer[] },
  ): Promise<ThreadResult> {
    if (this.#closing !== undefined) throw new Error('the codec pool is closed');
    return this.#gate.run(priority, () => {
      const { job, transfer } = prepare();
      return this.#startedPool().run(job, { transferList: transfer });
    });
  }

  async #close(): Promise<void> {
    await this.#gate.idle();
    // Node 20 aborts the process where a thread is ended while it loads a module (v8::Module::IsGraphAsync).
    await Promise.race([this.#loaded, sleep(loadingMsMax, undefined, { ref: false })]);
    await this.#pool?.destroy();
  }

  /** Piscina never has more jobs than threads, so its own queue stays empty. */
  #startedPool(): Piscina<ThreadJob, ThreadResult> {
    // V8 cannot be asked to collect from JavaScript otherwise. Flags are the process's, so they are set before a thread begins.
    setFlagsFromString('--expose-gc');
    this.#pool ??= this.#newPool();
    return this.#pool;
  }

  #newPool(): Piscina<ThreadJob, ThreadResult> {
    const pool = new Piscina<ThreadJob, ThreadResult>({
      filename: programPath('codec-thread'),
      minThreads: this.#threads,
      maxThreads: this.#threads,
      workerData: this.#secrets,
      recordTiming: false,
      execArgv: [],
    });
    this.#loaded = new Promise((resolve) => {
      let loading = this.#threads;
      pool.on('workerCreate', () => {
        loading -= 1;
        if (loading === 0) resolve();
      });
      pool.once('error', () => resolve());
    });
    return pool;
  }

  #sealer(): Sealer {
    this.#inPlace ??= new Sealer(this.#secrets);
    return this.#inPlace;
  }
}

function worksInPlace(kind: BlobKind, bytes: Uint8Array): boolean {
  return kind !== 'chunk' && bytes.length <= inPlaceBytesMax;
}

/** Shared memory is not handed over: both sides have it. */
function handedOver({ buffer }: Uint8Array): ArrayBuffer[] {
  return buffer instanceof ArrayBuffer ? [buffer] : [];
}

/** The bytes as they are where nothing else lies in their memory, or it is shared; else a copy. */
function ownMemory(bytes: Uint8Array): Uint8Array {
  const coversBuffer = bytes.byteLength === bytes.buffer.byteLength;
  return coversBuffer || isShared(bytes) ? bytes : new Uint8Array(bytes);
}

function isShared(bytes: Uint8Array): boolean {
  return bytes.buffer instanceof SharedArrayBuffer;
}
