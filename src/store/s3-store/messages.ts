import { createHash } from 'node:crypto';
import { parseXML } from '@aws-sdk/xml-builder';

export interface ListedObject {
  /** With the store's prefix. */
  readonly name: string;
  readonly lengthBytes: number;
}

export interface Listing {
  readonly objects: readonly ListedObject[];
  readonly isTruncated: boolean;
}

/** The message is not what its kind should be. */
export class Unintelligible extends Error {}

/** An answer to ListObjectsV2 with `encoding-type=url`. */
export function parseListing(body: Uint8Array): Listing {
  const root = member(parse(body), 'ListBucketResult');
  const objects = members(root, 'Contents').map((content) => {
    const name = text(content, 'Key');
    const lengthBytes = Number(text(content, 'Size'));
    if (name === undefined || !Number.isSafeInteger(lengthBytes))
      throw new Unintelligible('an entry without key or size');
    return { name: decodeURIComponent(name.replaceAll('+', ' ')), lengthBytes };
  });
  const isTruncated = text(root, 'IsTruncated');
  if (isTruncated !== 'true' && isTruncated !== 'false') throw new Unintelligible('a listing without an end');
  return { objects, isTruncated: isTruncated === 'true' };
}

/** The code of an error's body; undefined where there is none. Nothing else of it: it can repeat credentials. */
export function parseErrorCode(body: Uint8Array): string | undefined {
  try {
    const code = text(member(parse(body), 'Error'), 'Code');
    return code !== undefined && /^[A-Za-z0-9]{1,60}$/.test(code) ? code : undefined;
  } catch {
    return undefined;
  }
}

/** The body of DeleteObjects. Names need no escaping: see `s3-store/location.ts`. */
export function deletionOf(names: readonly string[]): { readonly body: Uint8Array; readonly md5: string } {
  const objects = names.map((name) => `<Object><Key>${name}</Key></Object>`).join('');
  const body = Buffer.from(
    `<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${objects}<Quiet>true</Quiet></Delete>`,
  );
  return { body, md5: createHash('md5').update(body).digest('base64') };
}

/** The code of the first object that could not be deleted; undefined when all are gone. */
export function parseDeletionFailure(body: Uint8Array): string | undefined {
  const failures = members(member(parse(body), 'DeleteResult'), 'Error');
  return failures.map((failure) => text(failure, 'Code') ?? 'unknown').find((code) => code !== 'NoSuchKey');
}

function parse(body: Uint8Array): unknown {
  try {
    return parseXML(new TextDecoder().decode(body));
  } catch (error) {
    throw new Unintelligible('no XML', { cause: error });
  }
}

/** Elements without content come as an empty text. */
function member(parent: unknown, name: string): unknown {
  const record = parent as Readonly<Record<string, unknown>> | null;
  if (typeof record !== 'object' || record === null || !(name in record))
    throw new Unintelligible(`no ${name}`);
  return record[name];
}

function members(parent: unknown, name: string): readonly unknown[] {
  if (typeof parent !== 'object' || parent === null || !(name in parent)) return [];
  const found = member(parent, name);
  return Array.isArray(found) ? (found as readonly unknown[]) : [found];
}

function text(parent: unknown, name: string): string | undefined {
  const [found] = members(parent, name);
  return typeof found === 'string' ? found : undefined;
}
