import { limits } from '../base/index.js';
import type { Trace, TraceEntry } from '../repo/index.js';

/** In how many of the last `limits.traceResumes` resumes a chunk was touched. */
export function timesSeen({ seenIn }: Pick<TraceEntry, 'seenIn'>): number {
  let times = 0;
  for (let bits = seenIn; bits > 0; bits &= bits - 1) times += 1;
  return times;
}

/** How many resumes ago a chunk was touched last: 0 in the newest one. */
export function ageInResumes({ seenIn }: Pick<TraceEntry, 'seenIn'>): number {
  return Math.log2(seenIn & -seenIn);
}

/**
 * What the next resume is likely to touch, in the order of first touch: what the newest one touched, and what at least
 * half of the remembered ones did. The rest of a trace is chance: each resume has some, and another.
 */
export function likelyTouches(trace: Trace): readonly TraceEntry[] {
  const remembered = Math.min(trace.resumes, limits.traceResumes);
  return trace.entries.filter((entry) => ageInResumes(entry) === 0 || 2 * timesSeen(entry) >= remembered);
}
