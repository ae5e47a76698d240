import { limits } from '../base/index.js';

/**
 * What a guest's touches say of a trace while it is replayed. A guest that finds a chunk in the page cache asks nobody, so a
 * chunk that it is seen to touch, of those that the trace names, is one that the replay has not brought, or one of the sample
 * that was left out: that one stands for as many as there are chunks to one of the sample.
 */
export class TraceEvidence {
  readonly #chunksPerSample: number;
  #traced = 0;
  #untraced = 0;

  constructor(chunksPerSample: number) {
    this.#chunksPerSample = chunksPerSample;
  }

  /** The guest was seen to touch a chunk. */
  touched(chunk: 'untraced' | 'sample' | 'other'): void {
    if (chunk === 'untraced') this.#untraced += 1;
    else this.#traced += chunk === 'sample' ? this.#chunksPerSample : 1;
  }

  /** Whether this looks like another guest than that of the trace: then it is better to follow the guest. */
  get isAgainst(): boolean {
    const { untracedMin, tracedPerUntraced } = limits.replayDoubt;
    return this.#untraced >= untracedMin && this.#traced < tracedPerUntraced * this.#untraced;
  }
}
