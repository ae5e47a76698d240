import { endianness } from 'node:os';

/** Requests and answers are in the byte order of the host. */
export const littleEndian = endianness() === 'LE';

const uint32Range = 2 ** 32;
/** Where the halves of a 64-bit number lie. */
export const lowAt = littleEndian ? 0 : 4;
export const highAt = 4 - lowAt;

/** Numbers beyond 2^53 lose their last digits. */
export function readUint64(view: DataView, at: number): number {
  return view.getUint32(at + highAt, littleEndian) * uint32Range + view.getUint32(at + lowAt, littleEndian);
}

export function writeUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at + lowAt, value % uint32Range, littleEndian);
  view.setUint32(at + highAt, Math.floor(value / uint32Range), littleEndian);
}
