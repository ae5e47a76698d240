import * as v from 'valibot';
import { DamagedObject } from '../errors.js';
import type { BlobId, BlobReference, HostIdentity, LogPosition, PackId, VersionNumber } from '../types.js';
import { logPositionMax } from './object-keys.js';
import { isPlausibleReference } from './pack.js';

/* The pieces that JSON payloads are validated with, and the one way to read such a payload. */

export const hex16 = v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/));
export const hex32 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/));
export const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

export const versionNumber = v.pipe(
  v.number(),
  v.safeInteger(),
  v.minValue(1),
  v.transform((value) => value as VersionNumber),
);

export const logPosition = v.pipe(
  v.number(),
  v.safeInteger(),
  v.minValue(1),
  v.maxValue(logPositionMax),
  v.transform((value) => value as LogPosition),
);

/** Milliseconds since 1970, UTC. */
export const instant = v.pipe(
  v.number(),
  v.safeInteger(),
  v.minValue(-8.64e15),
  v.maxValue(8.64e15),
  v.transform((milliseconds) => new Date(milliseconds)),
);

/** Text that survives UTF-8: no half of a surrogate pair. */
export const text = (maxLength: number) =>
  v.pipe(
    v.string(),
    v.maxLength(maxLength),
    v.check((value) => !/\p{Surrogate}/u.test(value)),
  );

export const hostIdentity: v.GenericSchema<unknown, HostIdentity> = v.strictObject({
  hostId: hex16,
  hostName: text(255),
});

export const blobReference: v.GenericSchema<unknown, BlobReference> = v.pipe(
  v.strictObject({
    packId: v.pipe(
      hex16,
      v.transform((value) => value as PackId),
    ),
    offsetBytes: count,
    sealedBytes: count,
    counter: v.pipe(count, v.maxValue(0xffff_ffff)),
    id: v.pipe(
      hex16,
      v.transform((value) => value as BlobId),
    ),
  }),
  v.check((reference) => isPlausibleReference(reference)),
);

/** Parses and validates a UTF-8 JSON payload of the object `key`; throws `DamagedObject`. `what` names the payload. */
export function parsePayload<T>(
  schema: v.GenericSchema<unknown, T>,
  payload: Uint8Array,
  key: string,
  what: string,
): T {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(payload));
  } catch (error) {
    throw new DamagedObject(key, `${what} is not JSON`, { cause: error });
  }
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output;
  const path = v.getDotPath(result.issues[0]);
  throw new DamagedObject(key, `${what} is not valid${path === null ? '' : ` at ${path}`}`);
}

export function encodePayload(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value), 'utf8');
}

/** The fields of a reference in their written order. */
export function encodeReference(reference: BlobReference): BlobReference {
  const { packId, offsetBytes, sealedBytes, counter, id } = reference;
  return { packId, offsetBytes, sealedBytes, counter, id };
}
