import { median } from '../support/statistics.js';
import { boundSeconds, type TouchedUntil } from './bound.js';
import { linkName, type LinkKind } from './link.js';
import type { RunRecord } from './runs.js';

/** How a resume with a trace compares, to the guest's first line and to the end of its work; medians of all runs. */
export interface Ratios {
  readonly first: number;
  readonly work: number;
}

/** Of one guest over one link. */
export interface Summary {
  readonly guest: string;
  readonly link: string;
  /** Runs with a trace that it is made of. */
  readonly runs: number;
  readonly localSeconds: Ratios;
  readonly boundSeconds: Ratios;
  readonly seconds: Ratios;
  /** Our time over the bound. */
  readonly toBound: Ratios;
  /** The time of one chunk a demand and nothing else over ours: how much faster we are. And our bytes over its. */
  readonly overNoPrefetch: Ratios & { readonly bytes: number };
  /** The time of a copy compressed with gzip over ours. */
  readonly overGzipCopy: Ratios;
}

/** Undefined while there are no runs of all that it compares. */
export function summarize(
  runs: readonly RunRecord[],
  guest: string,
  kind: LinkKind,
  touched: TouchedUntil | undefined,
): Summary | undefined {
  const link = linkName(kind);
  const of = (subject: string, anyLink = false): readonly RunRecord[] =>
    runs.filter((run) => run.guest === guest && run.subject === subject && (anyLink || run.link === link));
  const local = of('local', true);
  const ours = of('isr-trace');
  const exact = of('isr-exact');
  const gzip = of('copy-gzip');
  if (touched === undefined || [local, ours, exact, gzip].some(({ length }) => length === 0))
    return undefined;

  const localSeconds = secondsOf(local);
  const seconds = secondsOf(ours);
  const bound = {
    first: boundSeconds(localSeconds.first, touched.first, kind),
    work: boundSeconds(localSeconds.work, touched.work, kind),
  };
  const workBytes = (each: readonly RunRecord[]): number => median(each.map(({ bytes }) => bytes.work));
  return {
    ...{ guest, link, runs: ours.length, localSeconds, boundSeconds: bound, seconds },
    toBound: over(seconds, bound),
    overNoPrefetch: { ...over(secondsOf(exact), seconds), bytes: workBytes(ours) / workBytes(exact) },
    overGzipCopy: over(secondsOf(gzip), seconds),
  };
}

function secondsOf(runs: readonly RunRecord[]): Ratios {
  return {
    first: median(runs.map(({ seconds }) => seconds.first)),
    work: median(runs.map(({ seconds }) => seconds.work)),
  };
}

function over(one: Ratios, other: Ratios): Ratios {
  return { first: one.first / other.first, work: one.work / other.work };
}
