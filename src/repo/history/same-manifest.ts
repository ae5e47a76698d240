import type { CommitDraft } from '../types.js';

/** Whether two records are of one and the same publish: the place of a manifest is never used twice. */
export function sameManifest(
  one: Pick<CommitDraft, 'manifest'>,
  other: Pick<CommitDraft, 'manifest'>,
): boolean {
  return one.manifest.packId === other.manifest.packId && one.manifest.counter === other.manifest.counter;
}
