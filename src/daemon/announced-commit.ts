import * as v from 'valibot';
import type { AnnouncedCommits } from '../fs/index.js';
import type { Branch, Commit, CommitDraft, HostIdentity, VersionNumber, VmHistory } from '../repo/index.js';

const schema = v.object({ hostId: v.string(), packId: v.string(), counter: v.number() });

type Announcement = v.InferOutput<typeof schema>;

/**
 * What an overlay remembers of a commit that is about to be made from it. The place of a manifest is never used twice,
 * so that it tells this publish from every other, of this host or another.
 */
export function announcementOf({ host, manifest }: CommitDraft): string {
  const { packId, counter } = manifest;
  return JSON.stringify({ hostId: host.hostId, packId, counter } satisfies Announcement);
}

/** Whether the overlay's content is what a commit says: announced last, and nothing was changed since. */
export function isMadeFrom(announced: AnnouncedCommits, commit: CommitDraft): boolean {
  return !announced.changedSince && announced.commits.at(-1) === announcementOf(commit);
}

/** A version that was made from an overlay without the overlay learning of it. */
export interface OwnCommit {
  readonly commit: Commit;
  /** Whether the overlay's content is the version's: nothing was changed since. */
  readonly isCurrent: boolean;
}

/** The newest version that was made from the overlay since its base; undefined when none of the announced exists. */
export async function findOwnCommit(
  history: VmHistory,
  host: HostIdentity,
  announced: AnnouncedCommits,
  base: VersionNumber,
): Promise<OwnCommit | undefined> {
  if (announced.commits.length === 0) return undefined;
  const announcements = announced.commits.map(decode);
  for await (const commit of history.commits()) {
    if (commit.version <= base) return undefined;
    if (!announcements.some((announcement) => isOf(announcement, commit, host))) continue;
    return { commit, isCurrent: isMadeFrom(announced, commit) };
  }
  return undefined;
}

/** The branch that holds the overlay's content as it is now, saved by an attempt that did not hear of it. */
export async function findOwnBranch(
  history: VmHistory,
  host: HostIdentity,
  announced: AnnouncedCommits,
): Promise<Branch | undefined> {
  const last = announced.commits.at(-1);
  if (last === undefined || announced.changedSince) return undefined;
  const announcement = decode(last);
  return (await history.branches()).find(({ commit }) => isOf(announcement, commit, host));
}

function decode(text: string): Announcement {
  return v.parse(schema, JSON.parse(text));
}

function isOf(announcement: Announcement, commit: CommitDraft, host: HostIdentity): boolean {
  return (
    announcement.hostId === host.hostId &&
    commit.host.hostId === host.hostId &&
    commit.manifest.packId === announcement.packId &&
    commit.manifest.counter === announcement.counter
  );
}
