import { fstatSync } from 'node:fs';
import { Difference, firstDifference } from './difference.js';
import { isMapped, type ExercisedFile, type WayToRead } from './exercised-file.js';

const pageBytes = 4096;

/** Compares files with their models. */
export class FileComparison {
  /** What is read goes there. */
  readonly #scratch: Buffer;

  constructor(scratch: Buffer) {
    this.#scratch = scratch;
  }

  /** @throws Difference */
  requireSize(file: ExercisedFile): void {
    const { size } = fstatSync(file.fd);
    const { sizeBytes } = file.model;
    if (size !== sizeBytes) {
      throw new Difference(file.index, Math.min(size, sizeBytes), `the size is ${size}, not ${sizeBytes}`);
    }
  }

  /** Reads a range, and what a mapping shows after the end. @throws Difference */
  requireRange(file: ExercisedFile, way: WayToRead, fromBytes: number, toBytes: number): void {
    const { sizeBytes } = file.model;
    // A mapping shows zeros after the end, up to the end of the page.
    const end =
      isMapped(way) && toBytes === sizeBytes ? Math.ceil(sizeBytes / pageBytes) * pageBytes : toBytes;
    if (end <= fromBytes) return;
    const got = file.read(way, fromBytes, end - fromBytes, this.#scratch);
    if (got.length !== end - fromBytes) {
      throw new Difference(
        file.index,
        fromBytes + got.length,
        `${way} gave ${got.length} bytes of ${end - fromBytes}`,
      );
    }
    this.requireSame(file, way, fromBytes, got);
  }

  /** @throws Difference */
  requireSame(file: ExercisedFile, way: WayToRead, offsetBytes: number, got: Buffer): void {
    const expected = file.model.bytes.subarray(offsetBytes, offsetBytes + got.length);
    if (got.equals(expected)) return;
    const at = firstDifference(got, expected);
    let differing = 0;
    for (let index = at; index < got.length; index++) if (got[index] !== expected[index]) differing += 1;
    const show = (bytes: Buffer): string => bytes.subarray(at, at + 16).toString('hex');
    throw new Difference(
      file.index,
      offsetBytes + at,
      `expected ${show(expected)}, ${way} gave ${show(got)}; ${differing} bytes differ up to ${offsetBytes + got.length}, the file has ${file.model.sizeBytes}`,
    );
  }
}
