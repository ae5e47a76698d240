import { limits } from '../base/index.js';
import type { Touch, TraceEntry } from '../repo/index.js';
import { timesSeen } from './likely.js';

/** From here on a trace counts as right: of what it names, a guest wants at least three quarters. */
const precisionWanted = 0.75;

type ChunkPlace = Pick<Touch, 'path' | 'chunkIndex'>;

/** Which chunk of which file, as a key of sets. */
export function chunkKey({ path, chunkIndex }: ChunkPlace): string {
  return `${chunkIndex} ${path}`;
}

/**
 * What a resume tells of chunks that a replay brought. A guest that finds a chunk in the page cache asks nobody, so a
 * replay hides whether its trace is right. Some chunks are therefore left out of it: a sample, which stands for the
 * others, and every chunk that only one of several resumes has touched. Most of those are chance, and would pile up.
 */
export class Probes {
  readonly #sample = new Set<string>();
  readonly #unproven: ReadonlySet<string>;
  readonly #replayed = new Set<string>();
  /** Chunks that the sample was drawn from. */
  readonly #sampled: number;

  /**
   * Draws the sample. `resumes`: how many the trace was made of; the chunks of the first are all there is. `random`: numbers
   * in [0, 1).
   */
  constructor(chunks: readonly TraceEntry[], resumes: number, random: () => number = Math.random) {
    const isUnproven = (entry: TraceEntry): boolean => resumes > 1 && timesSeen(entry) === 1;
    this.#unproven = new Set(chunks.filter(isUnproven).map(chunkKey));
    const keys = chunks.map(chunkKey).filter((key) => !this.#unproven.has(key));
    this.#sampled = keys.length;
    const { replayChunksPerProbe, replayProbesMin, replayProbesMax } = limits;
    const wanted = Math.ceil(keys.length / replayChunksPerProbe);
    const count = Math.min(Math.max(wanted, replayProbesMin), replayProbesMax, keys.length);
    // One from each of as many equal stretches: the ends of a trace are as well seen as its middle.
    const startOf = (probe: number): number => Math.floor((probe * keys.length) / count);
    for (let probe = 0; probe < count; probe += 1) {
      const start = startOf(probe);
      const key = keys[start + Math.floor(random() * (startOf(probe + 1) - start))];
      if (key !== undefined) this.#sample.add(key);
    }
  }

  /** Whether the chunk is to be left out of the page cache. */
  isProbe(chunk: ChunkPlace): boolean {
    const key = chunkKey(chunk);
    return this.#sample.has(key) || this.#unproven.has(key);
  }

  /** Whether the chunk is one of the sample. */
  isSample(chunk: ChunkPlace): boolean {
    return this.#sample.has(chunkKey(chunk));
  }

  /** How many chunks there are to one of the sample. */
  get chunksPerSample(): number {
    return this.#sample.size === 0 ? 1 : this.#sampled / this.#sample.size;
  }

  /** The chunk was brought before the guest could ask for it. */
  replayed(chunk: ChunkPlace): void {
    this.#replayed.add(chunkKey(chunk));
  }

  /**
   * The chunks, by `chunkKey`, that the guest may be taken to have touched although nobody saw it: those that were replayed,
   * if it asked for most of the sample.
   */
  assumed(recorded: readonly ChunkPlace[]): ReadonlySet<string> {
    const asked = recorded.filter((chunk) => this.#sample.has(chunkKey(chunk))).length;
    return asked >= precisionWanted * this.#sample.size ? this.#replayed : new Set();
  }
}
