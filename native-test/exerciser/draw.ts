import { seededRandom } from '../../src/store/index.js';

const poolBytes = 4 * 1024 * 1024;

/** Numbers, places and data that a seed determines. */
export class Draw {
  readonly #random: () => number;
  readonly #pool = Buffer.allocUnsafe(poolBytes);

  constructor(seed: number) {
    this.#random = seededRandom(seed);
    for (let at = 0; at < poolBytes; at += 4) this.#pool.writeUInt32LE((this.#random() * 2 ** 32) >>> 0, at);
  }

  /** A whole number, at least 0 and less than `limit`. */
  below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  /** With a probability of 1 in `n`. */
  oneIn(n: number): boolean {
    return this.#random() * n < 1;
  }

  pick<T>(values: readonly T[]): T {
    // There is no other place for a number below the length.
    return values[this.below(values.length)] as T;
  }

  /** A place up to `max`: often at, right before or right after a border of pages, chunks or blocks. */
  place(max: number): number {
    const unit = this.pick([1, 1, 512, 4096, 4096, 16_384, 131_072]);
    const near = this.oneIn(4) ? this.pick([-1, 1, -7, 100]) : 0;
    return Math.min(Math.max(this.below(Math.floor(max / unit) + 1) * unit + near, 0), max);
  }

  /** A length of at least 1, mostly short. */
  length(max: number): number {
    const most = Math.min(max, this.pick([16, 512, 4096, 4096, 8192, 8192, 20_000, 70_000, max]));
    const length = 1 + this.below(most);
    return this.oneIn(3) ? Math.max(Math.floor(length / 4096) * 4096, 1) : length;
  }

  /** Bytes that are not changed before the next call, and must not be changed. Sometimes all zero. */
  data(lengthBytes: number): Buffer {
    if (this.oneIn(20)) return Buffer.alloc(lengthBytes);
    const at = this.below(poolBytes - lengthBytes);
    return this.#pool.subarray(at, at + lengthBytes);
  }
}
