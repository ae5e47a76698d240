import { STATUS_CODES, type IncomingHttpHeaders } from 'node:http';
import { StoreRefused, StoreUnreachable, type StoreFailure } from '../errors.js';
import type { ByteRange } from '../object-store.js';

/** What `Content-Range` says of an answer. */
export interface ContentRange {
  /** Undefined in an answer that no such range is there. */
  readonly range: ByteRange | undefined;
  readonly totalBytes: number | undefined;
}

const contentRangePattern = /^bytes (?:(\d{1,15})-(\d{1,15})|\*)\/(\d{1,15}|\*)$/i;

/** Undefined where there is none, or nothing that could be understood. */
export function contentRangeOf(headers: IncomingHttpHeaders): ContentRange | undefined {
  const match = contentRangePattern.exec(headers['content-range'] ?? '');
  if (match === null) return undefined;
  const [, first, last, total] = match;
  const offsetBytes = Number(first);
  const range =
    first === undefined ? undefined : { offsetBytes, lengthBytes: Number(last) - offsetBytes + 1 };
  return { range, totalBytes: total === '*' ? undefined : Number(total) };
}

export function contentLengthOf(headers: IncomingHttpHeaders): number | undefined {
  const length = headers['content-length'];
  return length === undefined ? undefined : Number(length);
}

/** What the bytes of an answer are packed in; undefined where they are the object's own. */
export function encodingOf(headers: IncomingHttpHeaders): string | undefined {
  const encoding = headers['content-encoding']?.trim().toLowerCase();
  return encoding === undefined || encoding === '' || encoding === 'identity' ? undefined : encoding;
}

export function isAbsence(status: number): boolean {
  return status === 404 || status === 410;
}

const checkPermission =
  'Check user and password in the URL, and that the server may read the files. A bucket behind a web server must ' +
  'answer 404, not 403, for what is not there: let it list the bucket.';

const refusalRemedies: ReadonlyMap<number, string> = new Map([
  [401, checkPermission],
  [403, checkPermission],
  [407, 'Check the proxy.'],
]);

/** Statuses below 500 that mean: later. */
const passing: ReadonlySet<number> = new Set([408, 425, 429]);

/** What an answer means that is neither a success nor about one object. */
export function explainStatus(status: number, failure: StoreFailure): StoreRefused | StoreUnreachable {
  const title = STATUS_CODES[status];
  const reason = `it answers ${status}${title === undefined ? '' : ` (${title})`}`;
  if (status >= 500 || passing.has(status)) return new StoreUnreachable({ ...failure, reason });
  const remedy =
    refusalRemedies.get(status) ?? 'Check that the URL is that of a web server over a repository.';
  return new StoreRefused({ ...failure, reason, remedy });
}
