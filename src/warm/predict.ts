import { limits } from '../base/index.js';

/** What a link is like. */
export interface Link {
  readonly roundTripMs: number;
  readonly bytesPerSecond: number;
}

/** What has to come over the link. */
export interface Load {
  readonly bytes: number;
  /** Requests that bring it. */
  readonly requests: number;
}

/** Round trips that a resume makes one after the other before anything can be fetched: log, manifest, chunk map. */
const roundTripsBefore = 3;

/** How long it takes to have all of it here: as the link's bandwidth allows, or its round trips where requests are short. */
export function transferSeconds({ bytes, requests }: Load, link: Link): number {
  if (requests === 0) return 0;
  const roundTripSeconds = link.roundTripMs / 1000;
  const rounds = Math.ceil(requests / limits.warmRangesInFlight);
  return Math.max(bytes / link.bytesPerSecond + roundTripSeconds, rounds * roundTripSeconds);
}

/** How long a resume takes that needs this, with a replay that is ahead of the guest. */
export function resumeSeconds(load: Load, link: Link): number {
  const beforeMs = limits.resumeStartMs + roundTripsBefore * link.roundTripMs;
  return beforeMs / 1000 + transferSeconds(load, link);
}

/** A rest of the guest is so long at least, and so many times as long as it usually takes from one touch to the next. */
const pauseMsMin = 150;
const pauseFactor = 5;

/** Before the guest runs, the hypervisor starts and reads the device state: pauses among so few touches are its. */
const touchesBefore = 32;

/**
 * How many touches of a trace come before the guest first rests, as it does when it has done what a timer or a user wanted of it
 * at first: all of them where it never does.
 */
export function firstPause(touches: readonly { readonly atMs: number }[]): number {
  // Times of several resumes are mixed, and chunks that swapped places have theirs swapped: time only goes on.
  let now = 0;
  const gaps = touches.map(({ atMs }) => {
    const gap = Math.max(0, atMs - now);
    now = Math.max(now, atMs);
    return gap;
  });
  const usualMs = gaps.toSorted((one, other) => one - other)[Math.floor(gaps.length / 2)] ?? 0;
  const pauseMs = Math.max(pauseMsMin, pauseFactor * usualMs);
  const found = gaps.findIndex((gap, position) => position >= touchesBefore && gap >= pauseMs);
  return found < 0 ? touches.length : found;
}
