/** Chunks of files: a bit each, so that those of a huge image fit. */
export class ChunkSet {
  readonly #bits = new Map<string, Uint8Array>();

  /** Whether it was new. */
  add(path: string, chunkIndex: number): boolean {
    const byte = Math.floor(chunkIndex / 8);
    const mask = 1 << (chunkIndex % 8);
    let bits = this.#bits.get(path) ?? new Uint8Array(64);
    const known = bits[byte] ?? 0;
    if ((known & mask) !== 0) return false;
    if (byte >= bits.length) {
      const longer = new Uint8Array(Math.max(byte + 1, 2 * bits.length));
      longer.set(bits);
      bits = longer;
    }
    bits[byte] = known | mask;
    this.#bits.set(path, bits);
    return true;
  }
}
