import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import { limits } from '../base/index.js';
import type { FetchOptions, SoughtBytes } from '../fetch/index.js';
import type { FileContent } from './file-content.js';
import { pageBytes } from './page-bitmap.js';

/** What the base said: the first place of the kind at or after `fromBytes` is `foundBytes`. */
interface BaseAnswer {
  readonly fromBytes: number;
  readonly foundBytes: number;
}

/**
 * Looks for data or a hole in a file: pages of the overlay over the base, to the page in the first and to the chunk in
 * the other. Goes on over several turns where it must, with the file as it is in each.
 */
export class HoleSearch {
  readonly #content: FileContent;
  readonly #sought: SoughtBytes;
  readonly #limitBytes: number;
  #at: number;
  #generation: number;
  #baseAnswer: BaseAnswer | undefined;
  #needsBase = false;

  /** Looks from `startBytes` up to `limitBytes` or the end of the file. */
  constructor(content: FileContent, sought: SoughtBytes, startBytes: number, limitBytes = Infinity) {
    this.#content = content;
    this.#sought = sought;
    this.#at = startBytes;
    this.#limitBytes = limitBytes;
    this.#generation = content.generation;
  }

  /** The place, or where the search had to end; undefined when that needs to `wait`. */
  now(): number | undefined {
    const { pages, sizeBytes, generation } = this.#content;
    const endBytes = Math.min(sizeBytes, this.#limitBytes);
    const endPage = Math.ceil(endBytes / pageBytes);
    if (generation !== this.#generation) this.#baseAnswer = undefined;
    this.#generation = generation;
    this.#needsBase = false;
    for (let runs = 0; this.#at < endBytes; runs += 1) {
      if (runs === limits.pageRunsPerTurn) return undefined;
      const page = Math.floor(this.#at / pageBytes);
      const runEndBytes = Math.min(pages.runEnd(page, endPage) * pageBytes, endBytes);
      const found = pages.has(page) ? this.#inOverlay() : this.#inBase(runEndBytes);
      if (found === undefined) return undefined;
      if (found < runEndBytes) return found;
      this.#at = runEndBytes;
    }
    return endBytes;
  }

  /** Resolves when `now` can go on. Rejects as `BaseFile.find` does. */
  async wait(options: FetchOptions): Promise<void> {
    if (!this.#needsBase) return eventLoopTurn();
    const generation = this.#generation;
    const fromBytes = this.#pageStart();
    const base = this.#content.base();
    const foundBytes = await base.find(this.#sought, fromBytes, this.#baseEndBytes(), options);
    if (generation === this.#content.generation) this.#baseAnswer = { fromBytes, foundBytes };
  }

  async later(options: FetchOptions): Promise<number> {
    for (;;) {
      const found = this.now();
      if (found !== undefined) return found;
      await this.wait(options);
    }
  }

  /** Pages that were made zero are holes of the data file. */
  #inOverlay(): number {
    const { data } = this.#content;
    return this.#sought === 'data' ? (data.nextData(this.#at) ?? Infinity) : data.nextHole(this.#at);
  }

  /** In a run of pages that the overlay does not have. What shows the base in part counts as a whole page. */
  #inBase(runEndBytes: number): number | undefined {
    const { baseHasData, baseLimitBytes } = this.#content;
    const shownPages = baseHasData ? Math.ceil(baseLimitBytes / pageBytes) : 0;
    const shownEndBytes = Math.min(shownPages * pageBytes, runEndBytes);
    const nowhere = this.#sought === 'data' ? runEndBytes : shownEndBytes;
    if (this.#at >= shownEndBytes) return Math.max(nowhere, this.#at);
    const found = this.#askBase();
    if (found === undefined) return undefined;
    return found < Math.min(baseLimitBytes, runEndBytes) ? Math.max(found, this.#at) : nowhere;
  }

  #askBase(): number | undefined {
    const fromBytes = this.#pageStart();
    const known = this.#baseAnswer;
    if (known !== undefined && known.fromBytes <= fromBytes && fromBytes <= known.foundBytes) {
      return known.foundBytes;
    }
    const base = this.#content.base();
    const foundBytes = base.findSync(this.#sought, fromBytes, this.#baseEndBytes());
    if (foundBytes === undefined) this.#needsBase = true;
    else this.#baseAnswer = { fromBytes, foundBytes };
    return foundBytes;
  }

  #pageStart(): number {
    return Math.floor(this.#at / pageBytes) * pageBytes;
  }

  #baseEndBytes(): number {
    return Math.min(this.#content.baseLimitBytes, this.#limitBytes);
  }
}
