import type { BlobReference } from '../repo/index.js';
import { endOf, type PackRange } from './pack-range.js';

/** Where the bytes of one answer go. */
export interface Intake {
  readonly range: PackRange;
  /** The next bytes of the range; they belong to the intake now. */
  add(piece: Uint8Array): void;
  /** Everything came: resolves when it has been dealt with. */
  end(): Promise<void>;
}

/**
 * Puts the sealed bytes of blobs together out of the pieces of a range, and hands each over as soon as it is complete: a blob
 * at the beginning of a long range does not wait for the end.
 */
export class BlobAssembly<Blob extends { readonly reference: BlobReference }> {
  readonly #onComplete: (blob: Blob, sealed: Uint8Array) => void;
  /** By offset; those before `#next` are complete. */
  readonly #blobs: readonly Blob[];
  #next = 0;
  /** What is there of the next blob. */
  #sealed: Uint8Array | undefined;
  #atBytes: number;

  /** The blobs lie within the range, and none overlaps another. */
  constructor(
    range: PackRange,
    blobs: readonly Blob[],
    onComplete: (blob: Blob, sealed: Uint8Array) => void,
  ) {
    this.#blobs = blobs.toSorted((a, b) => a.reference.offsetBytes - b.reference.offsetBytes);
    this.#onComplete = onComplete;
    this.#atBytes = range.offsetBytes;
  }

  add(piece: Uint8Array): void {
    const startBytes = this.#atBytes;
    const endBytes = startBytes + piece.length;
    this.#atBytes = endBytes;
    for (;;) {
      const blob = this.#blobs[this.#next];
      if (blob === undefined || blob.reference.offsetBytes >= endBytes) return;
      const { offsetBytes, sealedBytes } = blob.reference;
      const isExact = offsetBytes === startBytes && sealedBytes === piece.length;
      if (isExact && piece.byteLength === piece.buffer.byteLength) this.#sealed = piece;
      else {
        this.#sealed ??= new Uint8Array(sealedBytes);
        const fromBytes = Math.max(offsetBytes, startBytes);
        const toBytes = Math.min(endOf(blob.reference), endBytes);
        this.#sealed.set(
          piece.subarray(fromBytes - startBytes, toBytes - startBytes),
          fromBytes - offsetBytes,
        );
      }
      if (endOf(blob.reference) > endBytes) return;
      const sealed = this.#sealed;
      this.#sealed = undefined;
      this.#next += 1;
      this.#onComplete(blob, sealed);
    }
  }
}
