import * as v from 'valibot';
import type { BlobReference, Commit, HostIdentity } from '../repo/index.js';

/* Commits as records of this host hold them, in JSON. They were checked when they were read from the store. */

export const instantSchema = v.pipe(
  v.string(),
  v.isoTimestamp(),
  v.transform((text) => new Date(text)),
);

export const hostSchema = v.object({
  hostId: v.string(),
  hostName: v.string(),
}) satisfies v.GenericSchema<HostIdentity>;

const blobReference = v.custom<BlobReference>((value) => typeof value === 'object' && value !== null);

const draft = {
  vmName: v.string(),
  mountPath: v.string(),
  host: hostSchema,
  createdAt: instantSchema,
  manifest: blobReference,
  logicalBytes: v.number(),
  storedBytes: v.number(),
  parent: v.optional(v.number()),
  trace: v.optional(v.number()),
  deltas: v.optional(blobReference),
};

export const draftSchema = v.object(draft);
export const commitSchema = v.object({ ...draft, version: v.number(), position: v.number() });

/** The numbers have been such before they were written. */
export function brandedCommit(commit: v.InferOutput<typeof commitSchema>): Commit {
  return { ...commit, parent: commit.parent } as Commit;
}
