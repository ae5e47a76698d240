/** A file is not what it should be. */
export class Difference extends Error {
  readonly file: number;
  readonly offsetBytes: number;

  constructor(file: number, offsetBytes: number, what: string) {
    super(`file ${file} differs at byte ${offsetBytes} (0x${offsetBytes.toString(16)}): ${what}`);
    this.name = 'Difference';
    this.file = file;
    this.offsetBytes = offsetBytes;
  }
}

/** Where two contents begin to differ; the shorter one's length if that is all. */
export function firstDifference(one: Uint8Array, other: Uint8Array): number {
  const length = Math.min(one.length, other.length);
  for (let at = 0; at < length; at++) if (one[at] !== other[at]) return at;
  return length;
}
