import { objectKey, type ObjectKey } from '../../store/index.js';
import { DamagedObject } from '../errors.js';
import type { LogPosition, PackId } from '../types.js';

/** 16 bytes in lower-case hex: keyed hash of a VM's name; stands for it in object keys. */
export type VmId = string & { readonly __brand: 'VmId' };

const positionDigits = 10;

/** The largest position whose key sorts correctly. */
export const logPositionMax = 10 ** positionDigits - 1;

export const headerKey = objectKey('isr');
export const namesPrefix = 'names/';

export function nameKey(vmId: VmId): ObjectKey {
  return objectKey(`${namesPrefix}${vmId}`);
}

export function logPrefix(vmId: VmId): string {
  return `log/${vmId}/`;
}

export function logKey(vmId: VmId, position: number): ObjectKey {
  return objectKey(`${logPrefix(vmId)}${String(position).padStart(positionDigits, '0')}`);
}

/** The position that a listed key names. */
export function logPositionOf(vmId: VmId, key: ObjectKey): LogPosition {
  return numberIn(key, logPrefix(vmId), 'a log position') as LogPosition;
}

export function branchPrefix(vmId: VmId): string {
  return `branch/${vmId}/`;
}

export function branchKey(vmId: VmId, randomHex: string): ObjectKey {
  return objectKey(`${branchPrefix(vmId)}${randomHex}`);
}

export function tracePrefix(vmId: VmId): string {
  return `trace/${vmId}/`;
}

export function traceKey(vmId: VmId, number: number): ObjectKey {
  return objectKey(`${tracePrefix(vmId)}${String(number).padStart(positionDigits, '0')}`);
}

/** The number that a listed key names. */
export function traceNumberOf(vmId: VmId, key: ObjectKey): number {
  return numberIn(key, tracePrefix(vmId), 'the number of a trace');
}

/** The first byte of the id spreads packs over directories. */
export function packKey(packId: PackId): ObjectKey {
  return `pack/${packId.slice(0, 2)}/${packId}` as ObjectKey;
}

function numberIn(key: ObjectKey, prefix: string, what: string): number {
  const digits = key.slice(prefix.length);
  const number = Number(digits);
  if (!/^[0-9]{10}$/.test(digits) || number === 0) throw new DamagedObject(key, `its name is not ${what}`);
  return number;
}
