import type { PublishResult, WithoutStore } from '../daemon/index.js';
import type { Branch, Commit, HostIdentity, LeaseState } from '../repo/index.js';
import { exitCodes, type ExitCode } from './exit-codes.js';
import { formatBytes, formatCount, formatDate, formatSeconds } from './format.js';

/** Who may publish, in a few words. Hosts can have equal names, so "this host" goes by identity. */
export function describeLease(lease: LeaseState, here: HostIdentity): string {
  if (lease.state === 'free') return 'free';
  const holder = lease.holder.hostId === here.hostId ? 'this host' : describeHost(lease.holder);
  // A date that came through JSON is text.
  return `${holder}, since ${formatDate(new Date(lease.since))}`;
}

/** Name and enough of the identity to tell two hosts of one name apart. */
export function describeHost(host: HostIdentity): string {
  return `${host.hostName} (${host.hostId.slice(0, 8)})`;
}

/** What lies unpublished on this host, and what can be done with it. */
export function describeChanges(
  vmName: string,
  changes: { readonly dirtyBytes: number; readonly changedFiles: number },
): string {
  const what = `${formatBytes(changes.dirtyBytes)} in ${formatCount(changes.changedFiles, 'file')}`;
  return `Unpublished changes (${what}) stay on this host: publish them with \`isr publish ${vmName}\`, or drop them with \`isr discard ${vmName}\`.`;
}

/** What became of a publish. */
export function describePublish(vmName: string, result: PublishResult): string {
  switch (result.outcome) {
    case 'unchanged':
      return `${vmName} has no changes; no version was made.`;
    case 'published':
      return `Published version ${result.version ?? '?'} of ${vmName}: ${formatBytes(result.dirtyBytes)} changed, ${formatBytes(result.storedBytes)} stored, in ${formatSeconds(result.seconds)}.`;
    case 'branched':
      return `The lease of ${vmName} was lost, so the work is kept as branch ${result.branch ?? '?'} and not as a version. See it with \`isr versions ${vmName}\`, take it out with \`isr export ${vmName} DIR --version ${result.branch ?? '?'}\`.`;
  }
}

/** Work that became a branch is safe, but it is not what was asked for. */
export function exitCodeOfPublish(result: PublishResult): ExitCode {
  return result.outcome === 'branched' ? exitCodes.conflict : exitCodes.ok;
}

/** A version as JSON. */
export function commitAsJson(commit: Commit): object {
  return { version: commit.version, ...recordAsJson(commit) };
}

/** A branch as JSON. */
export function branchAsJson({ name, commit }: Branch): object {
  return { name, ...recordAsJson(commit) };
}

function recordAsJson(record: Branch['commit']): object {
  return {
    parent: record.parent ?? null,
    createdAt: record.createdAt,
    host: record.host,
    mountPath: record.mountPath,
    logicalBytes: record.logicalBytes,
    storedBytes: record.storedBytes,
  };
}

/** What to know of a mount that began without its store. */
export function describeWithoutStore(vmName: string, { seenAt, reason, lease }: WithoutStore): string {
  const seen = `as this host saw it at ${formatDate(new Date(seenAt))}`;
  const leases: Readonly<Record<WithoutStore['lease'], string>> = {
    waiting:
      'without its lease, until the store is back. If another host publishes first, what changes here becomes a branch',
    held: 'and holds its lease since the store came back',
    lost: 'and another host was faster: what changes here becomes a branch',
    none: 'and needs no lease',
  };
  return `${vmName} began without the store, ${seen}, ${leases[lease]}. The store: ${reason}`;
}
