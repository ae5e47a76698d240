import { LRUCache } from 'lru-cache';
import { Cancelled, limits } from '../../base/index.js';
import { ChunkMap } from '../chunk-map.js';
import { NodeCache } from '../chunk-map/node-cache.js';
import { reviseMap, type MapChange } from '../chunk-map/revise.js';
import type { SealOutcome } from '../codec/messages.js';
import { encodeMapNode } from '../format/map-node.js';
import type { Repository } from '../repository.js';
import type {
  BlobId,
  BlobKind,
  BlobReader,
  BlobReference,
  ChunkDelta,
  FileMap,
  PackId,
  SourceFile,
  SourceInode,
} from '../types.js';
import { inOrder, type Jobs } from '../in-order.js';
import { DeltaWriter, type DeltaDraft } from './delta-writer.js';
import type { StoredChunks } from './earlier-packs.js';
import {
  chooseRewrites,
  findLayout,
  runsOf,
  type PlacedSourceChunk,
  type SourceChunk,
  type WantedChunk,
} from './layout.js';
import { PackWriter, type PackReservation } from './pack-writer.js';
import { changedRanges, withLaidOut, type LaidOut } from './source-ranges.js';

/** Answers the verified plaintext of a chunk, which the caller owns, or undefined where it is not at hand. */
export type EarlierChunk = (reference: BlobReference) => Promise<Uint8Array | undefined>;

export interface ContentWriterOptions {
  readonly repository: Repository;
  /** For nodes of base maps. */
  readonly reader: BlobReader;
  /** Called for every new blob before its pack is uploaded; waited for. */
  readonly onSealed:
    ((reference: BlobReference, kind: BlobKind, sealed: Uint8Array) => void | Promise<void>) | undefined;
  /** Called with the number of a file's bytes that are behind us now, repeatedly. */
  readonly onPosition: (file: SourceFile, doneBytes: number) => void;
  /** Called with the bytes of chunks that are stored ahead of their files, repeatedly. */
  readonly onLaidOut: (doneBytes: number) => void;
  readonly signal: AbortSignal | undefined;
  /** Chunks that need not be stored again. */
  readonly earlierPacks: StoredChunks;
  /** Called before a pack of chunks is uploaded; waited for. */
  readonly onPackBegun: ((packId: PackId) => Promise<void>) | undefined;
  /** What a base chunk holds, if it is at hand. */
  readonly earlierChunk?: EarlierChunk | undefined;
  /** What of `layOut` may be stored again though it did not change, as a part of what is stored of it anyway. */
  readonly rewriteFraction: number;
}

interface SealStep {
  readonly step: 'seal';
  readonly file: SourceFile;
  readonly first: number;
  /** One a chunk: what the base has there, which need not be sealed again. */
  readonly bases: readonly (BlobReference | undefined)[];
  /** One a chunk, of chunks that did not change and are stored again: what they must be. */
  readonly rewrittenIds?: readonly BlobId[];
}

/** What the pipeline does next; all files pass through it one after the other, so that small ones keep it busy too. */
type Step =
  | SealStep
  | { readonly step: 'zero'; readonly file: SourceFile; readonly first: number; readonly count: number }
  | {
      readonly step: 'laid-out';
      readonly file: SourceFile;
      readonly first: number;
      readonly entry: LaidOut;
    }
  | { readonly step: 'end' };

interface Sealed {
  readonly step: 'sealed';
  readonly file: SourceFile;
  readonly first: number;
  readonly reservation: PackReservation;
  readonly outcomes: readonly SealOutcome[];
  /** One a chunk, of those that are much like their base. */
  readonly deltas: readonly (DeltaDraft | undefined)[];
}

type StepResult = Exclude<Step, { readonly step: 'seal' }> | Sealed;

const unchanged: SealOutcome = { outcome: 'unchanged' };

/**
 * Writes what changed in a sequence of files: chunks into packs of their own, their deltas into others, map nodes (and what
 * else is sealed with `writeBlob`) into others again, so that one range read gets many nodes.
 *
 * Memory: `limits.publishReadsInFlight` buffers of `limits.publishReadBytes` (or one chunk, if larger), as much of their bases,
 * what became of them, three `PackWriter`s, `limits.mapCacheBytes` of base map nodes, `limits.publishIdsRemembered` ids, and what was
 * laid out.
 */
export class ContentWriter {
  readonly #options: ContentWriterOptions;
  readonly #chunkBytes: number;
  readonly #chunkPacks: PackWriter;
  readonly #nodePacks: PackWriter;
  readonly #deltas: DeltaWriter;
  readonly #nodes = new NodeCache();
  readonly #written = new LRUCache<BlobId, BlobReference>({ max: limits.publishIdsRemembered });
  readonly #readBuffers: SharedArrayBuffer[] = [];
  readonly #laidOut = new Map<SourceFile, Map<number, LaidOut>>();

  constructor(options: ContentWriterOptions) {
    const { repository, signal, onPackBegun } = options;
    this.#options = options;
    this.#chunkBytes = repository.header.chunkBytes;
    this.#chunkPacks = new PackWriter(repository.store, repository.sealer, signal, onPackBegun);
    this.#nodePacks = new PackWriter(repository.store, repository.sealer, signal);
    this.#deltas = new DeltaWriter(repository, signal);
  }

  /** Whether nothing had to be written: every chunk is zero or what the base has. */
  get isEmpty(): boolean {
    return this.#chunkPacks.isEmpty && this.#nodePacks.isEmpty;
  }

  /** Bytes of all pack objects, as far as they are complete, and of chunks in earlier packs. */
  get storedBytes(): number {
    const { usedBytes } = this.#options.earlierPacks;
    const packs = [this.#chunkPacks, this.#deltas, this.#nodePacks];
    return packs.reduce((sum, { storedBytes }) => sum + storedBytes, usedBytes);
  }

  /**
   * Stores chunks that a resume is expected to want, in that order, before anything else: they then lie together. Those
   * that changed come first; if there are any, some that did not change follow, within `rewriteFraction`.
   */
  async layOut(wanted: readonly WantedChunk[], inodes: readonly SourceInode[]): Promise<void> {
    if (wanted.length === 0) return;
    const ranges = (file: SourceFile) => changedRanges(file, this.#chunkBytes);
    const { changed, unchanged: inPlace } = await findLayout(wanted, inodes, ranges, this.#chunkBytes);
    const changedBytes = await this.#storeAhead(this.#stepsOf(changed));
    const budgetBytes = changedBytes * this.#options.rewriteFraction;
    if (budgetBytes < 1) return;
    await this.#storeAhead(rewriteSteps(chooseRewrites(await this.#placed(inPlace), budgetBytes)));
  }

  /** Stores what of these chunks is not zero, nor what the base has. Only where no file is written. */
  async storeChunks(chunks: readonly SourceChunk[]): Promise<void> {
    await this.#storeAhead(this.#stepsOf(chunks));
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

  /**
   * Uploads what is left: chunks first, then deltas, then nodes. Answers the index of the deltas, in which `earlierDeltas`
   * are as well; undefined where there are no new ones.
   */
  async finish(
    earlierDeltas: () => Promise<readonly ChunkDelta[]> = () => Promise.resolve([]),
  ): Promise<BlobReference | undefined> {
    await this.#chunkPacks.finish();
    const index = await this.#deltas.finish(earlierDeltas);
    if (index !== undefined) await this.#options.onSealed?.(index.reference, 'delta-index', index.sealed);
    await this.#nodePacks.finish();
    return index?.reference;
  }

  /** Waits until nothing is under way, however `writeFiles` and `finish` ended. */
  async settle(): Promise<void> {
    await Promise.all([this.#chunkPacks.settle(), this.#deltas.settle(), this.#nodePacks.settle()]);
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
    const perRead = chunksPerRead(this.#chunkBytes);
    for (const file of files) {
      const base = this.#baseOf(file);
      const laidOut = [...(this.#laidOut.get(file) ?? [])].sort(([one], [other]) => one - other);
      for await (const { first, count, zero, entry } of withLaidOut(
        laidOut,
        changedRanges(file, this.#chunkBytes),
      )) {
        if (entry !== undefined) yield { step: 'laid-out', file, first, entry };
        else if (zero === true) yield { step: 'zero', file, first, count };
        else {
          for (let done = 0; done < count; done += perRead) {
            this.#throwIfCancelled();
            const bases = await this.#bases(base, first + done, Math.min(perRead, count - done));
            yield { step: 'seal', file, first: first + done, bases };
          }
        }
      }
      yield { step: 'end' };
    }
  }

  /** Answers the sealed bytes that these chunks have, wherever they are. */
  async #storeAhead(steps: Jobs<SealStep>): Promise<number> {
    let sealedBytes = 0;
    let doneBytes = 0;
    for await (const result of inOrder(steps, (step) => this.#seal(step), limits.publishReadsInFlight)) {
      this.#throwIfCancelled();
      const { file, first, outcomes, reservation } = result;
      const entries = this.#laidOut.get(file) ?? new Map<number, LaidOut>();
      this.#laidOut.set(file, entries);
      for (const position of outcomes.keys()) entries.set(first + position, 'unchanged');
      for await (const { first: index, entry } of this.#place(result)) {
        entries.set(index, entry);
        if (entry !== 'zero') sealedBytes += entry.sealedBytes;
      }
      await this.#chunkPacks.release(reservation);
      doneBytes += outcomes.length * this.#chunkBytes;
      this.#options.onLaidOut(doneBytes);
    }
    return sealedBytes;
  }

  async *#stepsOf(chunks: readonly SourceChunk[]): AsyncGenerator<SealStep, void> {
    for (const { file, first, count } of runsOf(chunks, chunksPerRead(this.#chunkBytes))) {
      yield { step: 'seal', file, first, bases: await this.#bases(this.#baseOf(file), first, count) };
    }
  }

  /** Where the base has these chunks; those that are zero have no place. */
  async #placed(chunks: readonly SourceChunk[]): Promise<readonly PlacedSourceChunk[]> {
    const placed: PlacedSourceChunk[] = [];
    for (const { file, index } of chunks) {
      const reference = await this.#baseOf(file)?.entry(index, this.#requestOptions());
      if (reference !== undefined && reference !== 'zero') placed.push({ file, index, reference });
    }
    return placed;
  }

  #baseOf(file: SourceFile): ChunkMap | undefined {
    return file.base === undefined ? undefined : new ChunkMap(file.base, this.#options.reader, this.#nodes);
  }

  #throwIfCancelled(): void {
    if (this.#options.signal?.aborted === true) throw new Cancelled('Publishing');
  }

  async #bases(
    base: ChunkMap | undefined,
    first: number,
    count: number,
  ): Promise<readonly (BlobReference | undefined)[]> {
    const bases = new Array<BlobReference | undefined>(count).fill(undefined);
    if (base === undefined) return bases;
    for await (const { index, reference } of base.entries(first, count, this.#requestOptions())) {
      bases[index - first] = reference;
    }
    return bases;
  }

  #earlierChunks(
    bases: readonly (BlobReference | undefined)[],
  ): Promise<readonly (Uint8Array | undefined)[]> {
    const { earlierChunk } = this.#options;
    return Promise.all(bases.map(async (base) => (base === undefined ? undefined : earlierChunk?.(base))));
  }

  async #run(step: Step): Promise<StepResult> {
    return step.step === 'seal' ? this.#seal(step) : step;
  }

  async #seal({ file, first, bases, rewrittenIds }: SealStep): Promise<Sealed> {
    const chunkBytes = this.#chunkBytes;
    const { codec } = this.#options.repository;
    const reservation = this.#chunkPacks.reserve(bases.length);
    const buffer =
      this.#readBuffers.pop() ?? new SharedArrayBuffer(Math.max(limits.publishReadBytes, chunkBytes));
    const plaintext = new Uint8Array(buffer, 0, bases.length * chunkBytes);
    let before: readonly (Uint8Array | undefined)[];
    try {
      await file.readChunks(first, plaintext);
      // Afterwards: what changed in part was just read from its base.
      before = await this.#earlierChunks(bases);
    } catch (error) {
      this.#readBuffers.push(buffer);
      if (rewrittenIds === undefined || error instanceof Cancelled) throw error;
      // What cannot be read stays where it is: it was not asked for.
      return { step: 'sealed', file, first, reservation, outcomes: bases.map(() => unchanged), deltas: [] };
    }
    plaintext.fill(0, file.sizeBytes - first * chunkBytes);
    const chunkOf = (position: number): Uint8Array =>
      plaintext.subarray(position * chunkBytes, (position + 1) * chunkBytes);
    const outcomes = await Promise.all(
      bases.map((base, position) =>
        codec.seal({
          plaintext: chunkOf(position),
          kind: 'chunk',
          packId: reservation.packId,
          counter: reservation.firstCounter + position,
          ...(base === undefined ? {} : { unlessId: base.id, base: before[position] }),
        }),
      ),
    );
    const deltas = outcomes.map((outcome, position) => draftOf(outcome, bases[position]));
    this.#readBuffers.push(buffer);
    // Content that was exchanged in the store must not get a place under this version's signature.
    const isForeign = (outcome: SealOutcome, position: number) =>
      rewrittenIds !== undefined && outcome.outcome === 'sealed' && outcome.id !== rewrittenIds[position];
    const own = outcomes.map((outcome, position) => (isForeign(outcome, position) ? unchanged : outcome));
    return { step: 'sealed', file, first, reservation, outcomes: own, deltas };
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
        case 'laid-out':
          this.#report(result.file, result.first + 1);
          if (result.entry !== 'unchanged') yield { first: result.first, count: 1, entry: result.entry };
          break;
        case 'sealed':
          yield* this.#place(result);
          await this.#chunkPacks.release(result.reservation);
          this.#report(result.file, result.first + result.outcomes.length);
      }
    }
  }

  async *#place(result: Sealed): AsyncGenerator<MapChange, void> {
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
      await this.#deltas.add(reference, result.deltas[position]);
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

/** A chunk at a time: they lie far apart. */
function* rewriteSteps(chunks: readonly PlacedSourceChunk[]): Generator<SealStep, void> {
  for (const { file, index, reference } of chunks) {
    yield { step: 'seal', file, first: index, bases: [undefined], rewrittenIds: [reference.id] };
  }
}

function draftOf(outcome: SealOutcome, base: BlobReference | undefined): DeltaDraft | undefined {
  if (base === undefined || outcome.outcome !== 'sealed' || outcome.delta === undefined) return undefined;
  return { base, plaintext: outcome.delta };
}

function chunksPerRead(chunkBytes: number): number {
  return Math.max(1, Math.floor(limits.publishReadBytes / chunkBytes));
}
