import { LRUCache } from 'lru-cache';
import { Cancelled, limits } from '../../base/index.js';
import { ChunkMap } from '../chunk-map.js';
import { NodeCache } from '../chunk-map/node-cache.js';
import { reviseMap, type MapChange } from '../chunk-map/revise.js';
import { chunkCount } from '../chunk-map/shape.js';
import type { SealOutcome } from '../codec/messages.js';
import { encodeMapNode } from '../format/map-node.js';
import type { Repository } from '../repository.js';
import type {
  BlobId,
  BlobKind,
  BlobReader,
  BlobReference,
  ChangedRange,
  FileMap,
  PackId,
  SourceFile,
} from '../types.js';
import { inOrder } from '../in-order.js';
import type { EarlierPacks } from './earlier-packs.js';
import { PackWriter, type PackReservation } from './pack-writer.js';

export interface ContentWriterOptions {
  readonly repository: Repository;
  /** For nodes of base maps. */
  readonly reader: BlobReader;
  /** Called for every new blob before its pack is uploaded; waited for. */
  readonly onSealed:
    ((reference: BlobReference, kind: BlobKind, sealed: Uint8Array) => void | Promise<void>) | undefined;
  /** Called with the number of a file's bytes that are behind us now, repeatedly. */
  readonly onPosition: (file: SourceFile, doneBytes: number) => void;
  readonly signal: AbortSignal | undefined;
  /** Chunks that need not be stored again. */
  readonly earlierPacks: EarlierPacks;
  /** Called before a pack of chunks is uploaded; waited for. */
  readonly onPackBegun: ((packId: PackId) => Promise<void>) | undefined;
}

/** What the pipeline does next; all files pass through it one after the other, so that small ones keep it busy too. */
type Step =
  | {
      readonly step: 'seal';
      readonly file: SourceFile;
      readonly first: number;
      /** One a chunk: what the base has there. */
      readonly baseIds: readonly (BlobId | undefined)[];
    }
  | { readonly step: 'zero'; readonly file: SourceFile; readonly first: number; readonly count: number }
  | { readonly step: 'end' };

type StepResult =
  | Exclude<Step, { readonly step: 'seal' }>
  | {
      readonly step: 'sealed';
      readonly file: SourceFile;
      readonly first: number;
      readonly reservation: PackReservation;
      readonly outcomes: readonly SealOutcome[];
    };

/**
 * Writes what changed in a sequence of files: chunks into packs of their own, map nodes (and what else is sealed with
 * `writeBlob`) into others, so that one range read gets many nodes.
 *
 * Memory: `limits.publishReadsInFlight` buffers of `limits.publishReadBytes` (or one chunk, if larger) and what became
 * of them, two `PackWriter`s, `limits.mapCacheBytes` of base map nodes, `limits.publishIdsRemembered` ids.
 */
export class ContentWriter {
  readonly #options: ContentWriterOptions;
  readonly #chunkBytes: number;
  readonly #chunkPacks: PackWriter;
  readonly #nodePacks: PackWriter;
  readonly #nodes = new NodeCache();
  readonly #written = new LRUCache<BlobId, BlobReference>({ max: limits.publishIdsRemembered });
  readonly #readBuffers: SharedArrayBuffer[] = [];

  constructor(options: ContentWriterOptions) {
    const { repository, signal, onPackBegun } = options;
    this.#options = options;
    this.#chunkBytes = repository.header.chunkBytes;
    this.#chunkPacks = new PackWriter(repository.store, repository.sealer, signal, onPackBegun);
    this.#nodePacks = new PackWriter(repository.store, repository.sealer, signal);
  }

  /** Whether nothing had to be written: every chunk is zero or what the base has. */
  get isEmpty(): boolean {
    return this.#chunkPacks.isEmpty && this.#nodePacks.isEmpty;
  }

  /** Bytes of all pack objects, as far as they are complete, and of chunks in earlier packs. */
  get storedBytes(): number {
    const { usedBytes } = this.#options.earlierPacks;
    return this.#chunkPacks.storedBytes + this.#nodePacks.storedBytes + usedBytes;
  }

  /** The new maps of the files, in the same order. What they refer to is stored when `finish` has resolved. */
  async writeFiles(files: readonly SourceFile[]): Promise<readonly FileMap[]> {
    const results = inOrder(this.#steps(files), (step) => this.#run(step), limits.publishReadsInFlight);
    const maps: FileMap[] = [];
    try {
      for (const file of files) {
        maps.push(await this.#revise(file, results));
        await file.finish?.();
        this.#options.onPosition(file, file.sizeBytes);
      }
      return maps;
    } finally {
      await results.return();
    }
  }

  async writeBlob(plaintext: Uint8Array, kind: 'map-node' | 'manifest'): Promise<BlobReference> {
    const reservation = this.#nodePacks.reserve(1);
    const { packId, firstCounter: counter } = reservation;
    const plaintextBytes = plaintext.length;
    const outcome = await this.#options.repository.codec.seal({ plaintext, kind, packId, counter });
    if (outcome.outcome !== 'sealed') throw new Error(`a ${kind} cannot be ${outcome.outcome}`);
    const reference = this.#nodePacks.append(reservation, { kind, counter, plaintextBytes, ...outcome });
    await this.#options.onSealed?.(reference, kind, outcome.sealed);
    await this.#nodePacks.release(reservation);
    return reference;
  }

  /** Uploads what is left: chunks first, then nodes. */
  async finish(): Promise<void> {
    await this.#chunkPacks.finish();
    await this.#nodePacks.finish();
  }

  /** Waits until nothing is under way, however `writeFiles` and `finish` ended. */
  async settle(): Promise<void> {
    await Promise.all([this.#chunkPacks.settle(), this.#nodePacks.settle()]);
  }

  #revise(file: SourceFile, results: AsyncGenerator<StepResult, void>): Promise<FileMap> {
    return reviseMap({
      base: file.base,
      sizeBytes: file.sizeBytes,
      chunkBytes: this.#chunkBytes,
      changes: this.#changes(results),
      loadNode: (reference) => this.#nodes.load(reference, this.#options.reader, this.#requestOptions()),
      storeNode: (entries) => this.writeBlob(encodeMapNode(entries), 'map-node'),
    });
  }

  async *#steps(files: readonly SourceFile[]): AsyncGenerator<Step, void> {
    const chunksPerRead = Math.max(1, Math.floor(limits.publishReadBytes / this.#chunkBytes));
    for (const file of files) {
      const base =
        file.base === undefined ? undefined : new ChunkMap(file.base, this.#options.reader, this.#nodes);
      for await (const { first, count, zero } of changedRanges(file, this.#chunkBytes)) {
        if (zero === true) yield { step: 'zero', file, first, count };
        else {
          for (let done = 0; done < count; done += chunksPerRead) {
            if (this.#options.signal?.aborted === true) throw new Cancelled('Publishing');
            const baseIds = await this.#baseIds(base, first + done, Math.min(chunksPerRead, count - done));
            yield { step: 'seal', file, first: first + done, baseIds };
          }
        }
      }
      yield { step: 'end' };
    }
  }

  async #baseIds(
    base: ChunkMap | undefined,
    first: number,
    count: number,
  ): Promise<readonly (BlobId | undefined)[]> {
    const ids = new Array<BlobId | undefined>(count).fill(undefined);
    if (base === undefined) return ids;
    for await (const { index, reference } of base.entries(first, count, this.#requestOptions())) {
      ids[index - first] = reference.id;
    }
    return ids;
  }

  async #run(step: Step): Promise<StepResult> {
    if (step.step !== 'seal') return step;
    const { file, first, baseIds } = step;
    const chunkBytes = this.#chunkBytes;
    const { codec } = this.#options.repository;
    const reservation = this.#chunkPacks.reserve(baseIds.length);
    const buffer =
      this.#readBuffers.pop() ?? new SharedArrayBuffer(Math.max(limits.publishReadBytes, chunkBytes));
    const plaintext = new Uint8Array(buffer, 0, baseIds.length * chunkBytes);
    await file.readChunks(first, plaintext);
    plaintext.fill(0, file.sizeBytes - first * chunkBytes);
    const outcomes = await Promise.all(
      baseIds.map((unlessId, position) =>
        codec.seal({
          plaintext: plaintext.subarray(position * chunkBytes, (position + 1) * chunkBytes),
          kind: 'chunk',
          packId: reservation.packId,
          counter: reservation.firstCounter + position,
          ...(unlessId === undefined ? {} : { unlessId }),
        }),
      ),
    );
    this.#readBuffers.push(buffer);
    return { step: 'sealed', file, first, reservation, outcomes };
  }

  /** The changes of the next file; takes from `results` up to the file's end. */
  async *#changes(results: AsyncGenerator<StepResult, void>): AsyncGenerator<MapChange, void> {
    for (;;) {
      const next = await results.next();
      if (next.done === true) throw new Error('the pipeline ended before its last file');
      const result = next.value;
      switch (result.step) {
        case 'end':
          return;
        case 'zero':
          this.#report(result.file, result.first + result.count);
          yield { first: result.first, count: result.count, entry: 'zero' };
          break;
        case 'sealed':
          yield* this.#place(result);
          await this.#chunkPacks.release(result.reservation);
          this.#report(result.file, result.first + result.outcomes.length);
      }
    }
  }

  async *#place(result: Extract<StepResult, { readonly step: 'sealed' }>): AsyncGenerator<MapChange, void> {
    for (const [position, outcome] of result.outcomes.entries()) {
      const first = result.first + position;
      if (outcome.outcome === 'zero') yield { first, count: 1, entry: 'zero' };
      if (outcome.outcome !== 'sealed') continue;
      const { id, sealed } = outcome;
      let reference = this.#written.get(id);
      if (reference === undefined) {
        reference = await this.#options.earlierPacks.find(id);
        if (reference !== undefined) this.#written.set(id, reference);
      }
      if (reference === undefined) {
        const counter = result.reservation.firstCounter + position;
        const blob = { kind: 'chunk', id, counter, plaintextBytes: this.#chunkBytes, sealed } as const;
        reference = this.#chunkPacks.append(result.reservation, blob);
        this.#written.set(id, reference);
        await this.#options.onSealed?.(reference, 'chunk', sealed);
      }
      yield { first, count: 1, entry: reference };
    }
  }

  #report(file: SourceFile, chunks: number): void {
    this.#options.onPosition(file, Math.min(chunks * this.#chunkBytes, file.sizeBytes));
  }

  #requestOptions(): { readonly signal?: AbortSignal } {
    return this.#options.signal === undefined ? {} : { signal: this.#options.signal };
  }
}

/**
 * What the source says has changed. A file that was cut within a chunk has changed there too: the base's chunk holds
 * bytes past the new end.
 */
async function* changedRanges(file: SourceFile, chunkBytes: number): AsyncGenerator<ChangedRange, void> {
  const chunks = chunkCount(file.sizeBytes, chunkBytes);
  let reported = 0;
  for await (const range of file.changedChunks()) {
    yield range;
    reported = range.first + range.count;
  }
  const isCut =
    file.base !== undefined && file.base.sizeBytes > file.sizeBytes && file.sizeBytes % chunkBytes > 0;
  if (isCut && reported < chunks) yield { first: chunks - 1, count: 1 };
}
