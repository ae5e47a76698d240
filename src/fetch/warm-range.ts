import { limits } from '../base/index.js';
import type { BlobReference, PackId } from '../repo/index.js';
import { isMoreUrgent, type Flight } from './flight.js';
import type { SlotClaim } from './request-slots.js';
import type { PackRange } from './store-access.js';
import type { FetchClass } from './types.js';

/**
 * Groups blobs so that each group is worth one request: of one pack, close together, of bounded span.
 * Groups come in the order of their first members in `references`.
 */
export function groupNeighbours(references: readonly BlobReference[]): BlobReference[][] {
  const byPack = new Map<PackId, BlobReference[]>();
  for (const reference of references) {
    const members = byPack.get(reference.packId);
    if (members === undefined) byPack.set(reference.packId, [reference]);
    else members.push(reference);
  }
  return [...byPack.values()].flatMap(groupWithinPack);
}

function groupWithinPack(references: readonly BlobReference[]): BlobReference[][] {
  const groups: BlobReference[][] = [];
  let group: BlobReference[] = [];
  for (const reference of references.toSorted((a, b) => a.offsetBytes - b.offsetBytes)) {
    const first = group[0];
    const last = group.at(-1);
    const isNeighbour =
      first !== undefined &&
      last !== undefined &&
      reference.offsetBytes - endOf(last) <= limits.warmGapBytes &&
      endOf(reference) - first.offsetBytes <= limits.warmRangeBytes;
    if (isNeighbour) group.push(reference);
    else groups.push((group = [reference]));
  }
  return groups;
}

/**
 * One request that brings several neighbours. Until it is made, a member that somebody needs urgently can leave and
 * go its own way: it should not wait for a megabyte of others.
 */
export class WarmRange implements SlotClaim {
  fetchClass: FetchClass;
  readonly #members = new Set<Flight>();
  readonly #giveUp = new AbortController();
  #isStarted = false;

  constructor(fetchClass: FetchClass) {
    this.fetchClass = fetchClass;
  }

  /** Fires when no member is wanted any more. */
  get signal(): AbortSignal {
    return this.#giveUp.signal;
  }

  get members(): readonly Flight[] {
    return [...this.#members];
  }

  add(flight: Flight): void {
    this.#members.add(flight);
    flight.carrier = this;
    flight.signal.addEventListener('abort', () => {
      this.#members.delete(flight);
      if (this.#members.size === 0) this.#giveUp.abort();
    });
  }

  /** Lets an urgent member go its own way, and says whether it did; too late, the whole range becomes as urgent. */
  release(flight: Flight): boolean {
    if (this.#isStarted) {
      if (isMoreUrgent(flight.fetchClass, this.fetchClass)) this.fetchClass = flight.fetchClass;
      return false;
    }
    this.#members.delete(flight);
    flight.carrier = undefined;
    return true;
  }

  /** The request to make now, for the members that are left; undefined when there are none. */
  start(): PackRange | undefined {
    this.#isStarted = true;
    const references = this.members.map((flight) => flight.reference);
    const [first] = references;
    if (first === undefined) return undefined;
    const offsetBytes = Math.min(...references.map((reference) => reference.offsetBytes));
    const endBytes = Math.max(...references.map(endOf));
    return { packId: first.packId, offsetBytes, lengthBytes: endBytes - offsetBytes };
  }
}

function endOf(reference: BlobReference): number {
  return reference.offsetBytes + reference.sealedBytes;
}
