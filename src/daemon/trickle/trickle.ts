import createDebug from 'debug';
import { limits, systemClock, type Clock } from '../../base/index.js';
import type { Fetcher } from '../../fetch/index.js';
import type { QuietChunks, VmFileSystem } from '../../fs/index.js';
import {
  EarlierPacks,
  storeAhead,
  type BlobReader,
  type BlobReference,
  type Repository,
  type SourceChunk,
} from '../../repo/index.js';
import type { PackRecord } from '../pack-record.js';
import { PackNotRecorded } from './errors.js';
import { IdsStoredAhead } from './ids-stored-ahead.js';

const debug = createDebug('isr:daemon:trickle');

export interface TrickleOptions {
  /** At most so much is uploaded ahead; undefined: half of what the link takes. */
  readonly bytesPerSecond: number | undefined;
  /** Default: `limits.trickleQuietMs`. */
  readonly quietMs?: number | undefined;
  /** What is quiet waits for more until it is so much. Default: `limits.trickleRoundBytesMin`. */
  readonly roundBytesMin?: number | undefined;
}

export interface TrickleParts extends TrickleOptions {
  readonly repository: Repository;
  readonly fileSystem: Pick<VmFileSystem, 'quietChunks'>;
  readonly fetcher: Fetcher;
  /** Where a publish finds which packs there are. */
  readonly packs: Pick<PackRecord, 'read' | 'add'>;
  readonly clock?: Clock;
}

/** How far publishing ahead is. */
export interface TrickleStatus {
  /** Of what is unpublished, in whole chunks: in the store already, and not written since. */
  readonly aheadBytes: number;
  /** What was uploaded for that, and for what was written again since. */
  readonly uploadedBytes: number;
  readonly rounds: number;
  readonly isUploading: boolean;
  /** Why the last round failed; undefined if it did not. It is tried again, after `PackNotRecorded` only after a publish. */
  readonly lastError: string | undefined;
}

/**
 * Stores changed chunks that have been quiet ahead of the publish that will want them, while the VM runs. Nothing refers to
 * what it stores until a publish does, which reads everything that changed itself and takes from these packs what has exactly
 * its content. So nothing depends on it: what fails here is noted, and tried again. Where no more packs can be recorded, nothing
 * more is stored until a publish.
 *
 * Memory: see `storeAhead`, and some bytes for each chunk that was stored.
 */
export class Trickle implements AsyncDisposable {
  readonly #parts: TrickleParts;
  readonly #clock: Clock;
  readonly #quiet: QuietChunks;
  readonly #reader: BlobReader;
  #stored: IdsStoredAhead | undefined;
  #stop = new AbortController();
  #running: Promise<void>;
  #uploadedBytes = 0;
  #rounds = 0;
  #isUploading = false;
  /** No publish would find what is stored. */
  #isFutile = false;
  /** Given out, and not in the store yet. */
  #round: SourceChunk[] = [];
  #lastError: string | undefined;

  /** Begins at once. */
  constructor(parts: TrickleParts) {
    const { fetcher, fileSystem, repository } = parts;
    this.#parts = parts;
    this.#clock = parts.clock ?? systemClock;
    this.#quiet = fileSystem.quietChunks(repository.header.chunkBytes);
    this.#reader = {
      readBlob: (reference, kind, options) =>
        fetcher.readBlob(reference, kind, { ...options, fetchClass: 'background' }),
    };
    this.#running = this.#run(this.#stop.signal);
  }

  status(): TrickleStatus {
    const roundBytes = this.#round.length * this.#parts.repository.header.chunkBytes;
    return {
      aheadBytes: Math.max(0, this.#quiet.givenBytes - roundBytes),
      uploadedBytes: this.#uploadedBytes,
      rounds: this.#rounds,
      isUploading: this.#isUploading,
      lastError: this.#lastError,
    };
  }

  /**
   * Until `goOn`, nothing is under way and no pack is begun. Does not wait for the store: what is under way is cancelled, and
   * stored later. Idempotent.
   */
  async pause(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  /** `isPublished`: the packs until now have been used or given up, and are recorded no more. */
  goOn({ isPublished }: { readonly isPublished: boolean }): void {
    if (!this.#stop.signal.aborted) return;
    if (isPublished) this.#quiet.reset();
    // It asks the store with the signal that has been aborted.
    this.#stored = undefined;
    this.#isFutile = false;
    this.#stop = new AbortController();
    this.#running = this.#run(this.#stop.signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pause();
  }

  async #run(signal: AbortSignal): Promise<void> {
    const quietMs = this.#parts.quietMs ?? limits.trickleQuietMs;
    while (!this.#isFutile && (await this.#slept(quietMs, signal))) {
      this.#quiet.passPeriod();
      await this.#pass(signal);
    }
  }

  /** Stores what is quiet now. Never rejects. */
  async #pass(signal: AbortSignal): Promise<void> {
    const { chunkBytes } = this.#parts.repository.header;
    const leastBytes = this.#parts.roundBytesMin ?? limits.trickleRoundBytesMin;
    const most = Math.max(1, Math.floor(limits.trickleRoundBytes / chunkBytes));
    const least = Math.max(1, Math.floor(leastBytes / chunkBytes));
    for await (const chunk of this.#quiet.next(signal)) {
      this.#round.push(chunk);
      if (signal.aborted) break;
      if (this.#round.length >= most && !(await this.#storeRound(signal))) return;
    }
    if (this.#round.length >= least) await this.#storeRound(signal);
    this.#giveBack();
  }

  /** Answers whether to go on. */
  async #storeRound(signal: AbortSignal): Promise<boolean> {
    const startMs = performance.now();
    const storedBytes = signal.aborted ? undefined : await this.#store(this.#round, signal);
    if (storedBytes === undefined) {
      this.#giveBack();
      return false;
    }
    this.#round = [];
    const { bytesPerSecond } = this.#parts;
    const tookMs = performance.now() - startMs;
    const capMs = bytesPerSecond === undefined ? 2 * tookMs : (storedBytes / bytesPerSecond) * 1000;
    return this.#slept(Math.max(0, capMs - tookMs), signal);
  }

  #giveBack(): void {
    this.#quiet.giveBack(this.#round);
    this.#round = [];
  }

  /** Answers what was uploaded for them; undefined if it came to nothing. */
  async #store(chunks: readonly SourceChunk[], signal: AbortSignal): Promise<number | undefined> {
    const { repository, fetcher, packs } = this.#parts;
    this.#isUploading = true;
    const sealed: BlobReference[] = [];
    try {
      this.#stored ??= new IdsStoredAhead(new EarlierPacks(repository, await packs.read(), { signal }));
      const bytes = await storeAhead({
        ...{ repository, reader: this.#reader, chunks, stored: this.#stored, signal },
        onPackBegun: async (packId) => {
          if (!(await packs.add(packId, 'trickle'))) throw new PackNotRecorded();
        },
        onSealed: async (reference, kind, bytes) => {
          sealed.push(reference);
          await fetcher.keepSealed(reference, kind, bytes);
        },
      });
      for (const reference of sealed) this.#stored.add(reference);
      this.#rounds += 1;
      this.#uploadedBytes += bytes;
      this.#lastError = undefined;
      return bytes;
    } catch (error) {
      debug('a round failed: %o', error);
      this.#isFutile ||= error instanceof PackNotRecorded;
      if (!signal.aborted) this.#lastError = error instanceof Error ? error.message : String(error);
      return undefined;
    } finally {
      this.#isUploading = false;
    }
  }

  /** Answers whether it was not told to stop meanwhile. */
  async #slept(ms: number, signal: AbortSignal): Promise<boolean> {
    await this.#clock.delay(ms, signal).catch(() => undefined);
    return !signal.aborted;
  }
}
