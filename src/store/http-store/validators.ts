import type { IncomingHttpHeaders } from 'node:http';
import { LRUCache } from 'lru-cache';
import { limits } from '../../base/index.js';
import type { ObjectKey } from '../object-store.js';

/** What a web server says to tell one content of an object from another. */
export interface Validators {
  readonly entityTag: string | undefined;
  readonly lastModified: string | undefined;
  readonly lengthBytes: number | undefined;
}

/**
 * Remembers what was said of each object first, for as many objects as the limit says. Answers are compared here and not by
 * the server (`If-Match`): it would do the same, some gateways get it wrong, and caches on the way ignore it.
 */
export class PinnedValidators {
  readonly #pinned = new LRUCache<ObjectKey, Validators>({ max: limits.httpValidatorsRemembered });

  /**
   * Whether an answer is about the object that was seen before. One that is not takes its place: this caller must not use
   * the answer, and whoever asks again gets the object as it is now.
   */
  accept(key: ObjectKey, found: Validators): boolean {
    const known = this.#pinned.get(key);
    const isSame = known === undefined || isSameObject(known, found);
    this.#pinned.set(key, isSame ? { ...found, ...withoutUndefined(known) } : found);
    return isSame;
  }

  /** The object is not there any more. */
  forget(key: ObjectKey): void {
    this.#pinned.delete(key);
  }
}

export function validatorsOf(headers: IncomingHttpHeaders, lengthBytes: number | undefined): Validators {
  const { etag, 'last-modified': lastModified } = headers;
  // Weak or strong: equal ones are of equal content, and every piece of it is authenticated later.
  return { entityTag: etag?.replace(/^W\//, ''), lastModified, lengthBytes };
}

/** An entity tag says more than a time, which says something where there is no tag. */
function isSameObject(known: Validators, found: Validators): boolean {
  if (differ(known.lengthBytes, found.lengthBytes)) return false;
  if (known.entityTag !== undefined && found.entityTag !== undefined)
    return known.entityTag === found.entityTag;
  return !differ(known.lastModified, found.lastModified);
}

function differ<T>(one: T | undefined, other: T | undefined): boolean {
  return one !== undefined && other !== undefined && one !== other;
}

function withoutUndefined(validators: Validators | undefined): Partial<Validators> {
  return Object.fromEntries(Object.entries(validators ?? {}).filter(([, value]) => value !== undefined));
}
