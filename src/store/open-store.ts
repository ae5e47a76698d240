import { isAbsolute, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { InvalidInput, systemClock } from '../base/index.js';
import { DirectoryStore } from './directory-store.js';
import { StoreRefused } from './errors.js';
import { HttpStore } from './http-store.js';
import { LabStore } from './lab-store.js';
import { parseLabParameters } from './lab-store/parameters.js';
import { seededRandom } from './lab-store/seeded-random.js';
import type { ObjectStore } from './object-store.js';
import { requirePutIfAbsent } from './put-if-absent-probe.js';
import { RetryingStore } from './retrying-store.js';

export interface OpenStoreOptions {
  /**
   * For a new repository: makes a directory where it is missing, and proves that an S3 store keeps put-if-absent. Without
   * it, a directory that is not there is `StoreUnreachable`.
   */
  readonly create?: boolean;
  /** Does not look whether it is there, since it was before: its requests will tell. */
  readonly unseen?: boolean;
}

const supported =
  'Write s3://bucket/prefix, file:///absolute/path or an absolute path for a directory, https://host/path to read a copy on ' +
  'a web server, or lab+URL?mbps=100&rttMs=20 to imitate a slow link in front of one.';

/**
 * Opens the store at `url`; the caller owns it.
 *
 * - `file:///absolute/path`, or a plain absolute path
 * - `https://host/path` or `http://…`, a copy on a web server, to be read only
 * - `s3://bucket/prefix`; endpoint, region and credentials come from the usual AWS sources
 * - `lab+URL?…`, an imitated link and faults in front of it; parameters: `lab-store/parameters.ts`
 *
 * @throws InvalidInput, StoreUnreachable, StoreRefused, PutIfAbsentMissing
 */
export async function openStore(url: string, options: OpenStoreOptions = {}): Promise<ObjectStore> {
  if (isDirectory(url)) return openDirectory(url, options);
  return new RetryingStore(await openFar(url, options), systemClock, Math.random);
}

/**
 * What a URL means on this host now, to tell stores apart: where an S3 endpoint says which store it is, that too. Asks
 * nobody. May hold what the URL holds, credentials included: hash it.
 *
 * @throws InvalidInput
 */
export async function storePlace(url: string): Promise<string> {
  if (!/^(lab\+)?s3:/i.test(url)) return url;
  const { loadEndpoint, loadRegion } = await import('./s3-store/endpoint.js');
  const endpoint = await loadEndpoint();
  return `${url} at ${endpoint?.href ?? `Amazon, ${await loadRegion()}`}`;
}

/** The directory of this host that holds the store at `url`; undefined where it is elsewhere. */
export function localDirectoryOf(url: string): string | undefined {
  const innerUrl = url.startsWith('lab+') ? splitOnce(url.slice('lab+'.length), '?')[0] : url;
  return isAbsolute(innerUrl) || /^file:/i.test(innerUrl) ? directoryPath(innerUrl) : undefined;
}

function isDirectory(url: string): boolean {
  return !/^(lab\+|s3:|https?:)/i.test(url);
}

async function openFar(url: string, options: OpenStoreOptions): Promise<ObjectStore> {
  if (!url.startsWith('lab+')) return openPlain(url, options);
  const [innerUrl, query] = splitOnce(url.slice('lab+'.length), '?');
  const { conditions, seed } = parseLabParameters(query);
  return new LabStore(await openPlain(innerUrl, options), conditions, systemClock, seededRandom(seed));
}

async function openPlain(url: string, options: OpenStoreOptions): Promise<ObjectStore> {
  if (/^s3:/i.test(url)) return openS3(url, options);
  return /^https?:/i.test(url) ? openHttp(url, options) : openDirectory(url, options);
}

/** Loaded when it is needed: its libraries cost every command 50 ms and 13 MB otherwise. */
async function openS3(url: string, options: OpenStoreOptions): Promise<ObjectStore> {
  const { S3Store } = await import('./s3-store.js');
  const store = await S3Store.open(url);
  if (options.create !== true) return store;
  try {
    await requirePutIfAbsent(store);
    return store;
  } catch (error) {
    await store[Symbol.asyncDispose]();
    throw error;
  }
}

function openHttp(url: string, options: OpenStoreOptions): HttpStore {
  const store = new HttpStore(url);
  if (options.create !== true) return store;
  throw new StoreRefused({
    store: store.description,
    key: undefined,
    reason: 'it can only be read, so no repository can be made there',
    remedy: 'Make the repository in a directory or a bucket, and serve a copy of it.',
  });
}

function openDirectory(url: string, options: OpenStoreOptions): Promise<DirectoryStore> {
  const root = directoryPath(url);
  if (options.unseen === true) return Promise.resolve(DirectoryStore.unseen(root));
  return options.create === true ? DirectoryStore.create(root) : DirectoryStore.open(root);
}

/** Messages name the scheme only: the rest of a URL may hold credentials. */
function directoryPath(url: string): string {
  if (isAbsolute(url)) return withoutTrailingSlash(requirePlainPath(normalize(url)));
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(url)?.[1]?.toLowerCase();
  if (scheme === undefined) throw invalid('A store is named by a URL or an absolute path.');
  if (scheme !== 'file') throw invalid(`Stores of kind ${scheme}: are not supported.`);
  return withoutTrailingSlash(requirePlainPath(pathOfFileUrl(url)));
}

function pathOfFileUrl(url: string): string {
  // `new URL` would take the relative file:name for an absolute one.
  if (!/^file:\/\/\//i.test(url)) throw invalid('A file: URL has three slashes and an absolute path.');
  if (/[?#]/.test(url))
    throw invalid('A file: URL has no parameters; write ? as %3F and # as %23 in a path.');
  try {
    return fileURLToPath(url);
  } catch (error) {
    throw invalid('The path in the file: URL is malformed.', error);
  }
}

function requirePlainPath(path: string): string {
  if (path.includes('\0')) throw invalid('The path of a store holds a zero character.');
  return path;
}

function withoutTrailingSlash(path: string): string {
  return path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path;
}

function splitOnce(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}

function invalid(message: string, cause?: unknown): InvalidInput {
  return new InvalidInput(message, { remedy: supported, cause });
}
