import { createHmac, timingSafeEqual } from 'node:crypto';
import * as v from 'valibot';
import { DamagedObject, UnknownFormat, WrongKey } from '../errors.js';
import { purposeKey, type SealingSecrets } from './key-schedule.js';
import { isChunkSize } from './manifest.js';
import { headerKey } from './object-keys.js';
import { hex16, hex32 } from './schemas.js';
import { formatVersion } from './version.js';

/** What anybody may know of a repository. */
export interface RepositoryHeader {
  readonly version: number;
  readonly repositoryId: string;
  /** Size of the chunks that new files are cut into; each file says its own. */
  readonly chunkBytes: number;
}

/*
 * Two lines of text: a JSON object, and the HMAC-SHA-256 of the first line (without its line feed) in hex,
 * under the key for the purpose `header`.
 */

const fileFormat = 'isr-repository';
const headerBytesMax = 4096;

const headerSchema = v.strictObject({
  format: v.literal(fileFormat),
  version: v.literal(formatVersion),
  repositoryId: hex16,
  chunkBytes: v.pipe(v.number(), v.check(isChunkSize)),
});

export function encodeHeader(header: RepositoryHeader, secrets: SealingSecrets): Uint8Array {
  const { version, repositoryId, chunkBytes } = header;
  const line = JSON.stringify({ format: fileFormat, version, repositoryId, chunkBytes });
  return Buffer.from(`${line}\n${headerCode(line, secrets)}\n`, 'utf8');
}

/** What the header claims; `UnknownFormat` for another version, `DamagedObject` for anything else. */
export function decodeHeader(object: Uint8Array, store: string): RepositoryHeader {
  return parse(object, store).header;
}

/** The header, checked with the repository's key. `WrongKey` if the key is another repository's. */
export function openHeader(object: Uint8Array, store: string, secrets: SealingSecrets): RepositoryHeader {
  const { header, line, code } = parse(object, store);
  if (header.repositoryId !== secrets.repositoryId) {
    throw new WrongKey(store, {
      repositoryId: header.repositoryId,
      keyRepositoryId: secrets.repositoryId,
    });
  }
  if (!timingSafeEqual(Buffer.from(headerCode(line, secrets), 'latin1'), Buffer.from(code, 'latin1'))) {
    throw new DamagedObject(headerKey, 'it is not authentic');
  }
  return header;
}

function parse(
  object: Uint8Array,
  store: string,
): { readonly header: RepositoryHeader; readonly line: string; readonly code: string } {
  if (object.length > headerBytesMax) throw new DamagedObject(headerKey, `it has ${object.length} bytes`);
  const [line, code, rest, ...more] = Buffer.from(object).toString('latin1').split('\n');
  let value: unknown;
  try {
    value = JSON.parse(line ?? '');
  } catch {
    throw new DamagedObject(headerKey, 'it is not the header of a repository');
  }
  const claim = v.safeParse(v.object({ format: v.literal(fileFormat), version: v.number() }), value);
  if (!claim.success) throw new DamagedObject(headerKey, 'it is not the header of a repository');
  if (claim.output.version !== formatVersion) {
    throw new UnknownFormat(`The repository in ${store}`, claim.output.version, formatVersion);
  }
  const header = v.safeParse(headerSchema, value);
  if (!header.success || line === undefined || !v.is(hex32, code) || rest !== '' || more.length > 0) {
    throw new DamagedObject(headerKey, 'a part of it is missing or wrong');
  }
  const { version, repositoryId, chunkBytes } = header.output;
  return { header: { version, repositoryId, chunkBytes }, line, code };
}

function headerCode(line: string, secrets: SealingSecrets): string {
  return createHmac('sha256', purposeKey(secrets, 'header')).update(line, 'latin1').digest('hex');
}
