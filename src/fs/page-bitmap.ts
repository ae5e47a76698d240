/** The unit of the overlay: the kernel's page, so that a write through the page cache never needs what was there before. */
export const pageBytes = 4096;

/** A segment covers 128 MiB of a file with 4 KiB of bits. */
export const segmentPages = 32_768;
const segmentWords = segmentPages / 32;

/** The bits of a segment, or all of them at once: a hole punched into a huge file costs nothing. */
type Segment = Uint32Array | 'full';

/** Consecutive pages. */
export interface PageRun {
  readonly first: number;
  readonly count: number;
}

/** A segment as stored: the bits of pages in ascending order, lowest bit first, four bytes a word, little endian. */
export interface StoredSegment {
  readonly segment: number;
  readonly bits: Buffer | 'full';
}

/** A set of page numbers. Memory goes to segments that hold a page, so that a file may be huge. */
export class PageBitmap {
  readonly #segments = new Map<number, Segment>();
  #count = 0;

  /** Pages in the set. */
  get count(): number {
    return this.#count;
  }

  has(page: number): boolean {
    const segment = this.#segments.get(Math.floor(page / segmentPages));
    if (segment === undefined) return false;
    // The low bits are exact also above 2^31, where `&` takes its operands modulo 2^32.
    return (
      segment === 'full' || ((wordAt(segment, (page & (segmentPages - 1)) >>> 5) >>> (page & 31)) & 1) === 1
    );
  }

  /** The pages `32 * index` to `32 * index + 31` as bits of a signed number, the first page lowest. */
  word(index: number): number {
    const perSegment = segmentPages / 32;
    const segment = this.#segments.get(Math.floor(index / perSegment));
    if (segment === undefined) return 0;
    return segment === 'full' ? -1 : wordAt(segment, index % perSegment) | 0;
  }

  /** Whether every page of the range is in the set. */
  hasAll(first: number, count: number): boolean {
    if (count === 1) return this.has(first);
    return this.has(first) && this.runEnd(first, first + count) === first + count;
  }

  /** Adds a range. */
  add(first: number, count: number): void {
    this.#forEachSegment(first, count, (number, from, to) => {
      const segment = this.#segments.get(number);
      if (segment === 'full') return;
      if (from === 0 && to === segmentPages) {
        this.#count += segmentPages - (segment === undefined ? 0 : countBits(segment));
        this.#segments.set(number, 'full');
        return;
      }
      const words = segment ?? new Uint32Array(segmentWords);
      this.#segments.set(number, words);
      this.#count += changeBits(words, from, to, true);
    });
  }

  /** Removes a page and all after it. */
  removeFrom(first: number): void {
    const firstSegment = Math.floor(first / segmentPages);
    for (const [number, segment] of this.#segments) {
      if (number < firstSegment) continue;
      const from = number === firstSegment ? first % segmentPages : 0;
      if (from === 0) {
        this.#count -= segment === 'full' ? segmentPages : countBits(segment);
        this.#segments.delete(number);
        continue;
      }
      const words = segment === 'full' ? new Uint32Array(segmentWords).fill(0xffff_ffff) : segment;
      this.#segments.set(number, words);
      this.#count += changeBits(words, from, segmentPages, false);
    }
  }

  /** The end (exclusive, at most `limit`) of the run of pages that are all in the set, or all not, starting at `page`. */
  runEnd(page: number, limit: number): number {
    const present = this.has(page);
    for (let at = page; at < limit;) {
      const number = Math.floor(at / segmentPages);
      const segment = this.#segments.get(number);
      const segmentEnd = (number + 1) * segmentPages;
      if (segment === undefined || segment === 'full') {
        if ((segment === 'full') !== present) return at;
      } else {
        const found = findBit(segment, at % segmentPages, !present);
        if (found < segmentPages) return Math.min(number * segmentPages + found, limit);
      }
      at = segmentEnd;
    }
    return limit;
  }

  /** The first page of the set that is not below `page`. */
  next(page: number): number | undefined {
    let number = Math.floor(page / segmentPages);
    let from = page % segmentPages;
    for (;;) {
      const segment = this.#segments.get(number);
      if (segment !== undefined) {
        const found = segment === 'full' ? from : findBit(segment, from, true);
        if (found < segmentPages) return number * segmentPages + found;
      }
      const following = this.#segments.has(number + 1) ? number + 1 : this.#segmentAfter(number);
      if (following === undefined) return undefined;
      number = following;
      from = 0;
    }
  }

  /** The number after the highest page of the set; 0 when it is empty. */
  get end(): number {
    let last = -1;
    for (const [number, segment] of this.#segments) {
      if (number * segmentPages <= last) continue;
      const highest = segment === 'full' ? segmentPages - 1 : highestBit(segment);
      if (highest >= 0) last = number * segmentPages + highest;
    }
    return last + 1;
  }

  /** Runs in ascending order, from `page` on. */
  *runs(page = 0): Generator<PageRun, void> {
    for (let first = this.next(page); first !== undefined;) {
      const end = this.runEnd(first, Infinity);
      yield { first, count: end - first };
      first = this.next(end);
    }
  }

  *store(): Generator<StoredSegment, void> {
    for (const [number, segment] of this.#segments) {
      if (segment === 'full') yield { segment: number, bits: 'full' };
      else if (segment.some((word) => word !== 0)) yield { segment: number, bits: toLittleEndian(segment) };
    }
  }

  /** Takes a segment that `store` gave. */
  load(stored: StoredSegment): void {
    if (this.#segments.has(stored.segment)) throw new Error(`segment ${stored.segment} is loaded already`);
    if (stored.bits === 'full') {
      this.add(stored.segment * segmentPages, segmentPages);
      return;
    }
    if (stored.bits.length !== segmentPages / 8)
      throw new Error(`not a segment: ${stored.bits.length} bytes`);
    const words = fromLittleEndian(stored.bits);
    this.#segments.set(stored.segment, words);
    this.#count += countBits(words);
  }

  #segmentAfter(number: number): number | undefined {
    let following: number | undefined;
    for (const candidate of this.#segments.keys()) {
      if (candidate > number && (following === undefined || candidate < following)) following = candidate;
    }
    return following;
  }

  #forEachSegment(
    first: number,
    count: number,
    visit: (number: number, from: number, to: number) => void,
  ): void {
    const end = first + count;
    for (let at = first; at < end;) {
      const number = Math.floor(at / segmentPages);
      const start = number * segmentPages;
      const to = Math.min(end - start, segmentPages);
      visit(number, at - start, to);
      at = start + to;
    }
  }
}

function wordAt(words: Uint32Array, index: number): number {
  // Callers stay within the segment.
  return words[index] as number;
}

/** Bits `from` to `to` (exclusive) of a 32-bit word. */
function mask(from: number, to: number): number {
  const low = to === 32 ? 0xffff_ffff : (1 << to) - 1;
  return (low & ~((1 << from) - 1)) >>> 0;
}

/** Sets or clears a range of bits; answers by how much their number changed. */
function changeBits(words: Uint32Array, from: number, to: number, value: boolean): number {
  let change = 0;
  for (let index = from >>> 5; index * 32 < to; index++) {
    const bits = mask(Math.max(from - index * 32, 0), Math.min(to - index * 32, 32));
    const before = wordAt(words, index);
    const after = (value ? before | bits : before & ~bits) >>> 0;
    if (after === before) continue;
    words[index] = after;
    change += countWord(after) - countWord(before);
  }
  return change;
}

/** The first bit at or after `from` that has this value; `segmentPages` if there is none. */
function findBit(words: Uint32Array, from: number, value: boolean): number {
  let index = from >>> 5;
  let bits = (value ? wordAt(words, index) : ~wordAt(words, index)) & mask(from & 31, 32);
  while (bits === 0) {
    index += 1;
    if (index === segmentWords) return segmentPages;
    bits = value ? wordAt(words, index) : ~wordAt(words, index);
  }
  return index * 32 + 31 - Math.clz32(bits & -bits);
}

function highestBit(words: Uint32Array): number {
  for (let index = segmentWords - 1; index >= 0; index--) {
    const bits = wordAt(words, index);
    if (bits !== 0) return index * 32 + 31 - Math.clz32(bits);
  }
  return -1;
}

function countBits(words: Uint32Array): number {
  let count = 0;
  for (const word of words) count += countWord(word);
  return count;
}

/** Bits that are set, by adding neighbours in parallel (Warren, Hacker's Delight, 5-1). */
function countWord(word: number): number {
  const pairs = word - ((word >>> 1) & 0x5555_5555);
  const nibbles = (pairs & 0x3333_3333) + ((pairs >>> 2) & 0x3333_3333);
  return Math.imul((nibbles + (nibbles >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24;
}

function fromLittleEndian(bytes: Buffer): Uint32Array {
  return Uint32Array.from({ length: bytes.length / 4 }, (_, word) => bytes.readUInt32LE(word * 4));
}

function toLittleEndian(words: Uint32Array): Buffer {
  const bytes = Buffer.allocUnsafe(words.length * 4);
  words.forEach((word, index) => bytes.writeUInt32LE(word, index * 4));
  return bytes;
}
