import type { FileMap } from '../repo/index.js';

/** The version of the overlay's format; a later one is refused by name. 2: announced commits. */
export const overlayFormat = 2;

/**
 * What the overlay's journal consists of: first `overlay`, then the state when the journal was begun as `change` and
 * `segment` records, then `ready`, then what happened since. Records state results, not operations, so that reading
 * them needs no rules. Times are decimal nanoseconds since 1970, bytes are base64.
 */
export type OverlayRecord =
  OverlayHeader | Change | StoredPages | Ready | Wrote | Flushed | Committing | Mark;

export interface OverlayHeader {
  readonly type: 'overlay';
  readonly format: number;
  /** Which version the changes were made to. */
  readonly base: string;
  /** The boot of this host under which the journal was written; null where the system does not tell. */
  readonly bootId: string | null;
  readonly nextInode: number;
  /** Inodes of the base that are gone. */
  readonly removed: number;
  /** What `committing` records have said since the base was adopted. */
  readonly announced?: AnnouncedCommits;
  /** Requests of the mount that were carried out, and may come again: see `Change.request`. */
  readonly applied?: readonly AppliedRequest[];
}

/** Commits that this overlay's content was given to, of which it is not known here whether they exist. */
export interface AnnouncedCommits {
  /** Oldest first; each is whatever the publisher knows its commit by. */
  readonly commits: readonly string[];
  /** Whether something was changed since the last of them: then the overlay is more than what it says. */
  readonly changedSince: boolean;
}

/** A request, and the inode that it made or named. */
export type AppliedRequest = readonly [request: number, inode: number | null];

/** One acknowledged change of names and attributes; applied in the order of the fields. */
export interface Change {
  readonly type: 'change';
  readonly created?: StoredInode;
  readonly entries?: readonly StoredEntry[];
  readonly attributes?: readonly AttributePatch[];
  readonly truncate?: { readonly inode: number; readonly size: number };
  /** The request of the kernel that made the change, where making it again would fail. */
  readonly request?: number;
}

export interface StoredEntry {
  readonly directory: number;
  readonly name: string;
  /** Null: the name is gone. */
  readonly inode: number | null;
}

export interface StoredInode {
  readonly inode: number;
  readonly permissions: number;
  readonly uid: number;
  readonly gid: number;
  readonly accessed: string;
  readonly modified: string;
  readonly changed: string;
  readonly extendedAttributes: Readonly<Record<string, string>>;
  /** Part of the base version, and whether it is still as it was there (entries and times of directories aside). */
  readonly origin: 'base' | 'altered' | 'new';
  readonly body:
    | {
        readonly kind: 'file';
        readonly size: number;
        /** Bytes of the base from here on are never seen again: the file was shorter once. */
        readonly baseLimit: number;
        readonly base: FileMap | null;
      }
    | { readonly kind: 'directory' }
    | { readonly kind: 'symlink'; readonly target: string }
    | { readonly kind: 'fifo' };
}

export interface AttributePatch {
  readonly inode: number;
  readonly permissions?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly accessed?: string;
  readonly modified?: string;
  readonly changed?: string;
  /** A null value removes the attribute. */
  readonly extendedAttribute?: { readonly name: string; readonly value: string | null };
}

/** Pages of an inode that the overlay has, a segment of its bitmap. */
export interface StoredPages {
  readonly type: 'segment';
  readonly inode: number;
  readonly segment: number;
  readonly bits: string;
}

/** The state is complete; `sequence` is the number of the record that follows. */
export interface Ready {
  readonly type: 'ready';
  readonly sequence: number;
}

/** The data file has these pages now, and the file this size. */
export interface Wrote {
  readonly type: 'wrote';
  readonly inode: number;
  readonly first: number;
  readonly count: number;
  readonly size: number;
  readonly modified: string;
}

/** All records before this one are durable, and the pages that records below `upTo` say of these inodes. */
export interface Flushed {
  readonly type: 'flushed';
  readonly upTo: number;
  readonly inodes: readonly number[] | 'all';
}

/** The state at this place is about to become a version. */
export interface Committing {
  readonly type: 'committing';
  readonly commit: string;
}

/**
 * `opened`: data may have been overwritten in place since. `closed`: everything is durable, and nothing followed.
 * `changed`: data is about to be overwritten in place, the first change since a `committing`.
 */
export interface Mark {
  readonly type: 'opened' | 'closed' | 'changed';
  /** With `opened`: for a mount that outlived the process which served it. */
  readonly goesOn?: true;
}

/** On the path of every write that needs a record: no object is built. */
export function wroteRecord(
  inode: number,
  first: number,
  count: number,
  sizeBytes: number,
  timeNs: bigint,
): string {
  return `{"type":"wrote","inode":${inode},"first":${first},"count":${count},"size":${sizeBytes},"modified":"${timeNs}"}`;
}

const knownTypes: ReadonlySet<unknown> = new Set<OverlayRecord['type']>([
  'overlay',
  'change',
  'segment',
  'ready',
  'wrote',
  'flushed',
  'committing',
  'opened',
  'closed',
  'changed',
]);

/** The journal's checksums have been compared: what is left to check is that this release knows the record. */
export function decodeRecord(json: string): OverlayRecord {
  const value: unknown = JSON.parse(json);
  if (typeof value !== 'object' || value === null || !('type' in value) || !knownTypes.has(value.type)) {
    throw new Error(`not a record: ${json.slice(0, 80)}`);
  }
  return value as OverlayRecord;
}
