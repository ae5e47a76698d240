import { Cancelled, limits, type ProgressListener } from '../base/index.js';
import type { Fetcher } from '../fetch/index.js';
import type { BlobReference } from '../repo/index.js';
import { warmOrder, type WantedChunk } from './order.js';
import type { StageResult, WarmRequest, WarmResult, WarmStage, WarmVersion } from './types.js';

export interface WarmOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: ProgressListener;
  /** Puts what it makes local into a lookaside place; the caller closes it. It should look into the version's own cache first. */
  readonly lookaside?: Fetcher | undefined;
}

type Counts = { -readonly [Count in keyof Omit<StageResult, 'stage'>]: number };

/**
 * Makes chunks of a version local, in the background class: demand always goes first. Safe to interrupt and to repeat: what is
 * local already costs nothing. Progress counts plaintext bytes of chunks that are not zero.
 *
 * A deadline that passes is no error; `Cancelled` is for `signal` alone.
 */
export async function warmVersion(
  version: WarmVersion,
  request: WarmRequest,
  options: WarmOptions,
): Promise<WarmResult> {
  const startedMs = performance.now();
  const time = new WarmingTime(request.deadlineAtMs, options.signal);
  const work = new Work(version, request, options, time.signal);
  try {
    const ended = await time.endOf(work.run());
    return { ...work.result(), ended, seconds: (performance.now() - startedMs) / 1000 };
  } finally {
    time.end();
  }
}

/** Ends with the caller's signal, or at the deadline. */
class WarmingTime {
  readonly #over = new AbortController();
  readonly #callers: AbortSignal | undefined;
  readonly #timer: NodeJS.Timeout | undefined;

  constructor(deadlineAtMs: number | undefined, callers: AbortSignal | undefined) {
    this.#callers = callers;
    if (deadlineAtMs === undefined) return;
    const leftMs = deadlineAtMs - Date.now();
    if (leftMs > 0) this.#timer = setTimeout(() => this.#over.abort(), leftMs);
    else this.#over.abort();
  }

  get signal(): AbortSignal {
    return this.#callers === undefined
      ? this.#over.signal
      : AbortSignal.any([this.#callers, this.#over.signal]);
  }

  async endOf(work: Promise<void>): Promise<WarmResult['ended']> {
    try {
      await work;
      return 'complete';
    } catch (error) {
      const isDeadline = this.#over.signal.aborted && this.#callers?.aborted !== true;
      if (isDeadline && error instanceof Cancelled) return 'deadline';
      throw error;
    }
  }

  end(): void {
    clearTimeout(this.#timer);
  }
}

class Work {
  readonly #version: WarmVersion;
  readonly #request: WarmRequest;
  readonly #options: WarmOptions;
  readonly #signal: AbortSignal;
  readonly #counts = new Map<WarmStage, Counts>();
  /** On their way, by what the fetcher was told. */
  readonly #wanted = new Map<BlobReference, WantedChunk>();
  readonly #copies = new Set<Promise<void>>();
  #copyError: unknown;
  #totalBytes: number | undefined;
  #doneBytes = 0;

  constructor(version: WarmVersion, request: WarmRequest, options: WarmOptions, signal: AbortSignal) {
    this.#version = version;
    this.#request = request;
    this.#options = options;
    this.#signal = signal;
  }

  async run(): Promise<void> {
    try {
      await this.#version.fetcher.warmChunks(this.#references(await this.#order()), {
        fetchClass: 'background',
        signal: this.#signal,
        onChunk: (reference, fetched) => this.#arrived(reference, fetched),
      });
    } finally {
      await Promise.all(this.#copies);
    }
    if (this.#copyError !== undefined) throw this.#copyError as Error;
  }

  result(): Omit<WarmResult, 'ended' | 'seconds'> {
    const stages = [...this.#counts].map(([stage, counts]) => ({ stage, ...counts }));
    const sum = (count: keyof Counts): number => stages.reduce((total, stage) => total + stage[count], 0);
    return {
      chunks: sum('chunks'),
      fetchedChunks: sum('fetchedChunks'),
      fetchedBytes: sum('fetchedBytes'),
      stages,
    };
  }

  /** What a trace names is not much, and known beforehand. */
  async #order(): Promise<Iterable<WantedChunk> | AsyncIterable<WantedChunk>> {
    const { lookaside } = this.#options;
    const { scope } = this.#request;
    // The map nodes that this loads are to be there too.
    const version = lookaside === undefined ? this.#version : { ...this.#version, fetcher: lookaside };
    const order = warmOrder(version, scope, { fetchClass: 'background', signal: this.#signal });
    if (scope.kind !== 'working-set' || version.trace === undefined) return order;
    const chunks: WantedChunk[] = [];
    for await (const chunk of order) chunks.push(chunk);
    this.#totalBytes = chunks.length * version.chunkBytes;
    return chunks;
  }

  /** No faster than they can be put elsewhere. */
  async *#references(
    order: Iterable<WantedChunk> | AsyncIterable<WantedChunk>,
  ): AsyncGenerator<BlobReference, void> {
    const { lookaside } = this.#options;
    for await (const chunk of order) {
      while (this.#copies.size >= limits.warmCopiesWaiting) await Promise.race(this.#copies);
      if (this.#copyError !== undefined) throw this.#copyError as Error;
      if (lookaside?.isLocal(chunk.reference) === true) {
        this.#count(chunk, false);
        continue;
      }
      this.#wanted.set(chunk.reference, chunk);
      yield chunk.reference;
    }
  }

  #arrived(reference: BlobReference, fetched: boolean): void {
    const chunk = this.#wanted.get(reference);
    this.#wanted.delete(reference);
    if (chunk === undefined) return;
    const { lookaside } = this.#options;
    if (lookaside === undefined) this.#count(chunk, fetched);
    else this.#copy(lookaside, chunk);
  }

  #copy(lookaside: Fetcher, chunk: WantedChunk): void {
    const copy = lookaside
      .warmChunk(chunk.reference, { fetchClass: 'background', signal: this.#signal })
      .then(() => this.#count(chunk, true))
      .catch((error: unknown) => (this.#copyError ??= error))
      .then(() => void this.#copies.delete(copy));
    this.#copies.add(copy);
  }

  #count({ stage, path, reference }: WantedChunk, fetched: boolean): void {
    const counts = this.#counts.get(stage) ?? { chunks: 0, fetchedChunks: 0, fetchedBytes: 0 };
    this.#counts.set(stage, counts);
    counts.chunks += 1;
    if (fetched) counts.fetchedChunks += 1;
    if (fetched) counts.fetchedBytes += reference.sealedBytes;
    this.#doneBytes += this.#version.chunkBytes;
    this.#options.onProgress?.({
      doneBytes: this.#doneBytes,
      totalBytes: this.#totalBytes,
      detail: path,
    });
  }
}
