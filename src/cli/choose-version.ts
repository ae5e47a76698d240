import { VersionMissing, type CommitDraft, type VersionNumber } from '../repo/index.js';
import type { CommandContext } from './context.js';

/** A version or a branch that a command works on. */
export interface ChosenVersion {
  /** For people: `version 7`, `branch NAME`. */
  readonly title: string;
  /** Null for a branch. */
  readonly version: number | null;
  readonly branch: string | null;
  readonly commit: CommitDraft;
}

/** What `--version` names: a number, the name of a branch, or (undefined) the newest version. `VmMissing`, `VersionMissing`. */
export async function chooseVersion(
  context: CommandContext,
  vmName: string,
  wanted: string | undefined,
): Promise<ChosenVersion> {
  const { history, latest } = await context.logOfExisting(vmName);
  if (wanted === undefined || /^[1-9]\d{0,14}$/.test(wanted)) {
    const commit = wanted === undefined ? latest : await history.commit(Number(wanted) as VersionNumber);
    return { title: `version ${commit.version}`, version: commit.version, branch: null, commit };
  }
  const branch = (await history.branches()).find(({ name }) => name === wanted);
  if (branch === undefined) throw new VersionMissing(vmName, wanted);
  return { title: `branch ${wanted}`, version: null, branch: wanted, commit: branch.commit };
}
