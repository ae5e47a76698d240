import { readOverlaySummary, type OverlaySummary } from '../fs/index.js';
import type { VmPaths } from '../host/index.js';
import {
  VersionMissing,
  VmMissing,
  type Branch,
  type Commit,
  type HostIdentity,
  type VersionNumber,
  type VmHead,
  type VmHistory,
} from '../repo/index.js';
import { findOwnCommit } from './announced-commit.js';
import { OldVersionNeedsEphemeral, OverlayBehind } from './errors.js';
import { dropOverlay } from './inode-numbers.js';

/** What a session works on: a version, or a branch that lost its lease. */
export type Origin =
  | { readonly kind: 'version'; readonly commit: Commit }
  | { readonly kind: 'branch'; readonly branch: Branch };

/** Where a session begins. */
export interface Ground {
  /** What the next version is made from. */
  readonly origin: Origin;
  /**
   * What the overlay lies over. Another version than the origin where that was made from the overlay itself, and the
   * overlay has not become empty since: its content is as right over the one as over the other.
   */
  readonly base: Origin;
  /** Whether the overlay is there already. */
  readonly hasOverlay: boolean;
}

export interface GroundRequest {
  readonly vmName: string;
  /** A version number or a branch name; undefined: the newest version. */
  readonly version: string | undefined;
  readonly ephemeral: boolean;
  readonly purpose: 'use' | 'publish';
  readonly host: HostIdentity;
  readonly paths: VmPaths;
  readonly overlayDirectory: string;
}

/**
 * Which version or branch a session works on; refuses what would mix versions or could never be published. An overlay
 * that has nothing unpublished is dropped where it is of no use any more.
 */
export async function findGround(request: GroundRequest, history: VmHistory, head: VmHead): Promise<Ground> {
  const { latest } = head;
  if (latest === undefined) throw new VmMissing(request.vmName);
  const wanted = await findOrigin(request, history, latest);
  const isNewest = wanted.kind === 'version' && wanted.commit.version === latest.version;
  if (!isNewest && !request.ephemeral) {
    throw new OldVersionNeedsEphemeral(request.vmName, request.version ?? '');
  }
  const overlay = await readOverlaySummary(request.overlayDirectory);
  if (overlay === undefined) return { origin: wanted, base: wanted, hasOverlay: false };
  if (overlay.identity === originIdentity(wanted)) return { origin: wanted, base: wanted, hasOverlay: true };
  return groundOfOlder(request, history, latest, overlay);
}

/** The overlay was made from an older version than the newest. */
async function groundOfOlder(
  request: GroundRequest,
  history: VmHistory,
  latest: Commit,
  overlay: OverlaySummary,
): Promise<Ground> {
  const newest: Origin = { kind: 'version', commit: latest };
  const afresh = async (): Promise<Ground> => {
    await dropOverlay(request.paths, request.overlayDirectory);
    return { origin: newest, base: newest, hasOverlay: false };
  };
  if (overlay.changedFiles === 0) return afresh();
  const baseVersion = Number(overlay.identity) as VersionNumber;
  const own = await findOwnCommit(history, request.host, overlay.announced, baseVersion);
  const isNewest = own?.commit.version === latest.version;
  if (own?.isCurrent === true && !isNewest) return afresh();
  if (!isNewest && request.purpose === 'use')
    throw new OverlayBehind(request.vmName, own?.commit.version ?? baseVersion, latest.version);
  const base: Origin = { kind: 'version', commit: await history.commit(baseVersion) };
  return {
    origin: own === undefined ? base : { kind: 'version', commit: own.commit },
    base,
    hasOverlay: true,
  };
}

/** What an earlier process of a mount recorded. */
interface Recorded {
  read(identity: string): Promise<Pick<Ground, 'origin' | 'base'> | undefined>;
}

/**
 * Where a mount that goes on stands: programs have it open, whatever became of the VM's log meanwhile. Asks the store only
 * where that was not recorded.
 */
export async function groundThatGoesOn(
  request: GroundRequest,
  history: VmHistory,
  record: Recorded,
): Promise<Ground> {
  const overlay = await readOverlaySummary(request.overlayDirectory);
  if (overlay === undefined) throw new Error(`${request.overlayDirectory} of a mount that goes on is gone`);
  const recorded = await record.read(overlay.identity);
  if (recorded !== undefined) return { ...recorded, hasOverlay: true };
  const branchName = branchOf(overlay.identity);
  if (branchName !== undefined) {
    const branch = await findBranch(request, history, branchName);
    return { origin: branch, base: branch, hasOverlay: true };
  }
  const version = Number(overlay.identity) as VersionNumber;
  const base: Origin = { kind: 'version', commit: await history.commit(version) };
  const own = await findOwnCommit(history, request.host, overlay.announced, version);
  return {
    origin: own === undefined ? base : { kind: 'version', commit: own.commit },
    base,
    hasOverlay: true,
  };
}

async function findOrigin(request: GroundRequest, history: VmHistory, latest: Commit): Promise<Origin> {
  const wanted = request.version;
  if (wanted === undefined) return { kind: 'version', commit: latest };
  if (/^[1-9]\d*$/.test(wanted)) {
    return { kind: 'version', commit: await history.commit(Number(wanted) as VersionNumber) };
  }
  return findBranch(request, history, wanted);
}

async function findBranch(request: GroundRequest, history: VmHistory, wanted: string): Promise<Origin> {
  const branch = (await history.branches()).find(({ name }) => name === wanted);
  if (branch === undefined) throw new VersionMissing(request.vmName, wanted);
  return { kind: 'branch', branch };
}

export function originCommit(origin: Origin): Branch['commit'] {
  return origin.kind === 'version' ? origin.commit : origin.branch.commit;
}

/** What the overlay remembers as its base. */
export function originIdentity(origin: Origin): string {
  return origin.kind === 'version' ? versionIdentity(origin.commit) : branchPrefix + origin.branch.name;
}

const branchPrefix = 'branch ';

/** The branch that an overlay remembers as its base; undefined for a version. */
function branchOf(identity: string): string | undefined {
  return identity.startsWith(branchPrefix) ? identity.slice(branchPrefix.length) : undefined;
}

export function versionIdentity(commit: Commit): string {
  return String(commit.version);
}
