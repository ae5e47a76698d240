import type { StallFacts, WaitPart } from '../../fetch/index.js';

/**
 * Why a request of a program had to wait, by what would have avoided it:
 *
 * - `failure`: a request to the store failed or stood still, and was made again
 * - `daemon`: the daemon got to it late
 * - `sample`: it was here, and left out of the page cache on purpose: see `Probes`
 * - `local`: it was on this host, and had to be read and opened
 * - `map`: the file's map had to be fetched first
 * - `turn`: other requests came first, or a cap
 * - `link`: it was to be replayed, and the replay was held up by nothing but the link
 * - `arriving`: a replay or another fetch ahead of use was bringing it already
 * - `behind`: it was to be replayed, and the replay had not come that far
 * - `gone`: it was replayed, and is not on this host any more
 * - `untraced`: no resume that is remembered has wanted it
 * - `noTrace`: no resume was recorded yet
 * - `noPrefetch`: a replay was not wanted
 * - `noResume`: nobody has resumed a guest, so that nothing was known to be wanted
 */
export const stallCauses = [
  'failure',
  'daemon',
  'sample',
  'local',
  'map',
  'turn',
  'link',
  'arriving',
  'behind',
  'gone',
  'untraced',
  'noTrace',
  'noPrefetch',
  'noResume',
] as const;

export type StallCause = (typeof stallCauses)[number];

/** What was meant to be done about a chunk before a guest wants it. */
export type ReplayPlan = 'noResume' | 'noPrefetch' | 'noTrace' | 'untraced' | 'sample' | 'toCome' | 'came';

/** What a cause follows from, beside the wait itself. */
export interface StallSetting {
  readonly plan: ReplayPlan;
  /** Of what the link could carry since the resume began, what it did carry; 0 while that is not known. */
  readonly linkUse: number;
}

/** From here on a link that was in use so much has not idled. */
const busyLink = 0.7;

const storeParts: readonly WaitPart[] = ['queue', 'retry', 'roundTrip', 'transfer'];

/** The one thing that would have helped most. */
export function causeOf(facts: StallFacts, { plan, linkUse }: StallSetting): StallCause {
  const { partsMs, durationMs, mapMs, joined } = facts;
  const isMost = (ms: number): boolean => 2 * ms > durationMs;
  if (isMost(partsMs.retry)) return 'failure';
  if (isMost(partsMs.daemon)) return 'daemon';
  const isFromStore = storeParts.some((part) => partsMs[part] > 0) || partsMs.tier > 0;
  if (!isFromStore) return plan === 'sample' ? 'sample' : 'local';
  if (isMost(mapMs)) return 'map';
  if (isMost(partsMs.queue)) return 'turn';
  const isHeldUpByLink = linkUse >= busyLink;
  if (joined !== undefined && joined !== 'demand') return isHeldUpByLink ? 'link' : 'arriving';
  switch (plan) {
    case 'toCome':
    case 'sample':
      return isHeldUpByLink ? 'link' : 'behind';
    case 'came':
      return 'gone';
    case 'untraced':
    case 'noTrace':
    case 'noPrefetch':
    case 'noResume':
      return plan;
  }
}
