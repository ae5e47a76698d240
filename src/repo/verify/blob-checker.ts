import { LRUCache } from 'lru-cache';
import { limits } from '../../base/index.js';
import { ObjectTruncated, type RequestOptions } from '../../store/index.js';
import { DamagedObject } from '../errors.js';
import { packKey } from '../format/object-keys.js';
import { inOrder } from '../in-order.js';
import type { Repository } from '../repository.js';
import type { BlobKind, BlobReader, BlobReference, PackId } from '../types.js';
import { packRanges, type PackRange } from '../pack-ranges.js';
import { problemOf, type Problem } from './problem.js';

export type Outcome = Problem | 'intact';

type Place = string & { readonly __brand: 'Place' };

const rangeLimits = { gapBytes: limits.verifyGapBytes, rangeBytes: limits.verifyRangeBytes };

/**
 * Reads blobs in long ranges and checks everything that can be checked: authenticity, the id against the plaintext,
 * and once for every pack its header and its own index. What was checked lately is not read again.
 *
 * Memory: `limits.verifyRangesInFlight` ranges of `limits.verifyRangeBytes`, `limits.verifyOpensPerRange` chunks of
 * each, `limits.verifyBlobsRemembered` outcomes.
 */
export class BlobChecker implements BlobReader {
  readonly #repository: Repository;
  readonly #requestOptions: RequestOptions;
  readonly #onPackProblem: (problem: Problem) => void;
  readonly #outcomes = new LRUCache<Place, Outcome>({ max: limits.verifyBlobsRemembered });
  /** Of the packs as such: `intact` also where a blob within is not. */
  readonly #packs = new LRUCache<PackId, Outcome>({ max: limits.verifyBlobsRemembered });
  #blobs = 0;
  #sealedBytes = 0;

  /** `onPackProblem` hears once of each pack that is missing, or whose header or index is damaged. */
  constructor(
    repository: Repository,
    requestOptions: RequestOptions,
    onPackProblem: (problem: Problem) => void,
  ) {
    this.#repository = repository;
    this.#requestOptions = requestOptions;
    this.#onPackProblem = onPackProblem;
  }

  /** Blobs read so far, and their sealed bytes. */
  get totals(): { readonly blobs: number; readonly sealedBytes: number } {
    return { blobs: this.#blobs, sealedBytes: this.#sealedBytes };
  }

  /**
   * One outcome for each chunk, in order; every chunk must have `chunkBytes`. Rejects only when the store cannot be
   * asked, or the request was cancelled.
   */
  async checkChunks(references: readonly BlobReference[], chunkBytes: number): Promise<readonly Outcome[]> {
    const found = new Map<Place, Outcome>();
    const unknown = new Map<Place, BlobReference>();
    for (const reference of references) {
      const place = placeOf(reference);
      const outcome = this.#outcomes.get(place) ?? (await this.#missingPack(reference.packId));
      if (outcome === undefined) unknown.set(place, reference);
      else found.set(place, outcome);
    }
    const ranges = packRanges([...unknown.values()], rangeLimits);
    const run = (range: PackRange): Promise<CheckedRange> => this.#checkRange(range, chunkBytes);
    for await (const { range, outcomes } of inOrder(ranges, run, limits.verifyRangesInFlight)) {
      for (const [position, reference] of range.references.entries()) {
        const outcome = outcomes[position] ?? 'intact';
        found.set(placeOf(reference), outcome);
        this.#outcomes.set(placeOf(reference), outcome);
      }
    }
    return references.map((reference) => outcomeAt(found, reference));
  }

  /** Map nodes and manifests, checked as chunks are. Rejects with `DamagedObject`, and what the store rejects with. */
  async readBlob(reference: BlobReference, kind: BlobKind): Promise<Uint8Array> {
    await this.#missingPack(reference.packId);
    const plaintext = await this.#repository.blobs.readBlob(reference, kind, this.#requestOptions);
    this.#expectContent(plaintext, reference, plaintext.length);
    return plaintext;
  }

  /** Checks a pack's header and index when it is seen first. Its problem if that is such that no blob can be read. */
  async #missingPack(packId: PackId): Promise<Problem | undefined> {
    let outcome = this.#packs.get(packId);
    if (outcome === undefined) {
      outcome = await this.#checkPack(packId);
      this.#packs.set(packId, outcome);
      if (outcome !== 'intact') this.#onPackProblem(outcome);
    }
    return outcome !== 'intact' && outcome.problem === 'missing' ? outcome : undefined;
  }

  async #checkPack(packId: PackId): Promise<Outcome> {
    try {
      await this.#repository.packIndex(packId, this.#requestOptions);
      return 'intact';
    } catch (error) {
      return problemOf(error, packKey(packId));
    }
  }

  async #checkRange(range: PackRange, chunkBytes: number): Promise<CheckedRange> {
    const { packId, offsetBytes, lengthBytes, references } = range;
    let bytes: Uint8Array;
    try {
      bytes = await this.#repository.store.get(
        packKey(packId),
        { offsetBytes, lengthBytes },
        this.#requestOptions,
      );
    } catch (error) {
      // Of a pack that ends too early some blobs may be there.
      if (error instanceof ObjectTruncated && references.length > 1)
        return this.#checkOneByOne(range, chunkBytes);
      const problem = problemOf(error, packKey(packId));
      return { range, outcomes: references.map(() => problem) };
    }
    const check = (reference: BlobReference): Promise<Outcome> => {
      const start = reference.offsetBytes - offsetBytes;
      return this.#checkChunk(bytes.subarray(start, start + reference.sealedBytes), reference, chunkBytes);
    };
    const outcomes: Outcome[] = [];
    for await (const outcome of inOrder(references.values(), check, limits.verifyOpensPerRange)) {
      outcomes.push(outcome);
    }
    return { range, outcomes };
  }

  async #checkOneByOne(range: PackRange, chunkBytes: number): Promise<CheckedRange> {
    const outcomes: Outcome[] = [];
    for (const reference of range.references) {
      for (const single of packRanges([reference], rangeLimits)) {
        outcomes.push(...(await this.#checkRange(single, chunkBytes)).outcomes);
      }
    }
    return { range, outcomes };
  }

  async #checkChunk(sealed: Uint8Array, reference: BlobReference, chunkBytes: number): Promise<Outcome> {
    try {
      const plaintext = await this.#repository.codec.open(sealed, reference, 'chunk', {
        priority: 'background',
      });
      this.#expectContent(plaintext, reference, chunkBytes);
      return 'intact';
    } catch (error) {
      return problemOf(error, packKey(reference.packId));
    }
  }

  #expectContent(plaintext: Uint8Array, reference: BlobReference, expectedBytes: number): void {
    const { packId, id, sealedBytes } = reference;
    if (plaintext.length !== expectedBytes || this.#repository.sealer.identify(plaintext) !== id) {
      throw new DamagedObject(
        packKey(packId),
        `the blob with counter ${reference.counter} has another content than its id says`,
      );
    }
    this.#blobs += 1;
    this.#sealedBytes += sealedBytes;
  }
}

interface CheckedRange {
  readonly range: PackRange;
  /** One for each of its references. */
  readonly outcomes: readonly Outcome[];
}

function placeOf({ packId, counter, id }: BlobReference): Place {
  return `${packId}/${counter}/${id}` as Place;
}

function outcomeAt(found: ReadonlyMap<Place, Outcome>, reference: BlobReference): Outcome {
  const outcome = found.get(placeOf(reference));
  if (outcome === undefined) throw new Error('a blob was not checked');
  return outcome;
}
