import * as v from 'valibot';
import type { ObjectKey } from '../../store/index.js';
import { DamagedObject } from '../errors.js';
import { logPositionMax } from './object-keys.js';
import type { CommitDraft, HostIdentity, LeaseState, LogPosition, VersionNumber } from '../types.js';
import {
  blobReference,
  count,
  encodePayload,
  encodeReference,
  hex32,
  hostIdentity,
  instant,
  logPosition,
  parsePayload,
  text,
  versionNumber,
} from './schemas.js';

/** An earlier log entry, by place and content. */
export interface EntryReference {
  readonly position: LogPosition;
  /** SHA-256 of the stored record, in hex. */
  readonly digest: string;
}

/**
 * One step of a VM's log. It repeats what a reader of the newest entry needs, so that nobody must read the log from
 * its beginning.
 */
export interface LogEntry {
  /** Digest of the entry before this one; undefined for the first. */
  readonly previousDigest: string | undefined;
  readonly writtenAt: Date;
  readonly writer: HostIdentity;
  /** Who may publish after this entry. */
  readonly lease: LeaseState;
  /** The newest commit before this entry. */
  readonly earlierCommit: (EntryReference & { readonly version: VersionNumber }) | undefined;
  /** The commit that this entry is; undefined where only the lease changes. */
  readonly commit: CommitRecord | undefined;
}

/** A commit without what its place says already. */
export interface CommitRecord extends Omit<CommitDraft, 'vmName'> {
  readonly version: VersionNumber;
}

/** A branch without the name of its VM, which its place says. */
export interface BranchRecord {
  readonly name: string;
  readonly commit: Omit<CommitDraft, 'vmName'>;
}

const traceNumber = v.pipe(count, v.minValue(1), v.maxValue(logPositionMax));

const commitFields = {
  mountPath: v.pipe(text(4095), v.startsWith('/')),
  host: hostIdentity,
  createdAt: instant,
  manifest: blobReference,
  logicalBytes: count,
  storedBytes: count,
  parent: v.pipe(
    v.nullable(versionNumber),
    v.transform((parent) => parent ?? undefined),
  ),
  trace: v.optional(traceNumber),
  deltas: v.optional(blobReference),
};

const commitSchema: v.GenericSchema<unknown, CommitRecord> = v.strictObject({
  version: versionNumber,
  ...commitFields,
});

const leaseSchema: v.GenericSchema<unknown, LeaseState> = v.variant('state', [
  v.strictObject({ state: v.literal('free') }),
  v.strictObject({
    state: v.literal('held'),
    holder: hostIdentity,
    leaseNumber: logPosition,
    since: instant,
  }),
]);

const orUndefined = <T>(schema: v.GenericSchema<unknown, T>) =>
  v.pipe(
    v.nullable(schema),
    v.transform((value) => value ?? undefined),
  );

const entrySchema: v.GenericSchema<unknown, LogEntry> = v.strictObject({
  previousDigest: orUndefined(hex32),
  writtenAt: instant,
  writer: hostIdentity,
  lease: leaseSchema,
  earlierCommit: orUndefined(
    v.strictObject({ position: logPosition, digest: hex32, version: versionNumber }),
  ),
  commit: orUndefined(commitSchema),
});

const branchSchema: v.GenericSchema<unknown, BranchRecord> = v.strictObject({
  name: v.pipe(v.string(), v.regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$/)),
  commit: v.strictObject(commitFields),
});

export function encodeLogEntry(entry: LogEntry): Uint8Array {
  const { lease, earlierCommit, commit } = entry;
  return encodePayload({
    previousDigest: entry.previousDigest ?? null,
    writtenAt: entry.writtenAt.getTime(),
    writer: encodeHost(entry.writer),
    lease:
      lease.state === 'free'
        ? { state: 'free' }
        : {
            state: 'held',
            holder: encodeHost(lease.holder),
            leaseNumber: lease.leaseNumber,
            since: lease.since.getTime(),
          },
    earlierCommit:
      earlierCommit === undefined
        ? null
        : {
            position: earlierCommit.position,
            digest: earlierCommit.digest,
            version: earlierCommit.version,
          },
    commit: commit === undefined ? null : { version: commit.version, ...encodeCommit(commit) },
  });
}

/** The entry at `position`, whose record was read from `key`. `DamagedObject` also where its parts contradict each other. */
export function decodeLogEntry(payload: Uint8Array, key: ObjectKey, position: LogPosition): LogEntry {
  const entry = parsePayload(entrySchema, payload, key, 'the log entry');
  const { earlierCommit, commit, lease } = entry;
  const consistent =
    (entry.previousDigest === undefined) === (position === 1) &&
    (earlierCommit === undefined || earlierCommit.position < position) &&
    (commit === undefined || commit.version === (earlierCommit?.version ?? 0) + 1) &&
    (lease.state === 'free' || lease.leaseNumber <= position);
  if (!consistent) throw new DamagedObject(key, 'its parts contradict each other');
  return entry;
}

export function encodeBranch(branch: BranchRecord): Uint8Array {
  return encodePayload({ name: branch.name, commit: encodeCommit(branch.commit) });
}

export function decodeBranch(payload: Uint8Array, key: ObjectKey): BranchRecord {
  return parsePayload(branchSchema, payload, key, 'the branch');
}

function encodeCommit(commit: Omit<CommitDraft, 'vmName'>) {
  return {
    mountPath: commit.mountPath,
    host: encodeHost(commit.host),
    createdAt: commit.createdAt.getTime(),
    manifest: encodeReference(commit.manifest),
    logicalBytes: commit.logicalBytes,
    storedBytes: commit.storedBytes,
    parent: commit.parent ?? null,
    ...(commit.trace === undefined ? {} : { trace: commit.trace }),
    ...(commit.deltas === undefined ? {} : { deltas: encodeReference(commit.deltas) }),
  };
}

function encodeHost({ hostId, hostName }: HostIdentity): HostIdentity {
  return { hostId, hostName };
}
