import * as v from 'valibot';
import type { ObjectKey } from '../../store/index.js';
import { InvalidVmName } from '../errors.js';
import { encodePayload, parsePayload } from './schemas.js';

const grammar = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

const nameSchema = v.strictObject({ name: v.pipe(v.string(), v.regex(grammar)) });

/** The name, if it is one: letters, digits, `.`, `_`, `-`; at most 64; beginning with a letter or digit. */
export function checkVmName(name: string): string {
  if (!grammar.test(name)) throw new InvalidVmName(name);
  return name;
}

export function encodeVmName(name: string): Uint8Array {
  return encodePayload({ name });
}

export function decodeVmName(payload: Uint8Array, key: ObjectKey): string {
  return parsePayload(nameSchema, payload, key, 'the name').name;
}
