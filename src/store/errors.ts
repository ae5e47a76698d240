import { IsrError } from '../base/index.js';
import type { ObjectKey } from './object-store.js';

/** What a store was doing when it failed. */
export interface StoreFailure {
  /** The store's description. */
  readonly store: string;
  /** Undefined when the failure is not about one object. */
  readonly key: ObjectKey | undefined;
  readonly cause?: unknown;
}

/** The store has no object of this name. */
export class ObjectMissing extends IsrError {
  override readonly code = 'OBJECT_MISSING';

  constructor(failure: StoreFailure & { readonly key: ObjectKey }) {
    super(`${failure.store} has no object ${failure.key}.`, {
      facts: { store: failure.store, key: failure.key },
      cause: failure.cause,
    });
  }
}

/** The object ends before the bytes that were asked for, or the answer of the store did. */
export class ObjectTruncated extends IsrError {
  override readonly code = 'OBJECT_TRUNCATED';

  /** `expectedBytes` and `foundBytes` count from the start of the object. */
  constructor(
    failure: StoreFailure & {
      readonly key: ObjectKey;
      readonly expectedBytes: number;
      readonly foundBytes: number;
    },
  ) {
    const { store, key, expectedBytes, foundBytes } = failure;
    super(`Object ${key} in ${store} ends after ${foundBytes} bytes; at least ${expectedBytes} are needed.`, {
      facts: { store, key, expectedBytes, foundBytes },
      cause: failure.cause,
    });
  }
}

/** The object is not the one that was read before under this name, though objects never change: the copy was replaced. */
export class ObjectChanged extends IsrError {
  override readonly code = 'OBJECT_CHANGED';

  constructor(failure: StoreFailure & { readonly key: ObjectKey }) {
    const { store, key } = failure;
    super(`Object ${key} in ${store} is not the one that was there before.`, {
      facts: { store, key },
      remedy:
        'Objects never change. If the copy was made anew with the same content, try again; else restore it from the ' +
        'repository, keeping the times of files (rsync -t).',
      cause: failure.cause,
    });
  }
}

/** The store cannot be used now, and may be later without anybody changing it. */
export class StoreUnreachable extends IsrError {
  override readonly code = 'STORE_UNREACHABLE';

  /** `reason` continues the sentence "STORE cannot be reached: ". */
  constructor(failure: StoreFailure & { readonly reason: string; readonly remedy?: string }) {
    super(`${failure.store} cannot be reached: ${failure.reason}.`, {
      facts: { store: failure.store, key: failure.key ?? null },
      remedy: failure.remedy ?? 'Check the connection to the store, then try again.',
      cause: failure.cause,
    });
  }
}

/** The store refuses, and will until somebody acts: no permission, no space, read-only. */
export class StoreRefused extends IsrError {
  override readonly code = 'STORE_REFUSED';

  /** `reason` continues the sentence "STORE refuses: ". */
  constructor(failure: StoreFailure & { readonly reason: string; readonly remedy: string }) {
    super(`${failure.store} refuses: ${failure.reason}.`, {
      facts: { store: failure.store, key: failure.key ?? null },
      remedy: failure.remedy,
      cause: failure.cause,
    });
  }
}

/** The store overwrites where it must not: two hosts could publish the same version, and one would be lost. */
export class PutIfAbsentMissing extends IsrError {
  override readonly code = 'PUT_IF_ABSENT_MISSING';

  /** `observed` continues the sentence "STORE does not keep put-if-absent: ". */
  constructor(store: string, observed: string) {
    super(`${store} does not keep put-if-absent: ${observed}.`, {
      facts: { store },
      remedy:
        'Two hosts could publish the same version there, and one would be lost without notice. Use a store that ' +
        'implements "If-None-Match: *" for PUT (Amazon S3, Ceph, MinIO, Cloudflare R2 in current versions) or a directory.',
    });
  }
}
