/*
 * Numbers of variable length (LEB128): seven bits a byte, the lowest first, the high bit set on all but the last byte.
 * Signed ones are folded: 0, -1, 1, -2, … are 0, 1, 2, 3, …
 */

const wordMax = Number.MAX_SAFE_INTEGER;

/** Writes numbers one after another. */
export class NumberWriter {
  #buffer = Buffer.alloc(4096);
  #length = 0;

  byte(value: number): void {
    this.#room(1);
    this.#length = this.#buffer.writeUInt8(value, this.#length);
  }

  /** A safe integer that is not negative. */
  number(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${value} cannot be written`);
    let rest = value;
    while (rest >= 0x80) {
      this.byte((rest % 0x80) | 0x80);
      rest = Math.floor(rest / 0x80);
    }
    this.byte(rest);
  }

  signed(value: number): void {
    this.number(value < 0 ? -2 * value - 1 : 2 * value);
  }

  /** With their length in front. */
  bytes(bytes: Uint8Array): void {
    this.number(bytes.length);
    this.#room(bytes.length);
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  finish(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }

  #room(bytes: number): void {
    if (this.#length + bytes <= this.#buffer.length) return;
    const larger = Buffer.alloc(2 * (this.#length + bytes));
    this.#buffer.copy(larger);
    this.#buffer = larger;
  }
}

/** Reads what a `NumberWriter` wrote; throws `RangeError` for anything else. */
export class NumberReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  byte(min: number): number {
    const value = this.#bytes[this.#at];
    if (value === undefined) throw new RangeError('it ends too early');
    if (value < min) throw new RangeError(`a byte is ${value}`);
    this.#at += 1;
    return value;
  }

  /** Each number has one spelling: the shortest. */
  number(min: number, max: number): number {
    let value = 0;
    for (let scale = 1; ; scale *= 0x80) {
      if (scale > wordMax) throw new RangeError('a number is too large');
      const byte = this.byte(0);
      value += (byte & 0x7f) * scale;
      if (value > wordMax) throw new RangeError('a number is too large');
      if (byte >= 0x80) continue;
      if (byte === 0 && scale > 1) throw new RangeError('a number is spelled too long');
      break;
    }
    if (value < min || value > max) throw new RangeError(`${value} is not from ${min} to ${max}`);
    return value;
  }

  signed(): number {
    const folded = this.number(0, wordMax);
    return folded % 2 === 0 ? folded / 2 : -(folded + 1) / 2;
  }

  bytes(lengthMax: number): Uint8Array {
    const length = this.number(0, lengthMax);
    const start = this.#at;
    if (start + length > this.#bytes.length) throw new RangeError('it ends too early');
    this.#at += length;
    return this.#bytes.subarray(start, start + length);
  }

  expectEnd(): void {
    if (this.#at !== this.#bytes.length) throw new RangeError('there is something after its end');
  }
}
